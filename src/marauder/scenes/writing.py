"""Writes the generated reef as a plain YOLO data set: resumable clip by clip, in several processes, to the same bytes.

    data.yaml  records.jsonl  images/<split>/*.jpg  labels/<split>/*.txt  [images_clean/<split>/*.png]

A finished clip leaves a note with the checksums of its files in ``.scenes/clips``; the same command run again checks
them and draws only what is missing or damaged. At the end the notes become ``records.jsonl``, which states each
picture's group (the clip), split, size and attributes, and each box's visible share.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import (
    DamagedFileError,
    fingerprint,
    hash_file,
    read_json,
    read_lines,
    remove_leftovers,
    write_bytes,
    write_json,
    write_text,
)
from marauder.core.locks import exclusive
from marauder.core.plain import Plain
from marauder.core.progress import Progress
from marauder.data.records import Dataset, Record
from marauder.data.splits import split_dataset
from marauder.scenes.composition import plan_clip
from marauder.scenes.rendering import ClipRenderer, Frame
from marauder.scenes.settings import SceneSettings
from marauder.scenes.species import NAMES

GENERATOR_VERSION = 1
"""Raised whenever the same settings would give other pictures."""

_STATE = ".scenes"
_PARTS = ("images", "labels", "images_clean")
_CLIPS_WORTH_A_WORKER = 12

Row = Plain


@dataclass(frozen=True)
class _Job:
    """One clip to draw and write."""

    root: str
    seed: int
    clip: int
    frames: int
    split: str
    width: int
    height: int
    quality: int
    keep_clean: bool


def generate_scenes(settings: SceneSettings, clock: Clock) -> Path:
    """Generate the data set, or what of it is missing, and return the path of its ``data.yaml``.

    Raises ``Interrupted`` when the clock says stop (finished clips stay; the next call continues), ``UserError`` when
    the folder holds something else or scenes of other settings.
    """
    root = settings.output
    identity = _identity(settings)
    _check_folder(root, identity, settings.fresh)
    with exclusive(root / _STATE / "lock", f"the folder {root}"):
        if settings.fresh:
            _clear(root)
        if settings.fresh or not (root / _STATE / "settings.json").exists():
            # Before the first picture: after a kill the folder is known as ours, and by which settings.
            write_json(root / _STATE / "settings.json", identity)
        jobs = _plan_jobs(settings)
        _remove_leftovers(root)
        rows = _read_finished(root, jobs)
        missing = [job for job in jobs if job.clip not in rows]
        if missing or not (root / "data.yaml").exists():
            _draw(settings, missing, rows, clock)
            _finish(root, rows)
        else:
            _remove_notes(root)  # killed between the last file and this, an earlier call left some
    return root / "data.yaml"


def _identity(settings: SceneSettings) -> Row:
    chosen = settings.model_dump(mode="json", exclude={"output", "workers", "fresh"})
    return {**chosen, "clips": settings.number_of_clips, "version": GENERATOR_VERSION}


def _check_folder(root: Path, identity: Row, fresh: bool) -> None:
    """Refuse a folder with foreign content, and one with scenes of other settings unless starting over."""
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is a file; choose a folder with --output")
    if not root.exists() or not any(root.iterdir()):
        return
    marker = root / _STATE / "settings.json"
    if not marker.exists():
        # Killed between taking the lock and writing the settings.
        if {entry.name for entry in root.iterdir()} == {_STATE}:
            return
        raise UserError(f"{root}: holds files that are not generated scenes; choose another --output")
    if fresh:
        return
    try:
        earlier = read_json(marker)
    except DamagedFileError as error:
        raise UserError(f"{error}; or start over with --fresh") from None
    if fingerprint(earlier) != fingerprint(identity):
        changed = [name for name in identity if not isinstance(earlier, dict) or earlier.get(name) != identity[name]]
        raise UserError(
            f"{root}: holds scenes made with other settings ({', '.join(changed)}); "
            "choose another --output, or start over with --fresh"
        )


def _clear(root: Path) -> None:
    for part in (*_PARTS, f"{_STATE}/clips"):
        if (root / part).exists():
            shutil.rmtree(root / part)
    for file in ("data.yaml", "records.jsonl"):
        (root / file).unlink(missing_ok=True)


def _plan_jobs(settings: SceneSettings) -> list[_Job]:
    """Every clip with its number of frames and its split; splits are balanced by what the clips are going to show."""
    records = []
    for clip in range(settings.number_of_clips):
        plan = plan_clip(settings.seed, clip, settings.width, settings.height)
        classes = np.array([animal.species for animal in plan.animals], np.int64)
        key = f"{clip:06d}"
        records.append(Record(key, Path(key), settings.width, settings.height, np.zeros((len(classes), 4)), classes))
    divided = split_dataset(Dataset(NAMES, tuple(records)), settings.fractions, settings.seed)
    splits = [str(record.split) for record in divided]
    _fill_empty(splits, tuple(settings.fractions))
    return [
        _Job(
            root=str(settings.output),
            seed=settings.seed,
            clip=clip,
            frames=settings.frames_of(clip),
            split=split,
            width=settings.width,
            height=settings.height,
            quality=settings.quality,
            keep_clean=settings.keep_clean,
        )
        for clip, split in enumerate(splits)
    ]


def _fill_empty(splits: list[str], names: tuple[str, ...]) -> None:
    """Give a split without any clip one of the largest split's: every split must exist."""
    for name in names:
        if name not in splits:
            largest = Counter(splits).most_common(1)[0][0]
            splits[len(splits) - 1 - splits[::-1].index(largest)] = name


def _read_finished(root: Path, jobs: list[_Job]) -> dict[int, list[Row]]:
    """Rows of the clips that are finished and whose files are all there, unharmed."""
    found: dict[int, list[Row]] = {}
    for row in read_lines(root / "records.jsonl"):
        found.setdefault(int(row["attributes"]["clip"]), []).append(row)
    for job in jobs:
        # A note is newer than the rows of an earlier, finished call.
        note = _note(root, job.clip)
        if note.exists():
            try:
                found[job.clip] = read_json(note)
            except DamagedFileError:
                found.pop(job.clip, None)
    wanted = {job.clip: job for job in jobs}
    return {
        clip: rows
        for clip, rows in found.items()
        if clip in wanted and len(rows) == wanted[clip].frames and all(_is_whole(root, row) for row in rows)
    }


def _is_whole(root: Path, row: Row) -> bool:
    return all((root / name).is_file() and hash_file(root / name) == value for name, value in row["sha256"].items())


def _note(root: Path, clip: int) -> Path:
    return root / _STATE / "clips" / f"{clip:06d}.json"


def _draw(settings: SceneSettings, jobs: list[_Job], rows: dict[int, list[Row]], clock: Clock) -> None:
    """Draw the clips of ``jobs``, adding their rows to ``rows`` and leaving a note of each finished clip."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    worthwhile = max(1, min(processors, len(jobs) // _CLIPS_WORTH_A_WORKER))
    workers = min(settings.workers or worthwhile, max(1, len(jobs)))
    already = sum(len(clip_rows) for clip_rows in rows.values())
    with Progress("reef scenes", settings.count, already_done=already) as progress:
        for clip, clip_rows in _in_this_process(jobs, clock) if workers == 1 else _in_workers(jobs, workers, clock):
            # After the clip's files: a note vouches for them.
            write_json(_note(settings.output, clip), clip_rows)
            rows[clip] = clip_rows
            progress.advance(len(clip_rows))


def _in_this_process(jobs: list[_Job], clock: Clock) -> Iterator[tuple[int, list[Row]]]:
    with _single_threaded():
        for job in jobs:
            clock.check()
            yield job.clip, _write_clip(job)


def _in_workers(jobs: list[_Job], workers: int, clock: Clock) -> Iterator[tuple[int, list[Row]]]:
    """Draw in processes of their own. When the clock says stop, clips under way are finished and handed over first."""
    waiting = list(reversed(jobs))
    running: dict[Future[list[Row]], int] = {}
    # A fork would copy the locks of threads that the child does not have.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
            while waiting or running:
                stopping = clock.stop_reason() is not None
                # One more than there are workers, so that none waits for its next clip.
                while waiting and not stopping and len(running) < workers + 1:
                    job = waiting.pop()
                    running[pool.submit(_write_clip, job)] = job.clip
                if not running:
                    break
                # The timeout: a stop is to be heard while clips are drawn.
                finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield running.pop(future), future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was ended from outside (out of memory?); run again with fewer --workers"
        ) from None
    if waiting:
        clock.check()


def _start_worker() -> None:
    """Set up a worker: one thread, no signals of its own, and an end when the main process ends."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            # sys.exit would end this thread alone.
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _single_threaded() -> Iterator[None]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _write_clip(job: _Job) -> list[Row]:
    """Draw and write all frames of one clip; the rows that describe them."""
    renderer = ClipRenderer(job.seed, job.clip, job.width, job.height)
    return [_write_frame(job, number, renderer.frame(number)) for number in range(job.frames)]


def _write_frame(job: _Job, number: int, frame: Frame) -> Row:
    group = f"reef{job.seed}-{job.clip:05d}"
    key = f"{group}-{number:03d}"
    record = Record(key, Path(f"{key}.jpg"), job.width, job.height, frame.boxes, frame.classes)
    files = {
        f"images/{job.split}/{key}.jpg": encode(frame.picture, job.quality),
        f"labels/{job.split}/{key}.txt": _label_text(record).encode("ascii"),
    }
    if job.keep_clean:
        files[f"images_clean/{job.split}/{key}.png"] = _encode(frame.clean, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1])
    root = Path(job.root)
    checksums = {name: write_bytes(root / name, content) for name, content in files.items()}
    return {
        "file": f"images/{job.split}/{key}.jpg",
        "key": key,
        "group": group,
        "split": job.split,
        "labelled": True,
        "size": [job.width, job.height],
        "attributes": frame.attributes,
        "ignored": [],
        "visible": [round(float(share), 3) for share in frame.visible],
        "sha256": checksums,
    }


def encode(picture: np.ndarray, quality: int) -> bytes:
    """JPEG bytes of a picture, uint8 (H, W, 3) in blue, green, red."""
    return _encode(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encode(picture: np.ndarray, suffix: str, options: list[int]) -> bytes:
    written, content = cv2.imencode(suffix, picture, options)
    if not written:
        raise RuntimeError(f"OpenCV cannot encode {suffix}")
    return content.tobytes()


def _label_text(record: Record) -> str:
    lines = zip(record.classes, record.normalised_boxes(), strict=True)
    return "".join(f"{index} " + " ".join(f"{value:.8f}" for value in box) + "\n" for index, box in lines)


def _remove_leftovers(root: Path) -> None:
    """Delete what killed writers left half-written."""
    for folder in (root, *(folder for part in _PARTS for folder in (root / part).glob("*"))):
        remove_leftovers(folder)


def _finish(root: Path, rows: dict[int, list[Row]]) -> None:
    """Put the clips' rows together into ``records.jsonl`` and write ``data.yaml`` last, as the sign of completion."""
    _remove_leftovers(root)
    ordered = [row for clip in sorted(rows) for row in rows[clip]]
    write_text(root / "records.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ordered))
    present = {str(row["split"]) for row in ordered}
    usual = ("train", "val", "test")
    splits = sorted(present, key=lambda name: (usual.index(name) if name in usual else len(usual), name))
    content: Row = {name: f"images/{name}" for name in splits}
    content |= {"nc": len(NAMES), "names": dict(enumerate(NAMES))}
    header = "# Generated reef scenes with exact boxes; see docs/scenes.md\n"
    write_text(root / "data.yaml", header + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    _remove_notes(root)


def _remove_notes(root: Path) -> None:
    """Delete the notes of finished clips, which nobody needs once ``data.yaml`` is there."""
    if (root / _STATE / "clips").exists():
        shutil.rmtree(root / _STATE / "clips")
