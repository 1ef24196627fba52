"""How much a slice holds: pictures, boxes and groups that count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.data.records import Record
from marauder.data.slices.mask import SliceMask


@dataclass(frozen=True)
class SliceCount:
    """``pictures``: labelled ones of the slice; of a slice over boxes those with a box that counts. ``boxes`` that
    count in these pictures, and their ``groups``."""

    pictures: int
    boxes: int
    groups: int


class Counter:
    """Counts slices over the same P records. ``counting``: bool (B,), boxes of labelled pictures that are not ignored;
    ``box_picture``: int (B,), the picture of each box."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.labelled = np.array([record.labelled for record in records], bool)
        self.box_picture = np.repeat(np.arange(len(records)), [len(record.boxes) for record in records])
        ignored = [record.ignored for record in records]
        self.counting = ~np.concatenate(ignored) if ignored else np.zeros(0, bool)
        self.counting &= self.labelled[self.box_picture]
        self.group = np.unique([record.group for record in records], return_inverse=True)[1]

    def boxes(self, mask: SliceMask) -> np.ndarray:
        """Boxes that count in a slice: bool (B,)."""
        chosen: np.ndarray = self.counting & mask.pictures[self.box_picture]
        return chosen if mask.boxes is None else chosen & mask.boxes

    def pictures(self, mask: SliceMask) -> np.ndarray:
        """Pictures that speak for a slice: bool (P,)."""
        chosen: np.ndarray = self.labelled & mask.pictures
        if mask.boxes is not None:
            chosen = chosen & (np.bincount(self.box_picture[self.boxes(mask)], minlength=len(chosen)) > 0)
        return chosen

    def count(self, mask: SliceMask) -> SliceCount:
        """The size of a slice."""
        pictures = self.pictures(mask)
        return SliceCount(int(pictures.sum()), int(self.boxes(mask).sum()), len(np.unique(self.group[pictures])))
