"""The report of preprocessing: a line a picture, the sums, and one page with pictures before and after."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np

from marauder.core.clock import describe_seconds
from marauder.core.files import to_plain, write_json, write_text
from marauder.core.plain import Plain
from marauder.core.wording import counted
from marauder.data.contact_sheets import Tile, contact_sheet
from marauder.imaging.plan import METHODS
from marauder.pages.rendering import embed_picture, render_page
from marauder.preprocessing.codec import decode, read_bytes
from marauder.preprocessing.inventory import Inventory
from marauder.preprocessing.journal import REPORT_FOLDER
from marauder.preprocessing.settings import PreprocessingSettings
from marauder.preprocessing.work import COPIED, ENHANCED, LEFT_ALONE, SET_ASIDE

TILE_WIDTH, TILE_COLUMNS = 480, 3


@dataclass(frozen=True)
class PreprocessingSummary:
    """What came out. All but the last three fields are also in ``summary.json``.

    ``means``: mean of each measure over the pictures that have it, before and after. ``stages``: how many pictures each
    stage changed. ``notes``: things to know, a sentence each. ``redone``: pictures worked on in this run, ``removed``:
    outputs deleted because their input is gone, ``seconds``: of this run.
    """

    output: Path
    method: str
    pictures: int
    enhanced: int
    left_alone: int
    set_aside: tuple[tuple[str, str], ...]
    companions: int
    means: dict[str, float]
    stages: dict[str, int]
    notes: tuple[str, ...]
    redone: int = field(compare=False, default=0)
    removed: int = field(compare=False, default=0)
    seconds: float = field(compare=False, default=0.0)

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.output / REPORT_FOLDER / "report.html"

    def as_dict(self) -> Plain:
        """What ``summary.json`` holds; the same for the same input and settings."""
        return {
            "method": self.method,
            "pictures": self.pictures,
            "enhanced": self.enhanced,
            "left_alone": self.left_alone,
            "set_aside": [{"path": path, "reason": reason} for path, reason in self.set_aside],
            "companions": self.companions,
            "means": self.means,
            "stages": self.stages,
            "notes": self.notes,
        }

    def message(self) -> str:
        """The result in plain words, with what to do next."""
        lines = [
            f"{counted(self.pictures, 'picture')}: {self.enhanced:,} enhanced, {self.left_alone:,} unchanged, "
            f"{len(self.set_aside):,} set aside; {counted(self.companions, 'other file')} copied. "
            f"{counted(self.redone, 'picture')} worked on in this run, in {describe_seconds(self.seconds)}."
        ]
        for name, label in (("uiqm", "UIQM"), ("uciqe", "UCIQE"), ("psnr", "PSNR"), ("ssim", "SSIM")):
            if f"{name}_before" in self.means:
                before, after = self.means[f"{name}_before"], self.means[f"{name}_after"]
                lines.append(f"{label} (mean): {before:.3f} before, {after:.3f} after.")
        lines += [f"set aside: {path}: {reason}" for path, reason in self.set_aside[:5]]
        if len(self.set_aside) > 5:
            lines.append(f"... and {len(self.set_aside) - 5:,} more in {self.output / REPORT_FOLDER / 'summary.json'}")
        lines += [f"note: {note}" for note in self.notes]
        if self.enhanced:
            lines.append(
                f"Look at {self.report}. A detector trained on these pictures has to see enhanced ones in use, too. "
                "Whether it finds more, only training on both tells: docs/evidence.md shows no gain so far."
            )
        else:
            lines.append(f"Look at {self.report}.")
        return "\n".join(lines)


def write_report(
    settings: PreprocessingSettings,
    inventory: Inventory,
    results: list[Plain],
    redone: int,
    removed: int,
    seconds: float,
) -> PreprocessingSummary:
    """Write ``measurements.jsonl``, ``summary.json`` and ``report.html``; ``results`` are sorted by path."""
    pictures = [result for result in results if result["status"] in (ENHANCED, LEFT_ALONE)]
    set_aside = [(result["path"], result["reason"]) for result in results if result["status"] == SET_ASIDE]
    statuses = Counter(result["status"] for result in results)
    stages = Counter(stage for result in pictures for stage in result["stages"])
    summary = PreprocessingSummary(
        output=settings.output,
        method=settings.method,
        pictures=len(inventory.pictures()),
        enhanced=statuses[ENHANCED],
        left_alone=statuses[LEFT_ALONE],
        set_aside=tuple(set_aside) + inventory.unreachable,
        companions=statuses[COPIED],
        means=_means(pictures),
        stages=dict(sorted(stages.items())),
        notes=_notes(inventory, results),
        redone=redone,
        removed=removed,
        seconds=seconds,
    )
    folder = settings.output / REPORT_FOLDER
    lines = [result for result in results if result["status"] != COPIED]
    text = "".join(json.dumps(to_plain(line), ensure_ascii=False) + "\n" for line in lines)
    write_text(folder / "measurements.jsonl", text)
    write_json(folder / "summary.json", summary.as_dict())
    write_text(summary.report, _page(settings, summary, pictures))
    return summary


def _means(pictures: list[Plain]) -> dict[str, float]:
    means: dict[str, float] = {}
    measured = [result for result in pictures if result.get("before")]
    for name in ("uiqm", "uciqe"):
        for when in ("before", "after"):
            if measured:
                means[f"{name}_{when}"] = round(fmean(result[when][name] for result in measured), 4)
    compared = [result["clean"] for result in pictures if "psnr_before" in result.get("clean", {})]
    for name in ("psnr_before", "psnr_after", "ssim_before", "ssim_after"):
        values = [line[name] for line in compared if line[name] is not None and np.isfinite(line[name])]
        if values:
            means[name] = round(fmean(values), 4)
    return means


def _notes(inventory: Inventory, results: list[Plain]) -> tuple[str, ...]:
    notes = [note for result in results for note in result.get("notes", ())]
    deep = [result for result in results if "bits_before" in result]
    if deep:
        notes.append(
            f"{len(deep):,} pictures with more than 8 bits a channel were written with 8, such as {deep[0]['path']} "
            f"({deep[0]['bits_before']} bits); keep the originals where their full depth matters"
        )
    if inventory.left_behind:
        notes.append(f"{inventory.left_behind} cache files stayed behind; they are rebuilt when needed")
    without = sum("reason" in result.get("clean", {}) for result in results)
    if without:
        notes.append(f"{without} pictures could not be compared with a clean one; measurements.jsonl says why")
    return tuple(notes)


def _page(settings: PreprocessingSettings, summary: PreprocessingSummary, pictures: list[Plain]) -> str:
    rows = [
        ("pictures", f"{summary.pictures:,}"),
        ("enhanced", f"{summary.enhanced:,}"),
        ("unchanged", f"{summary.left_alone:,}"),
        ("set aside", f"{len(summary.set_aside):,}"),
        ("method", f"{summary.method}: {METHODS.get(summary.method, ('strengths from the settings', None))[0]}"),
        *((f"pictures with {stage}", f"{count:,}") for stage, count in summary.stages.items()),
        *((_measure_title(name), f"{value:.3f}") for name, value in summary.means.items()),
    ]
    return render_page(
        "preprocessing/report.html",
        rows=rows,
        sheet=_sheet(settings, pictures),
        measure_side=settings.measure_side,
        set_aside=[f"{path}: {reason}" for path, reason in summary.set_aside],
        notes=summary.notes,
    )


def _measure_title(name: str) -> str:
    """``uiqm_before`` as ``UIQM before``."""
    measure, when = name.rsplit("_", 1)
    return f"{measure.upper()} {when}"


def _sheet(settings: PreprocessingSettings, pictures: list[Plain]) -> str | None:
    """Pictures before and after, spread evenly over the enhanced ones, as a data address; ``None`` without any."""
    shown = [result for result in pictures if result["status"] == ENHANCED] or pictures
    count = min(settings.sheet_pictures, len(shown))
    if not count:
        return None
    tiles = []
    for index in range(count):
        result = shown[index * len(shown) // count]
        sides = [_thumbnail(folder / result["path"]) for folder in (settings.input, settings.output)]
        caption = f"{Path(result['path']).name}: {', '.join(result['stages']) or 'unchanged'}"
        tiles.append(Tile(np.ascontiguousarray(np.hstack(sides)[..., ::-1]), caption))
    with tempfile.TemporaryDirectory() as folder_name:
        sheet = contact_sheet(tiles, Path(folder_name) / "sheet.jpg", TILE_COLUMNS, TILE_WIDTH)
        return embed_picture(sheet.read_bytes())


def _thumbnail(path: Path) -> np.ndarray:
    picture = decode(read_bytes(path))
    scale = TILE_WIDTH / 2 / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
