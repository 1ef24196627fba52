"""Every defect a real data set has, found, counted and shown; what is safe to mend is mended by data.repair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from marauder.core.clock import Clock
from marauder.core.files import write_json
from marauder.core.plain import Plain
from marauder.core.wording import counted as in_number
from marauder.data.boxes import CLICKED_SIDE, clean_boxes
from marauder.data.contact_sheets import Tile, contact_sheet, tile_of
from marauder.data.duplicates import DEFAULT_DISTANCE, PictureHash, exact_clusters, hash_pictures, near_clusters
from marauder.data.picture_files import Header, PictureError, read_headers
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Problem, Record, counted
from marauder.data.splits import leaking_groups, split_report
from marauder.data.taxonomy import alike_pairs

Severity = Literal["error", "warning"]
ROUNDING = 0.01
"""Pixels by which a side may differ from what was drawn."""
SLIP_SHARE = 0.1
"""Boxes of a class, as a share of those of another whose name differs by a letter, up to which it seems a slip."""
EXAMPLES = 3
"""Findings of a kind that are shown one by one."""


@dataclass(frozen=True)
class Defect:
    """A kind of defect: how bad, one and several of it in words, and what to do. ``fixed``: whether ``--fix`` takes
    care of it."""

    severity: Severity
    one: str
    words: str
    remedy: str
    fixed: bool = False


_FETCH = "fetch the picture again, name its folder with --pictures, or let --fix set it aside"
DEFECTS: dict[str, Defect] = {
    "picture-missing": Defect("error", "picture that does not exist", "pictures that do not exist", _FETCH, True),
    "picture-empty": Defect("error", "picture without a byte", "pictures without a byte", _FETCH, True),
    "picture-unreadable": Defect(
        "error", "file that is not a readable picture", "files that are not readable pictures", _FETCH, True
    ),
    "picture-truncated": Defect("error", "picture cut short", "pictures cut short", _FETCH, True),
    "label-unreadable": Defect(
        "error",
        "label file that cannot be read",
        "label files that cannot be read",
        "correct the file; --fix sets the picture aside",
        True,
    ),
    "label-syntax": Defect(
        "error",
        "label that says nothing",
        "labels that say nothing",
        "correct the line; --fix sets the picture aside",
        True,
    ),
    "label-without-picture": Defect(
        "error",
        "label without a picture",
        "labels without a picture",
        "fetch the picture, or let --fix drop them",
        True,
    ),
    "labels-lost": Defect(
        "error",
        "data set without one label that can be used",
        "data sets without one label that can be used",
        "fix the other findings",
    ),
    "number-invalid": Defect(
        "error",
        "label whose numbers say nothing",
        "labels whose numbers say nothing",
        "correct the label; --fix sets the picture aside",
        True,
    ),
    "label-meaning": Defect(
        "error",
        "label line that is a box with keypoints or an outline",
        "label lines that are boxes with keypoints or outlines",
        "state kpt_shape in data.yaml",
        True,
    ),
    "label-encoding": Defect(
        "error",
        "text in an encoding that it does not state",
        "texts in an encoding that they do not state",
        "save it as UTF-8; --fix sets the picture aside",
        True,
    ),
    "class-missing": Defect(
        "error", "label without a class", "labels without a class", "name it; --fix sets the picture aside", True
    ),
    "class-several": Defect(
        "error",
        "label with several classes",
        "labels with several classes",
        "keep one; --fix sets the picture aside",
        True,
    ),
    "class-name-twice": Defect(
        "error", "class name given twice", "class names given twice", "give every class a different name"
    ),
    "shape-unknown": Defect(
        "error",
        "shape that is not a box",
        "shapes that are not boxes",
        "draw a box; --fix sets the picture aside",
        True,
    ),
    "shape-without-extent": Defect(
        "error",
        "point or line, which has no extent",
        "points and lines, which have no extent",
        "draw boxes; --fix sets the picture aside",
        True,
    ),
    "id-twice": Defect(
        "error",
        "id used for two things",
        "ids used for two things",
        "renumber them; --fix sets the pictures aside",
        True,
    ),
    "picture-ambiguous": Defect(
        "error",
        "name that several pictures bear",
        "names that several pictures bear",
        "name their folders, or give --pictures; --fix sets them aside",
        True,
    ),
    "name-unreadable": Defect(
        "error", "file name that is not text", "file names that are not text", "rename the files"
    ),
    "class-unknown": Defect(
        "error",
        "label of a class that is not among the names",
        "labels of classes that are not among the names",
        "correct the names or the line; --fix sets the picture aside",
        True,
    ),
    "category-missing": Defect(
        "warning", "box without a class", "boxes without a class", "they are kept as ignored boxes"
    ),
    "box-out-of-bounds": Defect(
        "error", "box that leaves the picture", "boxes that leave the picture", "--fix clips them", True
    ),
    "box-degenerate": Defect("error", "box without area", "boxes without area", "--fix drops them", True),
    "box-tiny": Defect(
        "warning",
        "box of at most one pixel",
        "boxes of at most one pixel",
        "look whether each is a click, and draw or delete it",
    ),
    "class-names-alike": Defect(
        "warning",
        "pair of class names that differ little",
        "pairs of class names that differ little",
        "if they mean one class, rename it in the labels, or map both onto one with a taxonomy: "
        "marauder data organize --taxonomy FILE",
    ),
    "box-corners": Defect(
        "warning",
        "box whose corners were in the wrong order",
        "boxes whose corners were in the wrong order",
        "put right",
        True,
    ),
    "box-duplicate": Defect("warning", "box given twice", "boxes given twice", "--fix drops the second", True),
    "size-mismatch": Defect(
        "error",
        "size that is not the picture's",
        "sizes that are not the picture's",
        "see whether the labels belong to it",
        True,
    ),
    "size-scaled": Defect(
        "warning",
        "size that differs by a scale only",
        "sizes that differ by a scale only",
        "boxes are scaled to the picture",
        True,
    ),
    "split-missing": Defect(
        "error",
        "split whose folder or list is missing",
        "splits whose folder or list is missing",
        "correct data.yaml or the list",
    ),
    "group-in-two-splits": Defect(
        "error",
        "clip on several sides of a split",
        "clips on several sides of a split",
        "split again: marauder data split",
    ),
    "duplicates-in-two-splits": Defect(
        "error",
        "picture on several sides of a split",
        "pictures on several sides of a split",
        "split again: marauder data split",
    ),
    "picture-rotated": Defect(
        "warning",
        "picture stored rotated (EXIF)",
        "pictures stored rotated (EXIF)",
        "--fix turns the pixels upright",
        True,
    ),
    "picture-without-label": Defect(
        "warning", "picture without labels", "pictures without labels", "read as unlabelled, see --missing-label"
    ),
    "picture-doubtful": Defect(
        "warning",
        "picture that may have labels which were not read",
        "pictures that may have labels which were not read",
        "left out; correct or fetch the file named, or name its format with --format",
    ),
    "picture-duplicate": Defect(
        "warning",
        "picture that is byte for byte the same as another",
        "pictures that are byte for byte the same as another",
        "--fix keeps one of each, with the boxes of all",
        True,
    ),
    "picture-near-duplicate": Defect(
        "warning",
        "picture that looks the same as one of another clip",
        "pictures of different clips that look the same",
        "marauder data split keeps them together",
    ),
    "picture-absent": Defect(
        "warning",
        "picture that is not here, labels only",
        "pictures that are not here, labels only",
        "fetch them before training",
    ),
    "split-same": Defect(
        "warning",
        "split that names the pictures of another",
        "splits that name the pictures of another",
        "give it pictures of its own: marauder data split",
    ),
    "picture-listed-twice": Defect(
        "warning", "picture listed twice", "pictures listed twice", "the first listing counts", True
    ),
    "names-missing": Defect(
        "warning",
        "place where class names are missing",
        "places where class names are missing",
        "give --names, or write a classes.txt",
    ),
    "root-moved": Defect(
        "warning", "path that leads elsewhere", "paths that lead elsewhere", "correct them in the file named", True
    ),
    "split-twice": Defect(
        "warning", "picture in two split lists", "pictures in two split lists", "the first list counts"
    ),
    "picture-twice": Defect(
        "warning", "picture with several entries", "pictures with several entries", "their boxes are joined", True
    ),
    "picture-outside": Defect(
        "warning",
        "picture outside the data set's folder",
        "pictures outside the data set's folder",
        "see that they are the right ones",
    ),
    "filename-stale": Defect(
        "warning",
        "label file that names another picture than the one beside it",
        "label files that name another picture than the one beside them",
        "the one beside them counts",
    ),
    "boxes-turned": Defect(
        "warning", "box of the pixels as stored", "boxes of the pixels as stored", "turned with their picture", True
    ),
    "units-converted": Defect(
        "warning",
        "box in fractions where pixels belong",
        "boxes in fractions where pixels belong",
        "read as fractions",
        True,
    ),
    "shape-converted": Defect(
        "warning",
        "shape other than an upright box",
        "shapes other than upright boxes",
        "the box around each is taken",
        True,
    ),
    "several-answers": Defect(
        "warning", "picture with several annotations", "pictures with several annotations", "one is taken"
    ),
    "not-answered": Defect(
        "warning", "task that was not submitted", "tasks that were not submitted", "their pictures are unlabelled"
    ),
    "text-encoding": Defect(
        "warning", "text that is not UTF-8", "texts that are not UTF-8", "read as it declares; save it as UTF-8"
    ),
    "labels-none": Defect(
        "warning",
        "folder of pictures without any label",
        "folders of pictures without any label",
        "label some: start with step 3",
    ),
    "picture-unread": Defect(
        "warning",
        "picture that no label names",
        "pictures that no label names",
        "left out; label them, or correct the paths",
    ),
    "file-unread": Defect(
        "warning",
        "file that may hold labels and was not read",
        "files that may hold labels and were not read",
        "see what they are",
    ),
    "format-unread": Defect(
        "warning",
        "label file in another format",
        "label files in another format",
        "name it with --format to read them instead",
    ),
    "mask-specks": Defect("warning", "mask with specks", "masks with specks", "they are left out", True),
}
"""Kind of defect to what it means; the order is that of the report."""


def told_counts(counts: Mapping[str, int], examples: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines that tell findings by kind, in the order of ``DEFECTS``, each with examples; the same everywhere."""
    lines = []
    for kind in sorted(counts, key=list(DEFECTS).index):
        defect = DEFECTS[kind]
        found = in_number(counts[kind], defect.one, defect.words)
        lines.append(f"{defect.severity}: {found} ({kind}); {defect.remedy}")
        lines += [f"    {example}" for example in examples.get(kind, ())]
    return lines


def told(problems: Sequence[Problem], examples: int = EXAMPLES) -> list[str]:
    """The problems of a data set as ``told_counts`` tells them."""
    shown: dict[str, list[str]] = {}
    for problem in problems:
        if len(shown.setdefault(problem.kind, [])) < examples:
            shown[problem.kind].append(str(problem))
    return told_counts(counted(problems), shown)


@dataclass(frozen=True)
class CheckReport:
    """What was found. ``findings``: in the order of ``DEFECTS``; ``splits``: rows of ``splits.split_report``."""

    source: str
    pictures: int
    boxes: int
    names: tuple[str, ...]
    findings: tuple[Problem, ...]
    splits: tuple[Plain, ...] = ()
    dataset: Dataset | None = field(default=None, repr=False, compare=False)

    def counts(self) -> dict[str, int]:
        """Findings of each kind that occurs."""
        return dict(counted(self.findings))

    def of_kind(self, kind: str) -> list[Problem]:
        """All findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def severity(self, severity: Severity) -> int:
        """Number of findings of one severity."""
        return sum(finding.count for finding in self.findings if DEFECTS[finding.kind].severity == severity)

    @property
    def clean(self) -> bool:
        """Whether there is no error; warnings may remain."""
        return self.severity("error") == 0

    def to_plain(self) -> Plain:
        """The report as what JSON knows, with every finding."""
        return {
            "source": self.source,
            "pictures": self.pictures,
            "boxes": self.boxes,
            "names": list(self.names),
            "errors": self.severity("error"),
            "warnings": self.severity("warning"),
            "defects": {kind: {"count": count, **asdict(DEFECTS[kind])} for kind, count in self.counts().items()},
            "splits": list(self.splits),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        write_json(path, self.to_plain())


def check_dataset(
    source: Dataset | Path | str,
    near_duplicate_distance: int = DEFAULT_DISTANCE,
    clock: Clock | None = None,
    **reading: Any,
) -> CheckReport:
    """Look for every defect of ``DEFECTS`` in a data set, or in what ``read_dataset(source, **reading)`` reads.

    Every picture is decoded once. The clock is asked between pictures, or a few of them. Raises ``UserError`` only when
    nothing at all can be read.
    """
    dataset = source if isinstance(source, Dataset) else read_dataset(source, clock=clock, lost=True, **reading)
    findings = list(dataset.problems)
    # The reader has opened the headers, too: what it reported of a picture is not reported twice.
    known = {(finding.kind, finding.path, finding.key) for finding in findings}
    clock = clock or Clock()
    clock.check()
    findings.extend(_box_findings(dataset, clock))
    findings.extend(_names_alike(dataset, clock))
    here = [record for record in dataset if not record.attributes.get("picture_missing")]
    absent = len(dataset) - len(here)
    findings += [
        Problem(str(record.picture), None, "picture-absent", "the picture is not here", record.key)
        for record in dataset
        if record.attributes.get("picture_missing")
    ]
    if absent < len(dataset):
        clock.check()
        headers = read_headers([record.picture for record in here])
        hashes = hash_pictures([record.picture for record in here], clock, label="checking")
        findings += [found for found in _picture_findings(here, headers, hashes) if _place(found) not in known]
        findings += _duplicate_findings(here, hashes, near_duplicate_distance, clock)
    # Reversed, so that the first record of each group is the one that stays.
    first_of = {record.group: record for record in reversed(dataset.records)}
    for group, splits in leaking_groups(dataset).items():
        example = first_of[group]
        message = f"clip {group!r} is in {' and '.join(splits)}"
        findings.append(Problem(str(example.picture), None, "group-in-two-splits", message, example.key))
    order = {kind: number for number, kind in enumerate(DEFECTS)}
    return CheckReport(
        source=dataset.source,
        pictures=len(dataset),
        boxes=sum(len(record.boxes) for record in dataset),
        names=dataset.names,
        findings=tuple(sorted(findings, key=lambda finding: order[finding.kind])),
        splits=tuple(asdict(row) for row in split_report(dataset)) if len(dataset) else (),
        dataset=dataset,
    )


def _place(finding: Problem) -> tuple[str, str, str]:
    return finding.kind, finding.path, finding.key


def _box_findings(dataset: Dataset, clock: Clock) -> Iterator[Problem]:
    """Defects of boxes that stand in the records; readers have mended theirs and noted them already."""
    for record in dataset:
        clock.check()
        clean = clean_boxes(record.boxes, record.classes, record.width, record.height, len(dataset.names))
        for finding in clean.findings:
            yield Problem(str(record.picture), None, finding.kind, finding.message, record.key, finding.count)
        sides = clean.boxes[:, 2:] - clean.boxes[:, :2]
        # Labels are rounded, and fractions of a picture never give whole pixels.
        tiny = np.flatnonzero(sides.min(axis=1) < CLICKED_SIDE + ROUNDING)
        if len(tiny):
            first = ", ".join(f"{value:.6g}" for value in clean.boxes[tiny[0]])
            width, height = sides[tiny[0]]
            words = f"box of {width:.3g} x {height:.3g} pixels ({first})"
            words += f", and {len(tiny) - 1:,} more" if len(tiny) > 1 else ""
            yield Problem(str(record.picture), None, "box-tiny", words, record.key, len(tiny))


def _names_alike(dataset: Dataset, clock: Clock) -> Iterator[Problem]:
    """Pairs of classes, both with boxes, whose names differ by capitals or plural, or by a letter where one has so few
    boxes that it seems a slip of the hand: Scarus and Sparus are two genera."""
    boxes = np.zeros(len(dataset.names), np.int64)
    for record in dataset:
        np.add.at(boxes, record.classes[(record.classes >= 0) & (record.classes < len(boxes))], 1)
    used = [(name, int(count)) for name, count in zip(dataset.names, boxes) if count]
    for one, other, by_a_letter in alike_pairs([name for name, _ in used], clock):
        rare, usual = sorted((used[one], used[other]), key=lambda pair: pair[1])
        if not by_a_letter or rare[1] <= SLIP_SHARE * usual[1]:
            told = [f"{name} ({in_number(number, 'box', 'boxes')})" for name, number in (rare, usual)]
            message = " beside ".join(told)
            yield Problem(dataset.source, None, "class-names-alike", message)


def _picture_findings(
    records: list[Record], headers: list[Header | PictureError], hashes: list[PictureHash | PictureError]
) -> Iterator[Problem]:
    for record, header, result in zip(records, headers, hashes):
        path = str(record.picture)
        bad = header if isinstance(header, PictureError) else result
        if isinstance(bad, PictureError):
            yield Problem(path, None, f"picture-{bad.kind}", bad.detail, record.key)
        elif isinstance(header, Header):
            if header.orientation != 1:
                message = f"stored rotated (EXIF orientation {header.orientation})"
                yield Problem(path, None, "picture-rotated", message, record.key)
            if (header.width, header.height) != (record.width, record.height):
                message = f"the record says {record.width}x{record.height}, the picture {header.width}x{header.height}"
                yield Problem(path, None, "size-mismatch", message, record.key)


def _duplicate_findings(
    records: list[Record], hashes: list[PictureHash | PictureError], distance: int, clock: Clock
) -> Iterator[Problem]:
    """Exact duplicates, and near ones of different groups; those that stand in several splits are errors."""
    good = [(record, item) for record, item in zip(records, hashes) if isinstance(item, PictureHash)]
    readable = [record for record, _ in good]
    exact: dict[int, int] = {}
    for cluster in exact_clusters([record.picture for record in readable], clock):
        yield from _cluster_findings([readable[index] for index in cluster], "picture-duplicate", "the same bytes as")
        exact.update(dict.fromkeys(cluster[1:], cluster[0]))
    for cluster in near_clusters([item for _, item in good], distance, clock):
        # Exact copies were reported above; here the first of them stands for all.
        members = [readable[index] for index in cluster if index not in exact]
        if len({member.group for member in members}) > 1:
            yield from _cluster_findings(members, "picture-near-duplicate", "looks like")


def _cluster_findings(members: list[Record], kind: str, words: str) -> Iterator[Problem]:
    first = members[0]
    for other in members[1:]:
        if kind == "picture-near-duplicate" and other.group == first.group:
            continue
        here, there = (f" ({record.split})" if record.split else "" for record in (other, first))
        yield Problem(str(other.picture), None, kind, f"{other.key}{here} {words} {first.key}{there}", other.key)
        if None not in (other.split, first.split) and other.split != first.split:
            message = f"{other.key} ({other.split}) {words} {first.key} ({first.split})"
            yield Problem(str(other.picture), None, "duplicates-in-two-splits", message, other.key)


def examples_sheet(report: CheckReport, path: Path, per_kind: int = 4, plain: int = 8) -> Path | None:
    """A contact sheet: up to ``per_kind`` pictures of every defect, then ``plain`` pictures without one.

    ``None`` when the data set has no picture to show.
    """
    dataset = report.dataset
    if dataset is None or not len(dataset):
        return None
    by_key = {record.key: record for record in dataset}
    tiles: list[Tile] = []
    shown: set[str] = set()
    for kind in report.counts():
        for finding in _different_places(report.of_kind(kind), per_kind):
            record = by_key.get(finding.key)
            # Of a picture that is not there, the label file says more than a key made for it.
            place = Path(finding.path).name if kind == "picture-missing" else finding.key or Path(finding.path).name
            caption = f"{kind}: {place}"
            if record is not None and kind != "picture-absent":
                tiles.append(tile_of(record, dataset.names, caption))
                shown.add(record.key)
            elif kind.startswith("picture-") and kind != "picture-absent":
                instead = DEFECTS[kind].one if kind == "picture-missing" else ""
                tiles.append(Tile(Path(finding.path), caption, instead=instead))
    present = [record for record in dataset if record.key not in shown and record.picture.is_file()]
    # Spread over the whole: neighbours are often frames of one clip.
    step = max(1, len(present) // max(1, plain))
    tiles += [tile_of(record, dataset.names) for record in present[::step][:plain]]
    errors, warnings = report.severity("error"), report.severity("warning")
    title = f"{report.source}: {in_number(errors, 'error')}, {in_number(warnings, 'warning')}"
    return contact_sheet(tiles, path, title=title) if tiles else None


def _different_places(findings: Iterable[Problem], count: int) -> list[Problem]:
    places: dict[str, Problem] = {}
    for finding in findings:
        places.setdefault(finding.key or finding.path, finding)
        if len(places) == count:
            break
    return list(places.values())
