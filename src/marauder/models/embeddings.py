"""Embeddings of pictures: what the backbone of a detector sees in them, one vector of unit length a picture.

Vectors of different weights say nothing about one another; whoever keeps them keeps the SHA-256 of the weights too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marauder.core.clock import Clock, Interrupted
from marauder.core.files import hash_file
from marauder.core.progress import Progress
from marauder.data.pictures import PictureStore, UnreadablePictureError
from marauder.data.profile import DEFAULT_SAMPLE, Profile, profile_dataset
from marauder.data.records import Dataset, Record
from marauder.imaging.letterbox import fit
from marauder.models.files import load_detector
from marauder.models.naming import model_file
from marauder.models.ultralytics_adapter import DetectionModel, input_stride

BATCH = 16


def make_profile(
    dataset: Dataset,
    weights: Path | None = None,
    device: torch.device | None = None,
    sample: int = DEFAULT_SAMPLE,
    seed: int = 0,
    clock: Clock | None = None,
) -> Profile:
    """The profile of ``dataset``, with embeddings by the detector in ``weights`` where given.

    Raises ``Interrupted`` when the clock says so, ``UserError`` for weights that cannot be opened.
    """
    profile = profile_dataset(dataset, sample, seed, clock)
    return profile if weights is None else embed_profile(profile, dataset, weights, device, clock)


def embed_profile(
    profile: Profile, dataset: Dataset, weights: Path, device: torch.device | None = None, clock: Clock | None = None
) -> Profile:
    """``profile``, made of ``dataset``, with embeddings by the detector in ``weights`` instead of those it had."""
    loaded = load_detector(weights)
    model = loaded.model.to(device if device is not None else torch.device("cpu"))
    by_key = {record.key: record for record in dataset}
    records = [by_key[key] for key in profile.keys]
    store = PictureStore(records, loaded.image_size, None, 0)

    def stops() -> bool:
        return clock is not None and clock.stop_reason() is not None

    vectors = embed(model, records, store, range(len(records)), should_stop=stops)
    if vectors is None:
        raise Interrupted((clock.stop_reason() if clock is not None else None) or "stopped while embedding pictures")
    return profile.with_embeddings(vectors, weights_hash(weights))


def weights_hash(weights: Path) -> str:
    """SHA-256 of the file that ``load_detector`` reads."""
    return hash_file(model_file(weights))


def embed(
    model: DetectionModel,
    records: Sequence[Record],
    store: PictureStore,
    indices: Sequence[int],
    device: torch.device | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> np.ndarray | None:
    """Embeddings of ``records[i]``, i in ``indices``, in that order: float32 (N, D) of unit length.

    The mean over the map that the backbone ends with, divided by its length; pictures are letterboxed as for
    detection. A picture that cannot be read gets a row of NaN. ``None`` when ``should_stop``, asked before each batch,
    said so. ``device``: where to compute, else where the model is.
    """
    where = device if device is not None else next(model.parameters()).device
    training = model.training
    model.to(where).eval()
    found: dict[int, np.ndarray] = {}
    try:
        with Progress("embedding pictures", len(indices)) as progress:
            for start in range(0, len(indices), BATCH):
                if should_stop():
                    return None
                chunk = [indices[place] for place in range(start, min(start + BATCH, len(indices)))]
                found.update(_embed_chunk(model, records, store, chunk, where))
                progress.advance(len(chunk))
    finally:
        model.train(training)
    width = next((len(vector) for vector in found.values()), 0)
    missing = np.full(width, np.nan, np.float32)
    return np.array([found.get(index, missing) for index in indices], np.float32).reshape(len(indices), width)


@torch.inference_mode()
def _embed_chunk(
    model: DetectionModel, records: Sequence[Record], store: PictureStore, chunk: list[int], device: torch.device
) -> dict[int, np.ndarray]:
    stride = input_stride(model)
    inputs, readable = [], []
    for index in chunk:
        record = records[index]
        try:
            picture = store.get(index)
        except UnreadablePictureError:
            continue
        inputs.append(fit(record.width, record.height, store.long_side, stride).apply(picture))
        readable.append(index)
    found: dict[int, np.ndarray] = {}
    for shape in sorted({picture.shape for picture in inputs}):
        places = [place for place, picture in enumerate(inputs) if picture.shape == shape]
        images = torch.from_numpy(np.stack([inputs[place] for place in places])).to(device)
        pooled = _backbone(model, images.permute(0, 3, 1, 2).float().div_(255)).mean(dim=(2, 3))
        vectors = torch.nn.functional.normalize(pooled.float(), dim=1).cpu().numpy()
        found |= {readable[place]: vector for place, vector in zip(places, vectors, strict=True)}
    return found


def _backbone(model: DetectionModel, images: torch.Tensor) -> torch.Tensor:
    """The map (B, D, h, w) that the backbone ends with; its layers stand in a row, each fed by the one before."""
    maps: Any = images
    description: Any = model.yaml
    layers: Any = model.model
    for layer in layers[: len(description["backbone"])]:
        if layer.f != -1:
            raise ValueError(f"backbone layer {layer.i} takes more than what the layer before it gives")
        maps = layer(maps)
    assert isinstance(maps, torch.Tensor)
    return maps
