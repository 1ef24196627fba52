"""What Ultralytics calls the settings of a training, and where each is here: for the answers to those who type them."""

from __future__ import annotations

from collections.abc import Mapping

from marauder.core.settings import HERE

OURS: Mapping[str, str] = {
    "batch": "training.batch_size",
    "epochs": "training.epochs",
    "patience": "training.patience",
    "device": "training.device",
    "seed": "training.seed",
    "workers": "training.workers",
    "amp": "training.precision",
    "close_mosaic": "training.close_mosaic_epochs",
    "optimizer": "training.optimizer.name",
    "lr0": "training.optimizer.learning_rate",
    "lrf": "training.optimizer.final_fraction",
    "cos_lr": "training.optimizer.schedule",
    "momentum": "training.optimizer.momentum",
    "weight_decay": "training.optimizer.weight_decay",
    "warmup_epochs": "training.optimizer.warmup_epochs",
    "warmup_momentum": "training.optimizer.warmup_momentum",
    "warmup_bias_lr": "training.optimizer.warmup_bias_rate",
    "imgsz": "image_size",
    "pretrained": "weights",
    "name": "id",
    "save_dir": "output",
    "cache": "cache_gigabytes",
    "box": "loss.box",
    "cls": "loss.cls",
    "dfl": "loss.dfl",
    "mosaic": "augmentation.mosaic",
    "degrees": "augmentation.degrees",
    "translate": "augmentation.translate",
    "scale": "augmentation.scale",
    "shear": "augmentation.shear",
    "fliplr": "augmentation.flip_horizontal",
    "flipud": "augmentation.flip_vertical",
    "hsv_h": "augmentation.hue",
    "hsv_s": "augmentation.saturation",
    "hsv_v": "augmentation.value",
    "copy_paste": "copy_paste.probability",
    "fraction": "data (make a smaller data set)",
    "resume": "the option --resume",
    "time": "the option --max-hours",
    "exist_ok": "the option --fresh",
}
"""Ultralytics' name to the dotted name of a run's setting, or to what takes its place."""


def answers(prefix: str = "") -> dict[str, str]:
    """What to say of each of Ultralytics' words; ``prefix`` goes before our names."""
    ours = {word: HERE + prefix + name if " " not in name else name for word, name in OURS.items()}
    return {word: f"it is {name}" if " " in name else f"it is called {name}" for word, name in ours.items()}
