"""From any number of sources to one split data set in plain YOLO: read, map names, group, split, write, report.

The same inputs and settings give the same bytes; run again, a finished folder is recognised by the fingerprint of its
inputs (paths, sizes and times of change) and left alone, and an unfinished one is resumed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, fingerprint, hash_file, read_json, remove_leftovers, write_json
from marauder.core.locks import LOCK_FILE, exclusive
from marauder.core.mistakes import Mistake, Mistakes, nearest
from marauder.core.plain import Plain
from marauder.core.plugins import is_known
from marauder.core.plugins import names as plugin_names
from marauder.core.settings import Decides, Existing, Places, Settings
from marauder.core.wording import counted as in_number
from marauder.core.wording import to_type
from marauder.data.duplicates import DEFAULT_DISTANCE, hash_pictures, near_clusters
from marauder.data.formats.source import Source
from marauder.data.groups import GroupPattern, join_groups
from marauder.data.picture_files import PictureError
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Problem, counted, merge
from marauder.data.repair import demand_known_classes, without_doubtful
from marauder.data.splits import DEFAULT_FRACTIONS, Fractions, leaking_groups, split_dataset, split_report
from marauder.data.taxonomy import DEFAULT_FILE, Taxonomy, apply_taxonomy
from marauder.data.writers import DATA_FILE, claim_folder, demand_own_folder, is_complete, write_yolo

SUMMARY_FILE = "organize.json"
HASH_STORE = "hashes.jsonl"
FORMAT = 2


class OrganizeSettings(Settings):
    """What ``organize`` does.

    ``format``: a reader's name or ``auto``. ``taxonomy``: ``default``, ``source`` (keep the sources' names) or a file.
    ``names``: class names of sources that have none, spaces around them left out. ``fractions``: shares of the
    splits; ``None`` keeps the sources' own splits. ``keep_splits``: with fractions, groups that have a split keep it.
    ``near_duplicates``: pictures whose hashes differ in at most ``near_duplicate_distance`` bits join one group.
    ``pictures``: the pictures' folder where that is not beside the labels. ``mode``: see ``writers.write_yolo``.
    """

    decides: ClassVar[Decides] = Decides.RESULT

    inputs: Annotated[tuple[Path, ...], Decides.PLACE, Existing()] = Field(min_length=1)
    output: Annotated[Path, Decides.PLACE]
    format: str = "auto"
    taxonomy: str = "default"
    names: tuple[str, ...] | None = None
    fractions: Fractions | None = Field(default_factory=lambda: dict(DEFAULT_FRACTIONS))
    keep_splits: bool = False
    seed: int = 0
    group_pattern: GroupPattern | None = None
    near_duplicates: bool = True
    near_duplicate_distance: int = Field(default=DEFAULT_DISTANCE, ge=0, le=16)
    missing_label: Literal["unlabelled", "empty"] = "unlabelled"
    pictures: Annotated[Path | None, Existing()] = None
    mode: Literal["link", "copy", "reference"] = "link"
    fresh: Annotated[bool, Decides.NOTHING] = False

    @field_validator("names")
    @classmethod
    def _stripped(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        stripped = tuple(name.strip() for name in names) if names is not None else None
        if stripped is not None and not all(stripped):
            # Left out in silence, every name behind it would belong to another class.
            raise ValueError(f"class name {stripped.index('')} is empty; name every class")
        return stripped

    @property
    def taxonomy_file(self) -> Path | None:
        """The table of species; ``None``: the sources' own names are kept."""
        return {"default": DEFAULT_FILE, "source": None}.get(self.taxonomy, Path(self.taxonomy))

    def mistakes(self, places: Places) -> Iterator[Mistake]:
        """A taxonomy that is not there or has mistakes, a format that there is not."""
        if self.format != "auto" and not is_known("reader", self.format):
            told = nearest(self.format, [*plugin_names("reader"), "auto"], "docs/formats.md names all")
            yield places.mistake("format", f"no format named {self.format!r}{told}")
        file = self.taxonomy_file
        if file is None:
            return
        if places.missing(file):
            words = f"{file}: no such file; give default, source (keep the sources' names), or a file"
            yield places.mistake("taxonomy", words)
        elif file != DEFAULT_FILE:
            found = Mistakes()
            with found.gathered():
                Taxonomy.load(file)
            yield from found.found


@dataclass(frozen=True)
class OrganizeSummary:
    """What came out. ``data_yaml``: the data set; ``already_done``: nothing had to be done.

    ``mapped``: source name to (class name, boxes); ``unmapped``: source name to boxes left out, most first.
    ``splits``: rows of name, counts by split, groups. ``set_aside``: pictures left out as a whole, with the (first)
    reason. ``problems``: count of each kind; ``examples``: up to five of each.
    """

    data_yaml: Path
    pictures: int
    boxes: int
    groups: int
    mapped: dict[str, tuple[str, int]] = field(default_factory=dict)
    unmapped: dict[str, int] = field(default_factory=dict)
    splits: list[Plain] = field(default_factory=list)
    set_aside: list[Plain] = field(default_factory=list)
    problems: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    already_done: bool = False


def organize(settings: OrganizeSettings, clock: Clock | None = None) -> OrganizeSummary:
    """Organise ``settings.inputs`` into ``settings.output``.

    The clock is asked all along; an interrupted call continues when made again. Raises ``UserError`` for inputs
    that cannot be read, names that are too few for the labels, an output inside an input, or an output folder with
    foreign files or in use by another process. Pictures whose labels a person must look at are set aside, as
    ``data.repair`` does.
    """
    output = settings.output
    for source in settings.inputs:
        if not source.exists():
            raise UserError(f"{source}: no such file or folder; check --input")
        if output.resolve() == source.resolve() or output.resolve().is_relative_to(source.resolve()):
            raise UserError(f"{output}: the output must not be inside the input {source}; sources are never written to")
    clock = clock or Clock()
    identity = fingerprint(_identity(settings, clock))
    if not settings.fresh:
        done = _finished(output, identity, clock)
        if done is not None:
            return done
    # Before the lock, which would put a file into a folder that is not ours.
    demand_own_folder(output)
    with exclusive(output / LOCK_FILE, f"the data set {output}"):
        return _organize(settings, identity, clock)


def _organize(settings: OrganizeSettings, identity: str, clock: Clock) -> OrganizeSummary:
    output = settings.output
    notes: list[str] = []
    sources = _read(settings, clock)
    judged = [without_doubtful(read) for read in sources]
    dataset = merge([good for good, _ in judged], ", ".join(str(source) for source in settings.inputs))
    dataset, mapped, unmapped = _mapped(dataset, settings)
    # Sources that cannot be read, or do not fit, leave the folder as it was.
    claim_folder(output)
    remove_leftovers(output)
    if settings.fresh:
        (output / HASH_STORE).unlink(missing_ok=True)
    boxes = int(dataset.class_counts().sum())
    dataset, unusable = _usable(dataset, settings, clock, notes)
    if without := boxes - int(dataset.class_counts().sum()):
        are = in_number(without, "mapped box is", "mapped boxes are")
        notes.append(f"{are} on pictures that were set aside, and not in the data set")
    set_aside = [*(problem for _, problems in judged for problem in problems), *unusable]
    if not len(dataset):
        raise UserError(_nothing_usable(dataset.source, set_aside, settings))
    dataset = _split(dataset, settings, clock, notes)
    data_yaml = write_yolo(dataset, output, settings.mode, clock, label="organizing")
    summary = _summary(dataset, data_yaml, mapped, unmapped, set_aside, notes)
    # Last: the identity in it makes the folder count as finished.
    write_json(output / SUMMARY_FILE, {"identity": identity, **asdict(summary), "data_yaml": DATA_FILE})
    return summary


def _read(settings: OrganizeSettings, clock: Clock) -> list[Dataset]:
    sources = []
    for source in settings.inputs:
        clock.check()
        read = read_dataset(
            source,
            settings.format,
            settings.names,
            settings.group_pattern,
            settings.pictures,
            missing_label=settings.missing_label,
            clock=clock,
        )
        demand_known_classes(read, settings.names)
        sources.append(read)
    return sources


def unlabelled_of_sources(settings: OrganizeSettings, clock: Clock) -> int:
    """How many pictures of the sources have no labels. Reads all of them. Raises as ``names_of_sources``."""
    return sum(not record.labelled for source in _read(settings, clock) for record in source)


def names_of_sources(settings: OrganizeSettings, clock: Clock) -> tuple[str, ...]:
    """The classes of the sources together, as they are called where no taxonomy renames them. Reads all of them.
    Raises ``UserError`` for one that cannot be read, and ``Interrupted``."""
    return tuple(merge(_read(settings, clock), "the sources").names)


def in_words(counts: Mapping[str, int]) -> str:
    """How often each kind of problem occurs, most first: ``class-unknown (47), box-duplicate (2)``."""
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{kind} ({count})" for kind, count in shown) or "none"


def _identity(settings: OrganizeSettings, clock: Clock) -> Plain:
    """All that the output depends on; files by size and time of change, which costs no reading."""
    values = settings.model_dump(mode="json", exclude={"output", "fresh"})
    taxonomy = values["taxonomy"]
    if taxonomy not in ("default", "source"):
        if not Path(taxonomy).is_file():
            raise UserError(f"{taxonomy}: no such taxonomy; give 'default', 'source' or a file")
        values["taxonomy"] = hash_file(taxonomy)
    elif taxonomy == "default":
        values["taxonomy"] = hash_file(DEFAULT_FILE)
    places = (*settings.inputs, *([settings.pictures] if settings.pictures is not None else []))
    own = settings.output.resolve()
    values["inputs"] = [[str(place.resolve()), _listing(place, own, clock)] for place in places]
    return {"format": FORMAT, **values}


def _listing(source: Path, own: Path, clock: Clock) -> list[list[Any]]:
    """Every file of a source with its size and time of change; for a file those around it, since the pictures that it
    names stand there as a rule. What lies in ``own``, the output, is left out."""
    found = []
    for directory, folders, files in os.walk(Source(source).root, followlinks=True):
        folders[:] = sorted(name for name in folders if Path(directory, name).resolve() != own)
        for name in files:
            clock.check()
            path = Path(directory, name)
            # A lock, and a link that leads nowhere, say nothing of the data.
            if name != LOCK_FILE and path.exists():
                state = path.stat()
                found.append([os.path.relpath(path, source), state.st_size, state.st_mtime_ns])
    return sorted(found)


def _finished(output: Path, identity: str, clock: Clock) -> OrganizeSummary | None:
    file = output / SUMMARY_FILE
    try:
        content = read_json(file)
    except (FileNotFoundError, DamagedFileError):
        return None
    if not isinstance(content, dict) or content.pop("identity", None) != identity or not is_complete(output, clock):
        return None
    content["data_yaml"] = output / DATA_FILE
    content["mapped"] = {name: (pair[0], pair[1]) for name, pair in content["mapped"].items()}
    return OrganizeSummary(**{**content, "already_done": True})


def _mapped(dataset: Dataset, settings: OrganizeSettings) -> tuple[Dataset, dict[str, tuple[str, int]], dict[str, int]]:
    if settings.taxonomy == "source":
        counts = dataset.class_counts().tolist()
        return dataset, {name: (name, count) for name, count in zip(dataset.names, counts)}, {}
    taxonomy = Taxonomy.load(None if settings.taxonomy == "default" else settings.taxonomy)
    result, mapping = apply_taxonomy(dataset, taxonomy)
    mapped = {name: (entry.common, mapping.boxes[name]) for name, entry in mapping.mapped.items()}
    unmapped = {name: mapping.boxes[name] for name in mapping.unmapped}
    return result, mapped, dict(sorted(unmapped.items(), key=lambda item: (-item[1], item[0])))


def _nothing_usable(source: str, set_aside: list[Problem], settings: OrganizeSettings) -> str:
    absent = sum(problem.kind == "picture-missing" for problem in set_aside)
    if absent and absent == len(set_aside):
        return (
            f"{source}: none of {in_number(absent, 'picture')} is here, only their labels; fetch them, name their "
            "folder with --pictures, or keep the labels alone: marauder data organize --mode reference"
        )
    return f"{source}: no usable picture; see `{to_type('data', 'check', '--input', settings.inputs[0])}`"


def _usable(
    dataset: Dataset, settings: OrganizeSettings, clock: Clock, notes: list[str]
) -> tuple[Dataset, list[Problem]]:
    """Set unreadable pictures aside, and join groups of near-duplicates."""
    set_aside = [
        problem
        for problem in dataset.problems
        if problem.kind in ("picture-missing", "picture-empty", "picture-unreadable", "picture-truncated")
    ]
    if settings.mode == "reference":
        absent = sum("picture_missing" in record.attributes for record in dataset)
        if absent:
            are = in_number(absent, "picture is", "pictures are")
            notes.append(f"{are} not here; the labels refer to where {'it' if absent == 1 else 'they'} would be")
        present = [record for record in dataset if "picture_missing" not in record.attributes]
    else:
        for record in dataset:
            if "picture_missing" in record.attributes:
                message = "the picture is not here (mode 'reference' keeps its labels)"
                set_aside.append(Problem(str(record.picture), None, "picture-missing", message))
        present = [record for record in dataset if "picture_missing" not in record.attributes]
        if len(present) < len(dataset):
            absent = len(dataset) - len(present)
            are = in_number(absent, "picture is", "pictures are")
            notes.append(f"{are} not here, only labels: set aside until you fetch {'it' if absent == 1 else 'them'}")
        dataset = dataset.with_records(present)
    # Hashing decodes every picture, which also finds the truncated ones.
    hashes = hash_pictures([record.picture for record in present], clock, settings.output / HASH_STORE)
    bad = set()
    keys, values = [], []
    for record, result in zip(present, hashes):
        if isinstance(result, PictureError):
            bad.add(record.key)
            set_aside.append(Problem(str(record.picture), None, f"picture-{result.kind}", result.detail))
        else:
            keys.append(record.key)
            values.append(result)
    dataset = dataset.with_records(record for record in dataset if record.key not in bad)
    if settings.near_duplicates:
        clusters = near_clusters(values, settings.near_duplicate_distance, clock)
        before = len({record.group for record in dataset})
        dataset = join_groups(dataset, [[keys[index] for index in cluster] for cluster in clusters])
        after = len({record.group for record in dataset})
        if after < before:
            notes.append(f"near-duplicates joined {in_number(before, 'group')} into {after:,}")
    return dataset, set_aside


def _split(dataset: Dataset, settings: OrganizeSettings, clock: Clock, notes: list[str]) -> Dataset:
    if settings.fractions is None:
        if not dataset.splits():
            raise UserError(f"{dataset.source}: the sources have no splits to keep; give --fractions")
        leaks = leaking_groups(dataset)
        if leaks:
            shown = ", ".join(list(leaks)[:3])
            groups = in_number(len(leaks), "group is", "groups are")
            notes.append(f"{groups} in several of the sources' splits ({shown}); use --fractions")
        return dataset
    own = dataset.splits()
    if own and not settings.keep_splits:
        was = ", ".join(f"{count} {name}" for name, count in own.items())
        notes.append(f"the source's own splits ({was}) were replaced; --keep-source-splits keeps them")
    # Unlabelled pictures have no say in the balance, but stay with their group.
    labelled = dataset.with_records(record for record in dataset if record.labelled)
    divided = split_dataset(labelled, settings.fractions, settings.seed, settings.keep_splits, clock)
    split_of = {record.group: record.split for record in divided}
    largest = Counter(record.group for record in labelled).most_common(1)
    if largest and largest[0][1] > max(settings.fractions.values()) * len(labelled):
        notes.append(
            f"group {largest[0][0]!r} holds {largest[0][1]} of {in_number(len(labelled), 'picture')}; no split fits it"
        )
    return dataset.with_records(replace(record, split=split_of.get(record.group)) for record in dataset)


def _summary(
    dataset: Dataset,
    data_yaml: Path,
    mapped: dict[str, tuple[str, int]],
    unmapped: dict[str, int],
    set_aside: list[Problem],
    notes: list[str],
) -> OrganizeSummary:
    examples: dict[str, list[str]] = {}
    for problem in dataset.problems:
        if len(examples.setdefault(problem.kind, [])) < 5:
            examples[problem.kind].append(str(problem))
    labelled = dataset.with_records(record for record in dataset if record.labelled)
    unlabelled = len(dataset) - len(labelled)
    if unlabelled:
        are = in_number(unlabelled, "picture is", "pictures are")
        notes = [*notes, f"{are} unlabelled and in images/unlabelled"]
    return OrganizeSummary(
        data_yaml=data_yaml,
        pictures=len(dataset),
        boxes=int(labelled.class_counts().sum()),
        groups=len({record.group for record in dataset}),
        mapped=mapped,
        unmapped=unmapped,
        splits=[asdict(row) for row in split_report(labelled)],
        set_aside=[asdict(problem) for problem in set_aside],
        problems=dict(counted(dataset.problems).most_common()),
        examples=examples,
        notes=notes,
    )
