"""Writing a data set as plain YOLO: ``images/<split>/``, ``labels/<split>/`` and a ``data.yaml`` for Ultralytics.

Beside it, ``records.jsonl`` holds what YOLO text cannot: keys, groups, attributes (of pictures and of boxes), ignored
boxes and which pictures are unlabelled; with it, reading the folder back gives the same records (boxes to a millionth
of a pixel, ignored ones last). ``dataset.json`` marks the folder as ours and says whether it is complete, and what was
written, so that what was damaged since is noticed; ``data.yaml`` is written before it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import (
    TEMPORARY_SUFFIX,
    DamagedFileError,
    atomic_path,
    fingerprint,
    hash_file,
    portable_path,
    read_json,
    to_plain,
    write_json,
    write_text,
)
from marauder.core.locks import LOCK_FILE
from marauder.core.plain import Plain
from marauder.core.progress import Progress
from marauder.data.formats.yolo_settings import SPLIT_KEYS, UNLABELLED_KEY
from marauder.data.records import Dataset, Record
from marauder.data.stored import RECORDS_FILE, STATE_FILE, stored_rows

DATA_FILE = "data.yaml"
MODES = ("link", "copy", "reference")
WRITE_THREADS = 8
WRITE_BLOCK = 128


@dataclass(frozen=True)
class _Planned:
    record: Record
    folder: str
    picture: str
    label: str | None


def write_yolo(
    dataset: Dataset, folder: Path | str, mode: str = "link", clock: Clock | None = None, label: str = "writing"
) -> Path:
    """Write ``dataset`` to ``folder`` and return the path of its ``data.yaml``.

    ``mode``: ``link`` puts symbolic links (relative) to the pictures, ``copy`` copies them, ``reference`` leaves them
    where they are (list files with absolute paths; only Marauder finds the labels then, and the pictures may be
    absent). Records without a split go to train; unlabelled ones go to ``images/unlabelled``, which no trainer takes
    for empty pictures. Names, labels and ``data.yaml`` depend on the records alone. Files of an earlier, other content
    are removed; a folder that holds anything not written here raises ``UserError``, as does a split that is none of
    train, val, test. The clock is asked between blocks of pictures; run again, what is already right is left alone.
    """
    root = Path(folder)
    if mode not in MODES:
        raise UserError(f"mode {mode!r}: choose one of {', '.join(MODES)}")
    clock = clock or Clock()
    # All are looked for before anything is written or removed.
    for record in dataset if mode != "reference" else ():
        clock.check()
        if not record.picture.is_file():
            raise UserError(f"{record.picture}: the picture does not exist; fetch it, or use mode 'reference'")
    plan = _plan(dataset, mode)
    state = {"written_by": "marauder", "format": 1, "mode": mode, "pictures": len(plan)}
    claim_folder(root)
    data_file = root / DATA_FILE
    content = _data_yaml(dataset, plan, mode)
    if data_file.exists() and data_file.read_text(encoding="utf-8") != content:
        data_file.unlink()  # a data.yaml never describes a folder that is half another data set
    _remove_strangers(root, plan, mode)

    def write_one(item: _Planned) -> None:
        if mode != "reference":
            place_picture(item.record.picture, root / item.picture, mode)
        if item.label is not None:
            _write_if_changed(root / item.label, label_text(item.record))

    # Threads, since a flushed file waits for the disk, and many wait together.
    with ThreadPoolExecutor(WRITE_THREADS) as pool, Progress(label, len(plan)) as progress:
        for start in range(0, len(plan), WRITE_BLOCK):
            clock.check()
            block = plan[start : start + WRITE_BLOCK]
            # list() raises what was raised in a thread.
            list(pool.map(write_one, block))
            progress.advance(len(block))
    if mode == "reference":
        for name in dict.fromkeys(item.folder for item in plan):
            paths = "".join(f"{item.picture}\n" for item in plan if item.folder == name)
            _write_if_changed(root / f"{name}.txt", paths)
    rows, lines = [], []
    for item in plan:
        clock.check()
        rows.append(_row(item, mode))
        lines.append(json.dumps(to_plain(rows[-1]), ensure_ascii=False, sort_keys=True) + "\n")
    _write_if_changed(root / RECORDS_FILE, "".join(lines))
    state |= {"fingerprint": fingerprint([content, rows]), "content": _content(root, rows, clock)}
    _write_if_changed(data_file, content)
    # Last: "complete" vouches for everything else.
    write_json(root / STATE_FILE, {**state, "complete": True, "data_yaml": hash_file(data_file)})
    return data_file


def demand_own_folder(root: Path) -> None:
    """Raise ``UserError`` when ``root`` is a file, or holds files that are not ours."""
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is a file; name a folder for the data set")
    ours = (root / STATE_FILE).exists() or not root.is_dir()
    if not ours and any(path.name != LOCK_FILE for path in root.iterdir()):
        raise UserError(f"{root}: is not empty and was not written by marauder; name another folder, or empty it")


def claim_folder(root: Path) -> None:
    """Mark ``root`` as a data set in the making. Raises ``UserError`` when it holds files that are not ours."""
    demand_own_folder(root)
    write_json(root / STATE_FILE, {"written_by": "marauder", "format": 1, "complete": False})


def is_complete(root: Path, clock: Clock | None = None) -> bool:
    """Whether ``root`` holds a data set that was written to its end and is unchanged since: texts by their content,
    pictures by where their link leads, or by the copy's size and time of change. The clock is asked between files."""
    try:
        state = read_json(root / STATE_FILE)
        if not isinstance(state, dict) or not state.get("complete"):
            return False
        if state.get("data_yaml") != hash_file(root / DATA_FILE):
            return False
        return bool(state.get("content") == _content(root, stored_rows(root), clock or Clock()))
    except (OSError, UserError, DamagedFileError):
        return False


def _content(root: Path, rows: list[Plain], clock: Clock) -> str:
    """Hash of all that a data set consists of but ``data.yaml``. Raises ``OSError`` for a file that is not there."""
    digest = hashlib.sha256()
    lists = [f"{name}.txt" for name in (*SPLIT_KEYS, UNLABELLED_KEY) if (root / f"{name}.txt").exists()]
    for name in (RECORDS_FILE, *lists):
        digest.update(f"{name} {hash_file(root / name)}\n".encode())
    for row in rows:
        clock.check()
        if row.get("labelled"):
            label = row.get("label") or re.sub(r"^images/(.*)\.[^.]*$", r"labels/\1.txt", row["file"])
            digest.update(f"{hash_file(root / label)}\n".encode())
        if "label" not in row:
            # A link may lead to a name that is no UTF-8.
            digest.update(f"{_state(root / row['file'])}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _state(picture: Path) -> str:
    state = picture.lstat()
    if stat.S_ISLNK(state.st_mode):
        picture.stat()  # raises where the link leads nowhere
        return os.readlink(picture)  # noqa: PTH115 - compared as text
    return f"{state.st_size} {state.st_mtime_ns}"


def label_text(record: Record) -> str:
    """The record's boxes as YOLO lines (ignored ones left out), ten decimals at most."""
    lines = []
    for index, ignored, box in zip(record.classes, record.ignored, record.normalised_boxes()):
        if not ignored:
            # Rounding may leave a value a hair outside of 0 to 1, which trainers refuse.
            lines.append(" ".join([str(int(index)), *(_decimal(min(max(value, 0.0), 1.0)) for value in box)]))
    return "".join(f"{line}\n" for line in lines)


def _decimal(value: float) -> str:
    return f"{value:.10f}".rstrip("0").rstrip(".") or "0"


def _plan(dataset: Dataset, mode: str) -> list[_Planned]:
    taken: set[tuple[str, str]] = set()
    plan = []
    for record in dataset:
        folder = (record.split or "train") if record.labelled else UNLABELLED_KEY
        if folder not in (*SPLIT_KEYS, UNLABELLED_KEY):
            raise UserError(f"{record.key}: split {folder!r} has no place in data.yaml; use train, val and test")
        stem = re.sub(r"[^\w.+-]+", "_", record.key.replace("/", "__")).strip("._") or "picture"
        # Files differing in case only would be one file on many disks.
        if (folder, stem.lower()) in taken or len(stem) > 180:
            stem = f"{stem[:160]}-{fingerprint(record.key)[:10]}"
        taken.add((folder, stem.lower()))
        suffix = record.picture.suffix.lower() or ".jpg"
        label = f"labels/{folder}/{stem}.txt" if record.labelled else None
        picture = f"images/{folder}/{stem}{suffix}"
        if mode == "reference":
            picture = record.picture.absolute().as_posix()
        plan.append(_Planned(record, folder, picture, label))
    return plan


def _row(item: _Planned, mode: str) -> Plain:
    record = item.record
    row: Plain = {
        "file": item.picture,
        "key": record.key,
        "group": record.group,
        "split": record.split,
        "labelled": record.labelled,
        "attributes": record.attributes,
    }
    if record.ignored.any():
        scale = [record.width, record.height, record.width, record.height]
        chosen = zip(record.classes[record.ignored], record.boxes[record.ignored])
        row["ignored"] = [[int(index), *(value / side for value, side in zip(box, scale))] for index, box in chosen]
    if record.box_attributes:
        # In the order in which the boxes are read back: ignored ones last.
        order = np.argsort(record.ignored, kind="stable")
        row["box_attributes"] = {name: column[order] for name, column in record.box_attributes.items()}
    if mode == "reference":
        row["label"] = item.label or f"labels/{item.folder}/none.txt"
        row["size"] = [record.width, record.height]
    return row


def _data_yaml(dataset: Dataset, plan: list[_Planned], mode: str) -> str:
    used = {item.folder for item in plan}
    content: Plain = {
        name: f"{name}.txt" if mode == "reference" else f"images/{name}"
        for name in (*SPLIT_KEYS, UNLABELLED_KEY)
        if name in used
    }
    content["names"] = dict(enumerate(dataset.names))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)


def _remove_strangers(root: Path, plan: list[_Planned], mode: str) -> None:
    """Delete what an earlier write left under images/ and labels/ and the new plan has no place for."""
    wanted = {item.label for item in plan} | ({item.picture for item in plan} if mode != "reference" else set())
    for top in ("images", "labels"):
        for directory, _, files in os.walk(root / top):
            for name in files:
                path = Path(directory, name)
                if path.relative_to(root).as_posix() not in wanted:
                    path.unlink()
    for name in (*SPLIT_KEYS, UNLABELLED_KEY):
        if mode != "reference":
            (root / f"{name}.txt").unlink(missing_ok=True)


def place_picture(source: Path, target: Path, mode: str) -> None:
    """Bring a picture to ``target``, as a symbolic link with ``mode`` ``link`` (relative as ``portable_path`` says),
    else as a copy; what is right already is left alone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if mode == "link":
        link = portable_path(source.resolve(), target.parent.resolve())
        if target.is_symlink() and os.readlink(target) == link:  # noqa: PTH115 - compared as text
            return
        # A link cannot be overwritten; made under another name and renamed, it leaves no moment without a picture.
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
        try:
            temporary.symlink_to(link)
            temporary.replace(target)
            return
        except (OSError, NotImplementedError):
            # A disk without symbolic links: a copy does the same.
            temporary.unlink(missing_ok=True)
    state = source.stat()
    if target.is_file() and not target.is_symlink():
        existing = target.stat()
        if (existing.st_size, existing.st_mtime_ns) == (state.st_size, state.st_mtime_ns):
            return
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)
        # By size and time a copy is recognised the next time.
        os.utime(partial, ns=(state.st_atime_ns, state.st_mtime_ns))


def _write_if_changed(path: Path, content: str) -> None:
    if not (path.is_file() and path.read_bytes() == content.encode("utf-8")):
        write_text(path, content)
