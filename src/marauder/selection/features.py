"""Features of pictures, kept on disk block by block: a detector's backbone's, or, without one, how pictures look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from marauder.core.clock import Clock
from marauder.core.files import atomic_path, fingerprint
from marauder.core.progress import Progress
from marauder.data.picture_files import PictureError, load_rgb
from marauder.data.records import Record
from marauder.selection.settings import SelectionSettings

BLOCK = 256
THREADS = 4
LAYOUT_SIDE, HISTOGRAM_BINS = 12, 16
LEAST_SPREAD = 0.02
"""Root mean square distance of features to their mean. Measured on 60 pictures of aquaria: detectors with COCO weights
0.45 to 0.52, random weights 0.23, detectors that had collapsed in training below 0.001."""
PLAIN_VERSION = 1
"""Raised whenever ``look_of`` gives other numbers."""


def detector_features(
    records: Sequence[Record], model: Path, settings: SelectionSettings, clock: Clock, folder: Path
) -> np.ndarray:
    """What the detector's backbone sees: float32 (N, D) of unit length, NaN for pictures that cannot be read.

    The very features that ``selection.scoring`` gives of a pool. Raises ``Interrupted``; finished blocks are kept.
    """
    from marauder.models.naming import weights_hash

    if not records:
        return np.zeros((0, 0), np.float32)
    mark = fingerprint([weights_hash(model), settings.image_size, [picture_stamp(record) for record in records]])
    target = folder / f"labelled_{mark[:16]}"
    compute = _Embedder(records, model, settings)
    return _blocks(len(records), target, compute, clock, "looking at labelled pictures")


def plain_features(records: Sequence[Record], clock: Clock, folder: Path) -> np.ndarray:
    """How pictures look, for a start without a detector: float32 (N, D) of unit length, NaN where one cannot be read.

    Raises ``Interrupted``; finished blocks are kept in ``folder``.
    """
    mark = fingerprint([PLAIN_VERSION, [picture_stamp(record) for record in records]])

    def compute(start: int, stop: int) -> np.ndarray:
        with ThreadPoolExecutor(THREADS) as pool:
            return np.stack(list(pool.map(_look_or_nan, records[start:stop])))

    return _blocks(len(records), folder / f"looks_{mark[:16]}", compute, clock, "looking at pictures")


def why_alike(features: np.ndarray) -> str:
    """Why a detector's features (N, D) tell no pictures apart, in words; empty where they do.

    A network that has collapsed sees the same in every picture: choosing by likeness would then follow the order of
    the files.
    """
    if len(features) < 2:
        return ""
    # In double precision: the differences that matter are near the last digit of a float32.
    spread = float(np.sqrt(features.astype(np.float64).var(axis=0).sum()))
    if spread >= LEAST_SPREAD:
        return ""
    return (
        f"the detector's features hardly differ from picture to picture (by {spread:.2g}; detectors that have learned "
        f"something differ by more than {LEAST_SPREAD:g})"
    )


def look_of(picture: np.ndarray) -> np.ndarray:
    """How a picture looks (uint8 (H, W, 3)): float32 (D,) of unit length.

    Half of it is where light and colour stand (means over a grid, the picture's own mean taken off), half the
    histograms of its channels. Says nothing of animals, but tells sites, water and views apart.
    """
    from PIL import Image

    small = Image.fromarray(picture).resize((LAYOUT_SIDE, LAYOUT_SIDE), Image.Resampling.BOX)
    layout = np.asarray(small, np.float32)
    layout = (layout - layout.mean(axis=(0, 1))).ravel()
    counts = [np.histogram(picture[..., channel], HISTOGRAM_BINS, (0, 256))[0] for channel in range(3)]
    # Roots, so that inner products compare the shares of levels (Bhattacharyya).
    histogram = np.sqrt(np.concatenate(counts).astype(np.float32))
    parts = [part / max(float(np.linalg.norm(part)), 1e-6) for part in (layout, histogram)]
    joined = np.concatenate(parts)
    found: np.ndarray = (joined / max(float(np.linalg.norm(joined)), 1e-6)).astype(np.float32)
    return found


def picture_stamp(record: Record) -> list[str | int]:
    """Key, size and time of change of a record's picture file; sizes of -1 where there is none."""
    try:
        state = record.picture.stat()
    except OSError:
        return [record.key, -1, -1]
    return [record.key, state.st_size, state.st_mtime_ns]


def _look_or_nan(record: Record) -> np.ndarray:
    try:
        return look_of(load_rgb(record.picture, 64))
    except PictureError:
        return np.full(LAYOUT_SIDE * LAYOUT_SIDE * 3 + HISTOGRAM_BINS * 3, np.nan, np.float32)


class _Embedder:
    """Computes blocks of backbone features; the detector is opened at the first block that is not on disk."""

    def __init__(self, records: Sequence[Record], model: Path, settings: SelectionSettings) -> None:
        self.records, self.model, self.settings = records, model, settings
        self._compute: Callable[[int, int], np.ndarray] | None = None

    def __call__(self, start: int, stop: int) -> np.ndarray:
        if self._compute is None:
            self._compute = self._open()
        return self._compute(start, stop)

    def _open(self) -> Callable[[int, int], np.ndarray]:
        from marauder.prediction.embeddings import embed
        from marauder.prediction.opening import open_predictor
        from marauder.prediction.records import DecodedPictures

        predictor = open_predictor(self.model, self.settings.device, self.settings.image_size)
        pictures = DecodedPictures(self.records)

        def compute(start: int, stop: int) -> np.ndarray:
            vectors = embed(predictor, self.records, pictures, range(start, stop))
            assert vectors is not None  # nothing asks it to stop
            return vectors

        return compute


def _blocks(
    count: int, folder: Path, compute: Callable[[int, int], np.ndarray], clock: Clock, words: str
) -> np.ndarray:
    """The rows 0..count as ``compute(start, stop)`` gives them, block by block, each kept in ``folder``."""
    parts: list[np.ndarray] = []
    with Progress(words, count) as progress:
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            path = folder / f"{start:08d}.npy"
            # The folder's name says what it was made from, and a block is renamed into place whole.
            if path.is_file():
                part = np.load(path, allow_pickle=False)
            else:
                clock.check()
                part = compute(start, stop)
                with atomic_path(path) as temporary, temporary.open("wb") as stream:
                    np.save(stream, part, allow_pickle=False)
            parts.append(part)
            progress.advance(stop - start)
    width = max(part.shape[1] for part in parts)
    # A block without a single readable picture does not know how wide the others are.
    return np.concatenate([part if part.shape[1] == width else np.full((len(part), width), np.nan) for part in parts])
