"""What a selection leaves behind: the pictures in a folder, ``selection.json``, and the words that sum it up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marauder.core.decides import decided
from marauder.core.files import as_json, portable_path, write_bytes
from marauder.core.plain import Plain
from marauder.core.settings import Decides
from marauder.core.wording import counted
from marauder.data.records import Record
from marauder.data.writers import place_picture
from marauder.pages.showing import begin_sentence
from marauder.selection.basket import Pick, Pool
from marauder.selection.price import Price
from marauder.selection.settings import SelectionSettings

PICTURES, SELECTION, SHEET, MAP, PAGE = "images", "selection.json", "contact_sheet.jpg", "pool_map.png", "report.html"
KIND_WORDS = {
    "uncertain": "the detector is unsure",
    "medoid": "represents many similar ones",
    "far": "unlike everything else",
    "typical": "typical of a kind not labelled yet",
    "balance": "of classes with few boxes",
    "quota": "requested by a quota",
    "random": "drawn at random",
}
"""Kinds of reasons in a few words, in the order in which they are shown."""


@dataclass(frozen=True, eq=False)
class Selected:
    """A finished choice with all that is said about it.

    ``records``: of the pool's N pictures. ``names``: of the classes, where anything says them. ``picks``: most wanted
    first. ``measures``: each (N,). ``boxes_known``: whether the pool's boxes are an estimate and not a mere
    placeholder. ``changes``: how pictures were chosen otherwise than was asked for. ``left_out``, ``set_aside``: why
    some pictures were no candidates, by key or path.
    """

    settings: SelectionSettings
    records: Sequence[Record]
    names: tuple[str, ...]
    pool: Pool
    picks: tuple[Pick, ...]
    strategy: str
    measures: dict[str, np.ndarray]
    price: Price
    boxes_known: bool
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: dict[str, str]
    set_aside: dict[str, str]

    def file_of(self, rank: int) -> str:
        """Where the pick of a rank (from 1) lies below the output folder."""
        record = self.records[self.picks[rank - 1].index]
        stem = re.sub(r"[^\w.+-]+", "_", record.key.replace("/", "__")).strip("._")[:120] or "picture"
        return f"{PICTURES}/{rank:0{max(4, len(str(len(self.picks))))}d}_{stem}{record.picture.suffix.lower()}"

    def as_dict(self) -> Plain:
        """What ``selection.json`` holds: the same for the same pictures, models and settings."""
        deciding = decided(self.settings, Decides.RESULT, by_content=False)
        return {
            "format": 1,
            "pool": str(self.settings.pool),
            "names": list(self.names),
            "strategy": self.strategy,
            "candidates": len(self.records),
            "picks": [self._pick(rank, pick) for rank, pick in enumerate(self.picks, 1)],
            "price": self.price.as_dict(),
            "changes": list(self.changes),
            "notes": list(self.notes),
            "left_out": dict(sorted(self.left_out.items())),
            "set_aside": dict(sorted(self.set_aside.items())),
            "settings": deciding,
        }

    def _pick(self, rank: int, pick: Pick) -> Plain:
        record = self.records[pick.index]
        scores = {name: _rounded(values[pick.index]) for name, values in sorted(self.measures.items())}
        expected = {
            name: _rounded(count)
            for name, count in zip(self.pool.names, self.pool.class_counts[pick.index], strict=False)
            if count >= 0.05
        }
        return {
            "key": record.key,
            "picture": portable_path(record.picture, self.settings.output),
            "file": self.file_of(rank),
            "rank": rank,
            "kind": pick.kind,
            "reason": pick.reason,
            "cluster": pick.cluster,
            "uncertainty": None if pick.score is None else _rounded(pick.score),
            "scores": scores,
            "estimated_boxes": _rounded(self.pool.boxes[pick.index]) if self.boxes_known else None,
            "expected_classes": expected,
            "group": record.group,
        }


@dataclass(frozen=True)
class SelectionSummary:
    """What came out. ``changes``: how pictures were chosen otherwise than was asked for. ``reused``: everything was
    done by an earlier run already."""

    output: Path
    strategy: str
    candidates: int
    picked: int
    kinds: dict[str, int]
    price: str
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: dict[str, int]
    set_aside: dict[str, str]
    next_command: str
    reused: bool = False

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.output / PAGE

    def message(self) -> str:
        """The result in plain words, with what to do next."""
        again = " (done before; nothing changed since)" if self.reused else ""
        # On top: they change what everything below means.
        lines = [f"{begin_sentence(change).rstrip('.')}." for change in self.changes]
        pool = counted(self.candidates, "picture")
        lines.append(f"{self.picked:,} of {pool} chosen by the strategy {self.strategy}{again}:")
        lines += [f"  {count:,} {KIND_WORDS[kind]}" for kind, count in self.kinds.items()]
        lines.append(f"To label them: {self.price}.")
        lines += [f"left out: {count:,} pictures: they {reason}" for reason, count in self.left_out.items()]
        lines += [f"set aside: {path}: {reason}" for path, reason in list(self.set_aside.items())[:5]]
        if len(self.set_aside) > 5:
            lines.append(f"... and {len(self.set_aside) - 5:,} more in {self.output / SELECTION}")
        lines += [f"note: {note.rstrip('.')}" for note in self.notes]
        lines.append(f"Look at {self.report}. Then send them out for annotation:\n  {self.next_command}")
        return "\n".join(lines)


def summarise(selected: Selected, next_command: str) -> SelectionSummary:
    """The summary of a finished choice."""
    kinds = Counter(pick.kind for pick in selected.picks)
    return SelectionSummary(
        output=selected.settings.output,
        strategy=selected.strategy,
        candidates=len(selected.records),
        picked=len(selected.picks),
        kinds={kind: kinds[kind] for kind in KIND_WORDS if kinds[kind]},
        price=selected.price.words(),
        changes=selected.changes,
        notes=selected.notes,
        left_out=dict(Counter(selected.left_out.values()).most_common()),
        set_aside=dict(sorted(selected.set_aside.items())),
        next_command=next_command,
    )


def place_pictures(selected: Selected) -> None:
    """Fill ``images/`` with links to the picks, or copies; what else is in there goes."""
    folder = selected.settings.output / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {Path(selected.file_of(rank)).name: pick for rank, pick in enumerate(selected.picks, 1)}
    for stranger in folder.iterdir():
        if stranger.name not in wanted:
            stranger.unlink()
    for name, pick in wanted.items():
        # The file itself: a link to a link of a data set would break with that data set.
        place_picture(selected.records[pick.index].picture.resolve(), folder / name, selected.settings.place)


def write_selection(selected: Selected) -> str:
    """Write ``selection.json``; a different one that is there is kept beside it. Returns the SHA-256."""
    target, content = selected.settings.output / SELECTION, as_json(selected.as_dict())
    before = target.read_bytes() if target.is_file() else content
    # Kept first: a kill in between leaves the old one twice, never nowhere.
    if before != content:
        write_bytes(target.with_name("selection.superseded.json"), before)
    return write_bytes(target, content)


def _rounded(value: float) -> float:
    # Enough to tell pictures apart, and no digits that differ from one processor to another.
    return round(float(value), 4)
