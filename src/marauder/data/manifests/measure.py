"""Picture attributes measured from pixels, for slices of data without attributes: light, contrast, colour, focus.

All are taken from the picture as displayed, shrunk so that its longer side has ``LONG_SIDE`` pixels: sharpness and
contrast depend on size, and only values of one size compare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from marauder.core.clock import Clock
from marauder.data.manifests.journal import FileJournal
from marauder.data.manifests.pinning import measure_files
from marauder.data.picture_files import DECODING_VERSION, PictureError, load_rgb, missing_picture
from marauder.data.records import Attribute, Dataset, Problem, Record

LONG_SIDE = 320
MEASURES_JOURNAL = f"measures-{LONG_SIDE}"
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""

MEASURES = ("brightness", "contrast", "blue_red_ratio", "green_red_ratio", "sharpness")


def measure_picture(picture: np.ndarray) -> dict[str, float]:
    """Measures of a picture, uint8 (H, W, 3), red first, rounded to three decimals.

    ``brightness``: mean luma, 0..255. ``contrast``: standard deviation of luma, 0..127.5. ``blue_red_ratio`` and
    ``green_red_ratio``: mean of the channel by that of red (at least 1), the colour cast of water: 1 is neutral.
    ``sharpness``: variance of the 4-neighbour Laplacian of luma, 0 for a flat picture or one under 3 pixels a side
    (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000).
    """
    colours = picture.astype(np.float32)
    red, green, blue = (float(mean) for mean in colours.mean(axis=(0, 1), dtype=np.float64))
    luma = colours @ np.array(LUMA, np.float32)
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    values = (
        luma.mean(dtype=np.float64),
        luma.std(dtype=np.float64),
        blue / max(red, 1.0),
        green / max(red, 1.0),
        laplacian.var(dtype=np.float64) if laplacian.size else 0.0,
    )
    return {name: round(float(value), 3) for name, value in zip(MEASURES, values)}


def shrunk(path: Path) -> np.ndarray:
    """The picture at ``path`` with a longer side of at most ``LONG_SIDE`` pixels: uint8 (h, w, 3), red first.

    Raises ``PictureError``.
    """
    picture = load_rgb(path, at_least=LONG_SIDE)
    height, width = picture.shape[:2]
    gain = LONG_SIDE / max(height, width)
    if gain >= 1:
        return picture
    size = (max(1, round(width * gain)), max(1, round(height * gain)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def measure_dataset(dataset: Dataset, clock: Clock | None = None) -> Dataset:
    """The data set with measured attributes and ``clip_kind`` added: "video" where the group has more than one picture,
    else "photo". Width, height and number of boxes need none: every query knows them.

    Runs in threads; the clock is asked between blocks of pictures (``Interrupted``); measures are kept in the cache
    folder, so that the same call continues. A picture whose pixels cannot be read gets no measures and a ``Problem``.
    Attributes that the source states win over measured ones.
    """
    journal = _journal(MEASURES_JOURNAL, dataset)
    found = _of_files(dataset, journal, _measure, clock, "measuring pictures")
    sizes = Counter(record.group for record in dataset)
    records: list[Record] = []
    for record in dataset:
        value = found[record.picture]
        measured: dict[str, Attribute] = {"clip_kind": "video" if sizes[record.group] > 1 else "photo"}
        measured |= value if isinstance(value, dict) else {}
        records.append(replace(record, attributes={**measured, **record.attributes}))
    return _with_problems(dataset.with_records(records), found)


def decode_dataset(dataset: Dataset, clock: Clock | None = None) -> Dataset:
    """The data set with a ``Problem`` for each picture whose pixels cannot be read whole. Stops and continues as
    ``measure_dataset``; pictures that were measured have been decoded."""
    journal = _journal("decoded", dataset)
    for stamp, value in _journal(MEASURES_JOURNAL, dataset).values.items():
        journal.values.setdefault(stamp, value if isinstance(value, list) else True)
    return _with_problems(dataset, _of_files(dataset, journal, _decode, clock, "reading pictures"))


def _journal(purpose: str, dataset: Dataset) -> FileJournal:
    return FileJournal.of(f"{purpose}-{DECODING_VERSION}", Path(dataset.source or "."))


def _of_files(
    dataset: Dataset, journal: FileJournal, work: Callable[[Path], Any], clock: Clock | None, label: str
) -> dict[Path, Any]:
    """What ``work`` makes of each picture; ``None`` for one that is not there."""
    found = measure_files([record.picture for record in dataset], work, journal, clock, label)
    return {path: value for path, (_, value) in found.items()}


def _with_problems(dataset: Dataset, found: Mapping[Path, Any]) -> Dataset:
    """The data set with the problems of pictures of which ``found`` has an error, kind and words, or nothing."""
    problems = list(dataset.problems)
    for record in dataset:
        value = found[record.picture]
        if isinstance(value, list):
            problems.append(Problem(str(record.picture), None, f"picture-{value[0]}", value[1], record.key))
        elif value is None:
            # Some sources bring labels alone, and their records are kept.
            kind = "absent" if record.attributes.get("picture_missing") else "missing"
            detail = missing_picture(record.picture).detail
            problems.append(Problem(str(record.picture), None, f"picture-{kind}", detail, record.key))
    return replace(dataset, problems=tuple(problems))


def _decode(path: Path) -> bool | list[str]:
    try:
        load_rgb(path, at_least=1)
    except PictureError as error:
        return [error.kind, error.detail]
    return True


def _measure(path: Path) -> dict[str, float] | list[str]:
    try:
        return measure_picture(shrunk(path))
    except PictureError as error:
        return [error.kind, error.detail]
