"""The optimiser with its three parameter groups: biases, normalisation weights, and the weights that decay."""

from __future__ import annotations

import torch
from torch import nn

from marauder.engine.schedule import StepValues
from marauder.engine.settings import OptimizerSettings

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; only convolution and linear weights decay."""
    decayed, norms, biases = [], [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if "bias" in name:
                biases.append(parameter)
            elif isinstance(module, _NORMS):
                norms.append(parameter)
            else:
                decayed.append(parameter)
    groups = [
        {"params": biases, "weight_decay": 0.0, "biases": True},
        {"params": norms, "weight_decay": 0.0, "biases": False},
        {"params": decayed, "weight_decay": settings.weight_decay, "biases": False},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.momentum, 0.999))
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=True)


def apply_schedule(optimizer: torch.optim.Optimizer, values: StepValues) -> None:
    """Set the step's learning rates and momentum."""
    for group in optimizer.param_groups:
        group["lr"] = values.bias_learning_rate if group["biases"] else values.learning_rate
        # SGD keeps its momentum under its name, AdamW as the first of its betas.
        if "momentum" in group:
            group["momentum"] = values.momentum
        else:
            group["betas"] = (values.momentum, group["betas"][1])
