"""Do features tell classes apart better? The starting backbone and the pretrained one, frozen, are probed on the same
labelled pictures.

Running statistics of both are estimated anew from the same held-out pictures first (as "precise" batch normalisation:
Wu & Johnson, "Rethinking Batch in BatchNorm", 2021). Without that the comparison would be one of statistics: a random
backbone has none yet, one of other pictures has theirs, and what is probed is what the weights see.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marauder.core.clock import Clock, Interrupted
from marauder.core.plain import Plain
from marauder.data.pictures import PictureStore, UnreadablePictureError
from marauder.data.records import Record
from marauder.evaluation.probe import ProbeResult, compare_probes
from marauder.imaging.letterbox import fit
from marauder.models.pretraining.network import Backbone, build_backbone
from marauder.models.pretraining.probing import Crops, choose_crops, crop_features
from marauder.runs.start_weights import start_of
from marauder.tasks.pretraining.data import PicturePool, probe_records
from marauder.tasks.pretraining.settings import PretrainingSettings

log = logging.getLogger("marauder")
BACKGROUND = "background"
BATCH = 16
SETTLING = 256
NOTHING = "nothing labelled to probe on: name a small labelled data set as probe.data"


def probe_backbones(
    settings: PretrainingSettings, pool: PicturePool, after: Path, device: torch.device, clock: Clock
) -> Plain:
    """The content of ``probe.json``: verdict (yes, no, unclear), before, after, gain, low, high, and why.

    ``after``: the file of the pretrained backbone; ``before`` is what training started from. Raises ``Interrupted``.
    """
    dataset = probe_records(settings, pool)
    records = dataset.records
    about: Plain = {
        "data": str(settings.probe.data or settings.data),
        "pictures": len(records),
        "image_size": settings.probe_side,
        "also_pretrained_on": _also_seen(records, pool),
        "started_from": start_of(settings).describe(),
    }
    if not any(len(record.boxes) for record in records):
        return {
            "verdict": "unclear",
            **dict.fromkeys(("before", "after", "gain", "low", "high")),
            "why": NOTHING,
            **about,
        }
    # Chosen once: both backbones must see the very same crops.
    crops = choose_crops(records, len(dataset.names), settings.training.seed)
    store = PictureStore(records, settings.probe_side, None, 0)
    seed = settings.training.seed
    features = []
    for name, start in (("before", settings.weights), ("after", after)):
        log.info("probing the backbone %s pretraining", name)
        # One backbone at a time: only one need fit into memory.
        backbone = settle(build_backbone(settings.model, seed, start).to(device), pool.held_out, settings.probe_side)
        features.append(_look(backbone, records, crops, store, device, clock))
    names = (*dataset.names, BACKGROUND)
    result = compare_probes(features[0], features[1], crops.classes, crops.groups, names, seed)
    return {**_plain(result), **about}


@torch.no_grad()
def settle(backbone: Backbone, records: Sequence[Record], side: int) -> Backbone:
    """Set the running statistics of ``backbone`` to those of ``records`` (the first ``SETTLING``), at ``side`` pixels.

    Deterministic; pictures that cannot be read are left out. Returns the same backbone, in evaluation mode.
    """
    store = PictureStore(records[:SETTLING], side, None, 0)
    device = next(backbone.parameters()).device
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    # Put back below: the caller gets the backbone as it was, but for its statistics.
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        # Else the mean would continue from what was there.
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    backbone.train()
    inputs: list[np.ndarray] = []
    for index, record in enumerate(store.records):
        try:
            # Square, so that pictures of all shapes go through in batches.
            inputs.append(fit(record.width, record.height, side, square=True).apply(store.get(index)))
        except UnreadablePictureError:
            continue
    for start in range(0, len(inputs), BATCH):
        batch = torch.from_numpy(np.stack(inputs[start : start + BATCH])).to(device)
        backbone(batch.permute(0, 3, 1, 2).float().div_(255))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    backbone.eval()
    return backbone


def _look(
    backbone: Backbone,
    records: Sequence[Record],
    crops: Crops,
    store: PictureStore,
    device: torch.device,
    clock: Clock,
) -> Any:
    found = crop_features(backbone, records, crops, store, device, lambda: clock.stop_reason() is not None)
    if found is None:
        raise Interrupted(clock.stop_reason() or "stopped while probing")
    return found


def _plain(result: ProbeResult) -> Plain:
    """The result without numbers that are none."""
    content = asdict(result)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in content.items()
    }


def _also_seen(records: Sequence[Record], pool: PicturePool) -> int:
    """Of the probed pictures, how many pretraining saw (without their labels)."""
    seen = {record.picture.resolve() for record in pool.training}
    return sum(record.picture.resolve() in seen for record in records)
