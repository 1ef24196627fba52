"""DeepFish in its official layout: ``Classification|Localization|Segmentation/{train,val,test}.csv`` with columns
``ID,labels[,counts]``, pictures ``images/<ID>.jpg`` and masks ``masks/<ID>.png``.

Source of the layout: Saleh et al., "A realistic fish-habitat dataset to evaluate algorithms for underwater visual
analysis", Scientific Reports 10, 2020. A segmentation mask gives one box a connected component. The masks of
Localization hold points, which have no extent: such a picture has a count but no boxes and is unlabelled, unless it
shows no fish at all. Classification says only whether there is any fish.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from marauder.core.errors import UserError
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import Box, Entry, Findings, Label
from marauder.data.formats.source import Source
from marauder.data.formats.text import clean_text, csv_rows, number
from marauder.data.picture_files import DECODER_ERRORS, plain_reason

PARTS = ("Segmentation", "Localization", "Classification")
"""Richest labels first."""
SPLIT_FILES = ("train", "val", "test")
SMALLEST_COMPONENT = 16
"""Pixels below which a mask's component is a speck of the annotation tool, or a point, and no fish."""
CLASS_NAME = "fish"


class DeepFishReader(Reader):
    """DeepFish; without ``parts`` only the part with the richest labels, since parts share pictures."""

    name = "deepfish"
    title = "DeepFish"

    def files(self, source: Source) -> list[Path]:
        return [folder / f"{split}.csv" for folder in _parts(source).values() for split in _splits(folder)]

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        present = _parts(source)
        if not present:
            raise UserError(f"{source.path}: no DeepFish part with train.csv, val.csv or test.csv ({', '.join(PARTS)})")
        wanted = options.parts or (next(iter(present)),)
        entries: list[Entry] = []
        used: set[Path] = set()
        for part in wanted:
            if part not in present:
                raise UserError(f"{source.path}: no part {part!r}; there are: {', '.join(present)}")
            prefix = f"{part.lower()}/" if len(wanted) > 1 else ""
            read = [row for split in _splits(present[part]) for row in _rows(present[part], split, prefix, findings)]
            used |= {present[part] / f"{split}.csv" for split in _splits(present[part])}
            if part == "Segmentation":
                used |= _add_masks(present[part], prefix, read, findings)
            for entry in read:
                entry.labelled = entry.labelled and (part == "Segmentation" or not entry.attributes["fish"])
            entries += read
        return Parsed(entries, [CLASS_NAME], used=used, root=present[wanted[0]] if len(wanted) == 1 else None)


def _parts(source: Source) -> dict[str, Path]:
    """Parts in the source, or the source itself as one: name to folder."""
    folders = {part: source.root / part for part in PARTS}
    if source.root.name in PARTS:
        folders[source.root.name] = source.root
    return {part: folder for part, folder in folders.items() if (folder / "images").is_dir() and _splits(folder)}


def _splits(folder: Path) -> list[str]:
    return [split for split in SPLIT_FILES if (folder / f"{split}.csv").is_file()]


def _rows(folder: Path, split: str, prefix: str, findings: Findings) -> list[Entry]:
    """An entry of every usable row, with what it says of the picture as attributes."""
    file = folder / f"{split}.csv"
    rows = csv_rows(file, findings)
    header = next(rows, (1, []))[1]
    if not {"ID", "labels"} <= set(header):
        raise UserError(f"{file}:1: expected the columns ID,labels[,counts], found {clean_text(header)}")
    entries = []
    for line, values in rows:
        row = dict(zip(header, values))
        identity, label, count = row.get("ID", ""), number(row.get("labels")), number(row.get("counts"))
        if not identity or ".." in Path(identity).parts or identity.startswith("/"):
            findings.add("label-syntax", f"not a picture's ID: {clean_text(identity)!r}", file, line)
        elif label is None or (row.get("counts") and count is None):
            findings.add("label-syntax", f"labels or counts is not a number: {clean_text(row)}", file, line)
        else:
            name = f"{identity}.jpg"
            entry = Entry((name,), file, line, folder / "images" / name, key=f"{prefix}{identity}", split=split)
            entry.attributes["fish"] = label > 0
            if count is not None:
                entry.attributes["count"] = int(count)
            entries.append(entry)
    return entries


def _add_masks(folder: Path, prefix: str, entries: list[Entry], findings: Findings) -> set[Path]:
    """Give the entries the boxes of their masks; returns the masks."""
    masks = [folder / "masks" / f"{entry.key.removeprefix(prefix)}.png" for entry in entries]
    with ThreadPoolExecutor(4) as pool:
        for entry, mask, found in zip(entries, masks, pool.map(_mask_boxes, masks)):
            findings.tick()
            if isinstance(found, str):
                # A picture without fish needs no mask.
                if entry.attributes["fish"]:
                    entry.labelled = False
                    findings.add("label-unreadable", f"{mask}: {found}", entry.file, entry.line, entry)
                continue
            entry.file, entry.line = mask, None
            entry.labels = [Label(box, CLASS_NAME) for box in found[0]]
            if found[1]:
                message = f"{found[1]} specks of fewer than {SMALLEST_COMPONENT} pixels left out"
                findings.add("mask-specks", message, mask, None, entry)
    return set(masks)


def _mask_boxes(file: Path) -> tuple[list[Box], int] | str:
    """Boxes of the mask's connected components (8 neighbours) and the number of specks, or why it cannot be read."""
    import cv2

    try:
        with Image.open(file) as image:
            # Palette numbers and deep levels as stored: turned into grey, a fish's could become 0, the background.
            mask = np.asarray(image.convert("L") if image.mode not in ("L", "P", "1", "I;16", "I") else image)
    except FileNotFoundError:
        return "the mask does not exist"
    except DECODER_ERRORS as error:
        return f"the mask cannot be read ({plain_reason(error)})"
    count, _, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
    # Row 0 is the background.
    rows = stats[1:count]
    fish = rows[rows[:, cv2.CC_STAT_AREA] >= SMALLEST_COMPONENT]
    boxes = [(float(x), float(y), float(x + w), float(y + h)) for x, y, w, h, _ in fish]
    return boxes, len(rows) - len(fish)
