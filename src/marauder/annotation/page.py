"""The quality page: a folder with ``index.html`` and crops, to look through suspected boxes without any network.

Decisions are kept in the browser (localStorage) and saved as JSON from there; nothing is sent anywhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from marauder.annotation.agreement import Agreement
from marauder.annotation.batch import Batch, BatchItem
from marauder.annotation.checking import Taken
from marauder.annotation.quality import Quality, suspect_json
from marauder.annotation.settings import QualitySettings
from marauder.annotation.suspects import KINDS, Suspect, ranked_pictures
from marauder.core.clock import Clock
from marauder.core.files import atomic_path, write_text
from marauder.core.plain import Plain
from marauder.data.picture_files import PictureError, load_rgb
from marauder.pages.rendering import render_page

MOST_A_PICTURE = 6
"""Suspects shown for one picture; whoever looks at it sees the others, too."""
CROP_PIXELS = 420
WHOLE_PIXELS = 640
CONTEXT = 0.9
"""What is shown around the boxes, as a share of their longer side, on each side."""
LEAST_CONTEXT = 24.0
QUALITY_OF_JPEG = 82


def write_quality_page(
    folder: Path,
    batch: Batch,
    answers: Mapping[str, Taken],
    quality: Quality,
    settings: QualitySettings,
    clock: Clock | None = None,
) -> Path:
    """Write the page of the ``settings.review_count`` most suspect pictures; returns ``index.html``.

    ``answers``: by file name in the package. A picture that cannot be read is listed without crops. The folder is made
    anew; the clock is asked between pictures (``Interrupted``).
    """
    if folder.exists():
        # Crops are named by rank: those of an earlier import would stand for other pictures.
        shutil.rmtree(folder)
    (folder / "crops").mkdir(parents=True)
    by_key = {item.key: item for item in batch.items}
    ranked = ranked_pictures(quality.suspects)[: settings.review_count]
    by_picture: dict[str, list[Suspect]] = {key: [] for key in ranked}
    for one in quality.suspects:
        if one.key in by_picture and len(by_picture[one.key]) < MOST_A_PICTURE:
            by_picture[one.key].append(one)
    cards: list[Plain] = []
    for place, (key, suspects) in enumerate(by_picture.items()):
        if clock is not None:
            clock.check()
        item = by_key[key]
        taken = answers.get(item.file) or answers.get(item.second_file)
        cards.extend(_cards(folder, place, item, suspects, taken, batch.names))
    kinds = {kind: sum(one.kind == kind for one in quality.suspects) for kind in KINDS}
    page = render_page(
        "annotation/quality.html",
        batch=batch.id,
        pictures=len(batch.items),
        answered=sum(item.file in answers or item.second_file in answers for item in batch.items),
        reviewed=len(ranked),
        kinds=kinds,
        quality=quality,
        tables=[_table(title, agreement, batch.names) for title, agreement in _sides(quality)],
        worst=_worst(quality.overlap),
        cards=cards,
    )
    write_text(folder / "index.html", page)
    return folder / "index.html"


def crop_window(boxes: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of a picture (x0, y0, x1, y1; whole pixels inside it) that shows ``boxes`` and what is around them.

    ``size``: width and height of the picture. As square as the picture allows, at least one pixel wide.
    """
    together = np.stack(list(boxes))
    x0, y0 = together[:, :2].min(axis=0)
    x1, y1 = together[:, 2:].max(axis=0)
    side = max(x1 - x0, y1 - y0)
    # A small box needs more around it than its own size to be recognised.
    half = side / 2 + max(LEAST_CONTEXT, CONTEXT * side)
    window = []
    for low, high, limit in ((x0, x1, size[0]), (y0, y1, size[1])):
        width = min(2 * half, limit)
        # Moved back inside at a border, not cut: all crops show as much.
        start = min(max(0.0, (low + high) / 2 - width / 2), limit - width)
        window.append((int(start), max(int(start) + 1, min(limit, int(np.ceil(start + width))))))
    return window[0][0], window[1][0], window[0][1], window[1][1]


def _cards(
    folder: Path, place: int, item: BatchItem, suspects: Sequence[Suspect], taken: Taken | None, names: Sequence[str]
) -> list[Plain]:
    try:
        pixels = load_rgb(item.picture)
    except PictureError:
        pixels = None
    whole = ""
    if pixels is not None:
        whole = f"crops/{place:04d}.jpg"
        _save(pixels, folder / whole, WHOLE_PIXELS)
    labels = [] if taken is None else [[*box.round(1).tolist(), names[c]] for box, c in zip(taken.boxes, taken.classes)]
    cards = []
    for number, one in enumerate(suspects):
        shown = [one.suggested] if one.label_box is None else [one.suggested, one.label_box]
        window = crop_window(shown, item.size)
        crop = ""
        if pixels is not None:
            crop = f"crops/{place:04d}-{number}.jpg"
            x0, y0, x1, y1 = window
            _save(pixels[y0:y1, x0:x1], folder / crop, CROP_PIXELS)
        content = suspect_json(one, names)
        cards.append({**content, "file": item.file, "size": item.size, "window": window, "crop": crop, "whole": whole})
        cards[-1] |= {"labels": labels, "id": f"{item.file}#{number}#{one.kind}"}
    return cards


def _save(pixels: np.ndarray, path: Path, most: int) -> None:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = most / max(image.size)
    # Nearly large enough is left alone: enlarging it would only blur.
    if scale < 1 or max(image.size) < most / 2:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    with atomic_path(path) as temporary:
        image.save(temporary, format="JPEG", quality=QUALITY_OF_JPEG, optimize=True)


def _sides(quality: Quality) -> list[tuple[str, Agreement]]:
    sides = (("The two annotators", quality.overlap), ("Answers and the model", quality.model))
    return [(title, agreement) for title, agreement in sides if agreement is not None]


def _table(title: str, agreement: Agreement, names: Sequence[str]) -> Plain:
    """A table of classes without those that neither side has."""
    labels = [*names, "missed"]
    used = [i for i in range(len(labels)) if agreement.table[i].sum() + agreement.table[:, i].sum()]
    rows = [{"name": labels[row], "cells": [int(agreement.table[row, column]) for column in used]} for row in used]
    return {"title": title, "agreement": agreement, "columns": [labels[column] for column in used], "rows": rows}


def _worst(overlap: Agreement | None, most: int = 8) -> list[Plain]:
    """The pictures on which the two annotators differ most: objects that one of them alone has, or classes
    otherwise."""
    if overlap is None:
        return []
    rows: list[Plain] = []
    for one in overlap.pictures:
        alone = one.first + one.second - 2 * one.paired
        if alone + one.other_class:
            rows.append({"key": one.key, "alone": alone, "other_class": one.other_class, "mean_iou": one.mean_iou})
    return sorted(rows, key=lambda row: (-(row["alone"] + row["other_class"]), row["key"]))[:most]
