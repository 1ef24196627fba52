"""DeepFish in its official layout: ``Classification|Localization|Segmentation/{train,val,test}.csv`` with columns
``ID,labels[,counts]``, pictures ``images/<ID>.jpg`` and masks ``masks/<ID>.png``.

Source of the layout: Saleh et al., "A realistic fish-habitat dataset to evaluate algorithms for underwater visual
analysis", Scientific Reports 10, 2020. A segmentation mask gives one box a connected component. The masks of
Localization hold points, which have no extent: such a picture has a count but no boxes and is unlabelled, unless it
shows no fish at all. Classification says only whether there is any fish.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from marauder.core.errors import UserError
from marauder.data.picture_files import DECODER_ERRORS, plain_reason
from marauder.data.readers.base import Draft, Reader, ReadOptions, finish
from marauder.data.records import Dataset, Problem

PARTS = ("Segmentation", "Localization", "Classification")
"""Richest labels first."""

SPLIT_FILES = ("train", "val", "test")
SMALLEST_COMPONENT = 16
"""Pixels below which a mask's component is a speck of the annotation tool, or a point, and no fish."""


class DeepFishReader(Reader):
    """Reads DeepFish; without ``parts`` only the part with the richest labels, since parts share pictures."""

    name = "deepfish"

    def recognises(self, path: Path) -> bool:
        return bool(_parts(path))

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        present = _parts(path)
        if not present:
            raise UserError(f"{path}: no DeepFish part with train.csv, val.csv or test.csv ({', '.join(PARTS)})")
        wanted = options.parts or (next(iter(present)),)
        problems: list[Problem] = []
        drafts: list[Draft] = []
        for part in wanted:
            if part not in present:
                raise UserError(f"{path}: no part {part!r}; there are: {', '.join(present)}")
            prefix = f"{part.lower()}/" if len(wanted) > 1 else ""
            drafts.extend(_read_part(present[part], part, prefix, problems))
        names = options.names or ("fish",)
        records = finish(drafts, len(names), options, problems)
        return Dataset(names, tuple(records), str(path), tuple(problems))


def _parts(path: Path) -> dict[str, Path]:
    """Parts below ``path``, or ``path`` itself as one: name to folder."""
    folders = {part: path / part for part in PARTS}
    if path.name in PARTS:
        folders[path.name] = path
    return {
        part: folder
        for part, folder in folders.items()
        if (folder / "images").is_dir() and any((folder / f"{split}.csv").is_file() for split in SPLIT_FILES)
    }


def _read_part(folder: Path, part: str, prefix: str, problems: list[Problem]) -> list[Draft]:
    drafts = []
    for split in SPLIT_FILES:
        for line, identity, label, count in _rows(folder / f"{split}.csv", problems):
            draft = Draft(f"{prefix}{identity}", folder / "images" / f"{identity}.jpg", split=split)
            draft.label_file = str(folder / f"{split}.csv")
            draft.attributes["fish"] = label > 0
            if count is not None:
                draft.attributes["count"] = count
            draft.labelled = label == 0 or part == "Segmentation"
            draft.lines.append(line)
            drafts.append(draft)
    if part == "Segmentation":
        with ThreadPoolExecutor(4) as pool:
            masks = [folder / "masks" / Path(draft.key.removeprefix(prefix) + ".png") for draft in drafts]
            results = list(pool.map(_mask_boxes, masks))
    else:
        masks, results = [], []
    for draft, mask, result in zip(drafts, masks, results):
        line = draft.lines.pop()
        if isinstance(result, str):
            if draft.attributes["fish"]:
                draft.labelled = False
                problems.append(Problem(draft.label_file, line, "label-unreadable", f"{mask}: {result}", draft.key))
            continue
        for box in result[0]:
            draft.add(box, 0)
        if result[1]:
            message = f"{result[1]} specks of fewer than {SMALLEST_COMPONENT} pixels left out"
            problems.append(Problem(str(mask), None, "mask-specks", message, draft.key))
        draft.label_file = str(mask)
    for draft in drafts[len(masks) :]:
        draft.lines.clear()
    return drafts


def _rows(file: Path, problems: list[Problem]) -> Iterator[tuple[int, str, int, int | None]]:
    """(line, ID, label, count or None) of every usable row."""
    if not file.is_file():
        return
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if not {"ID", "labels"} <= set(reader.fieldnames or ()):
            raise UserError(f"{file}:1: expected the columns ID,labels[,counts], found {reader.fieldnames}")
        for row in reader:
            line = reader.line_num
            identity = (row["ID"] or "").strip()
            if not identity or ".." in Path(identity).parts or identity.startswith("/"):
                problems.append(Problem(str(file), line, "label-syntax", f"not a picture's ID: {identity!r}"))
                continue
            try:
                label = int(float(row["labels"]))
                count = int(float(row["counts"])) if row.get("counts") else None
            except (TypeError, ValueError):
                problems.append(Problem(str(file), line, "label-syntax", f"labels or counts is no number: {row}"))
                continue
            yield line, identity, label, count


def _mask_boxes(file: Path) -> tuple[list[tuple[float, float, float, float]], int] | str:
    """Boxes of the mask's connected components (8 neighbours) and the number of specks, or why it cannot be read."""
    import cv2

    try:
        with Image.open(file) as image:
            mask = np.asarray(image.convert("L") if image.mode not in ("L", "P", "1", "I;16", "I") else image)
    except FileNotFoundError:
        return "the mask does not exist"
    except DECODER_ERRORS as error:
        return f"the mask cannot be read ({plain_reason(error)})"
    count, _, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
    rows = stats[1:count]
    fish = rows[rows[:, cv2.CC_STAT_AREA] >= SMALLEST_COMPONENT]
    boxes = [(float(x), float(y), float(x + w), float(y + h)) for x, y, w, h, _ in fish]
    return boxes, len(rows) - len(fish)
