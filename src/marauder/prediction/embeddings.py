"""Embeddings of pictures: what the backbone of a detector sees in them, one vector of unit length a picture.

Vectors of different weights say nothing about one another; whoever keeps them keeps the SHA-256 of the weights too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from marauder.core.clock import Clock, Interrupted
from marauder.core.progress import Progress
from marauder.data.pictures import UnreadablePictureError
from marauder.data.profile import DEFAULT_SAMPLE, Profile, profile_dataset
from marauder.data.records import Dataset, Record
from marauder.imaging.letterbox import Letterbox
from marauder.models.raw_outputs import backbone_map
from marauder.prediction.opening import open_predictor
from marauder.prediction.predictor import Predictor
from marauder.prediction.records import DecodedPictures, Pictures, over_records
from marauder.prediction.settings import PREDICTING


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
    predictor = open_predictor(weights, device if device is not None else "cpu")
    by_key = {record.key: record for record in dataset}
    records = [by_key[key] for key in profile.keys]

    def stops() -> bool:
        return clock is not None and clock.stop_reason() is not None

    vectors = embed(predictor, records, DecodedPictures(records), range(len(records)), stops)
    if vectors is None:
        raise Interrupted((clock.stop_reason() if clock is not None else None) or "stopped while embedding pictures")
    return profile.with_embeddings(vectors, predictor.digest)


def embed(
    predictor: Predictor,
    records: Sequence[Record],
    pictures: Pictures,
    indices: Sequence[int],
    should_stop: Callable[[], bool] = lambda: False,
) -> np.ndarray | None:
    """Embeddings of ``records[i]``, i in ``indices``, in that order: float32 (N, D) of unit length.

    The mean over the map that the backbone ends with, divided by its length; pictures are letterboxed as for
    detection. A picture that cannot be read gets a row of NaN. ``None`` when ``should_stop``, asked before each batch,
    said so. Raises ``UserError`` for a predictor without a network.
    """
    network = predictor.network

    @torch.inference_mode()
    def work(inputs: Sequence[np.ndarray], _frames: Sequence[Letterbox], _indices: Sequence[int]) -> list[np.ndarray]:
        pooled = backbone_map(network, predictor.images(inputs)).mean(dim=(2, 3))
        return list(torch.nn.functional.normalize(pooled.float(), dim=1).cpu().numpy())

    with Progress("embedding pictures", len(indices)) as progress:
        found = over_records(predictor, records, pictures, indices, PREDICTING, work, should_stop, progress)
    if found is None:
        return None
    vectors = {index: one for index, one in found.items() if not isinstance(one, UnreadablePictureError)}
    width = next((len(vector) for vector in vectors.values()), 0)
    missing = np.full(width, np.nan, np.float32)
    return np.array([vectors.get(index, missing) for index in indices], np.float32).reshape(len(indices), width)
