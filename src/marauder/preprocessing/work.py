"""The work on one file, done in a worker process: decode, choose a plan, enhance, measure, encode, write."""

from __future__ import annotations

import ctypes
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from marauder.core.files import atomic_path, write_bytes
from marauder.core.plain import Plain
from marauder.data.picture_files import Decoded
from marauder.imaging.content import content_area
from marauder.imaging.enhance import enhance, enhance_exactly
from marauder.imaging.plan import measure, plan_for
from marauder.imaging.quality import BLOCK, measure_quality, psnr, ssim
from marauder.imaging.stages import reduce_picture
from marauder.preprocessing.codec import BadPictureError, decode, decode_stored, encode, read_bytes
from marauder.preprocessing.companions import Companions
from marauder.preprocessing.inventory import PICTURE, Item
from marauder.preprocessing.journal import stamp_of
from marauder.preprocessing.settings import MANUAL, Recipe

ENHANCED, LEFT_ALONE, SET_ASIDE, COPIED = "enhanced", "left alone", "set aside", "copied"

# M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc's malloc.h.
MMAP_THRESHOLD_PARAMETER, TRIM_THRESHOLD_PARAMETER = -3, -1


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker needs to know."""

    source: Path
    target: Path
    clean: Path | None
    recipe: Recipe
    companions: Companions


@dataclass(frozen=True, slots=True)
class Done:
    """A finished file: its result for the report, and the stamp of what was written (``None``: nothing)."""

    item: Item
    result: Plain
    output: list[int] | None


def prepare_process() -> None:
    """Settle a process for this work: one thread, and memory of pictures kept instead of returned after each."""
    cv2.setNumThreads(1)
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            # Otherwise glibc maps fresh pages for every picture-sized array, and clearing them takes a third of the
            # time of decoding.
            library.mallopt(MMAP_THRESHOLD_PARAMETER, 1 << 26)
            library.mallopt(TRIM_THRESHOLD_PARAMETER, 1 << 28)


def process(job: Job, items: Sequence[Item]) -> list[Done]:
    """Handle some files, in order. Writing waits for the disk in a thread while the next picture is worked on."""
    waiting: list[tuple[Item, Plain, Future[Any] | None]] = []
    with ThreadPoolExecutor(1) as writer:
        for item in items:
            target = job.target / item.path
            content: bytes | None = None
            if item.kind == PICTURE:
                result, content = process_picture(job, item)
            else:
                result, content = process_companion(job, item)
            written = writer.submit(write_bytes, target, content) if content is not None else None
            if result["status"] == SET_ASIDE:
                # An earlier run may have made one of what the file was then.
                target.unlink(missing_ok=True)
            waiting.append((item, result, written))
        done = []
        for item, result, written in waiting:
            if written is not None:
                written.result()
            output = stamp_of(job.target / item.path) if result["status"] != SET_ASIDE else None
            done.append(Done(item, result, output))
    return done


def process_picture(job: Job, item: Item) -> tuple[Plain, bytes | None]:
    """Result line and encoded picture; a bad picture gives its reason and ``None``."""
    try:
        raw = read_bytes(job.source / item.path)
        return _enhance_picture(job, item, raw, decode_stored(raw))
    except BadPictureError as error:
        return {"path": item.path, "status": SET_ASIDE, "reason": str(error)}, None


def _enhance_picture(job: Job, item: Item, raw: bytes, stored: Decoded) -> tuple[Plain, bytes]:
    recipe, picture = job.recipe, stored.pixels
    rows, columns = content_area(picture)
    content = picture[rows, columns]
    if recipe.method == MANUAL and recipe.plan is not None:
        plan, measured = recipe.plan, measure(content)
    else:
        plan, measured = plan_for(picture, recipe.method, recipe.strength)
    unchanged = plan.changes_nothing and stored.orientation == 1
    result: Plain = {
        "path": item.path,
        "status": LEFT_ALONE if plan.changes_nothing else ENHANCED,
        "width": picture.shape[1],
        "height": picture.shape[0],
        "stages": list(plan.stages),
        "plan": plan.as_dict(),
        "measured": {name: round(value, 4) for name, value in asdict(measured).items()},
    }
    if stored.bits > 8 and not unchanged:
        result["bits_before"] = stored.bits
    before = after = _quality(content, recipe.measure_side)
    enhanced = picture
    if not plan.changes_nothing:
        enhanced = enhance_exactly(picture, plan) if recipe.exact else enhance(picture, plan)
        after = _quality(enhanced[rows, columns], recipe.measure_side)
    result["before"], result["after"] = before, after
    if job.clean is not None:
        result["clean"] = compare_with_clean(job.clean, item.path, picture, enhanced)
    # Unchanged pictures keep their bytes: encoding them again would only lose quality.
    return result, raw if unchanged else encode(enhanced, Path(item.path).suffix, recipe.jpeg_quality)


def process_companion(job: Job, item: Item) -> tuple[Plain, bytes | None]:
    """Copy a file that is not a picture; paths in it are made to point into the output."""
    source, target = job.source / item.path, job.target / item.path
    result: Plain = {"path": item.path, "status": COPIED}
    try:
        rewritten = job.companions.rewritten(item.path)
        if rewritten is not None:
            result["notes"] = list(rewritten.notes)
            return result, rewritten.content
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    except PermissionError as error:
        # It is the output that cannot be written: no fault of this file, and no reason to set it aside.
        if error.filename != str(source):
            raise
        return {"path": item.path, "status": SET_ASIDE, "reason": f"cannot be read ({error.strerror})"}, None
    return result, None


def compare_with_clean(folder: Path, path: str, picture: np.ndarray, enhanced: np.ndarray) -> Plain:
    """PSNR (dB) and SSIM against the clean picture before and after, or the reason why there are none."""
    clean_path = find_clean(folder, path)
    if clean_path is None:
        return {"reason": "no clean picture of this name"}
    try:
        clean = decode(read_bytes(clean_path))
    except BadPictureError as error:
        return {"reason": f"clean picture: {error}"}
    if clean.shape != picture.shape:
        return {"reason": f"clean picture is {clean.shape[1]} × {clean.shape[0]} pixels"}
    if min(clean.shape[:2]) < 11:
        return {"reason": "too small for SSIM"}
    return {
        "psnr_before": _rounded(psnr(picture, clean)),
        "psnr_after": _rounded(psnr(enhanced, clean)),
        "ssim_before": _rounded(ssim(picture, clean)),
        "ssim_after": _rounded(ssim(enhanced, clean)),
    }


def find_clean(folder: Path, path: str) -> Path | None:
    """The clean picture for a relative path: same path, else same path as PNG or JPEG, else same file name."""
    name = Path(path)
    for candidate in (name, name.with_suffix(".png"), name.with_suffix(".jpg"), Path(name.name)):
        if (folder / candidate).is_file():
            return folder / candidate
    for suffix in (".png", ".jpg"):
        if (folder / f"{name.stem}{suffix}").is_file():
            return folder / f"{name.stem}{suffix}"
    return None


def _quality(content: np.ndarray, side: int) -> dict[str, float] | None:
    """UIQM and UCIQE of the reduced picture; ``None`` for pictures too small to measure."""
    small = reduce_picture(content, side)
    if min(small.shape[:2]) < BLOCK:
        return None
    quality = measure_quality(np.ascontiguousarray(small))
    return {"uiqm": _rounded(quality.uiqm), "uciqe": _rounded(quality.uciqe)}


def _rounded(value: float) -> float:
    return round(value, 4)
