"""Pinning a data set: what it holds, by content, so that a run can say, and later prove, what it was trained on.

The fingerprint is over what training sees: class names, every record (split, group, boxes, attributes) and the SHA-256
of every picture and of slices.yaml. It does not depend on where the data lie, nor on the layout they are read from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, fingerprint, hash_file, read_json, to_plain, write_json
from marauder.core.plain import Plain
from marauder.core.progress import Progress
from marauder.core.wording import to_type
from marauder.data.manifests.journal import FileJournal, stamp_of
from marauder.data.manifests.spec import SPLITS, DatasetSpec, find_spec, load_spec
from marauder.data.records import Dataset, Record

PIN_FILE = "data_pin.json"
FORMAT = 1
BLOCK = 256


@dataclass(frozen=True)
class SplitPin:
    """A split: how many pictures, boxes (ignored ones left out) and bytes of pictures, and the hashes of labels and
    pictures."""

    pictures: int
    labelled: int
    boxes: int
    bytes: int
    labels_sha256: str
    pictures_sha256: str


@dataclass(frozen=True)
class DataPin:
    """What a data set holds. ``source``: as it was named. ``files``: SHA-256 of dataset.yaml and the files it names,
    by path relative to it. ``splits``: split to what it holds ("-": none). ``problems``: count of each kind met in
    reading. ``dvc``: provenance of ``manifests.dvc``. ``fingerprint``: of the content alone.
    """

    source: str
    version: str | None
    names: tuple[str, ...]
    splits: dict[str, SplitPin]
    files: dict[str, str]
    problems: dict[str, int]
    dvc: Plain | None
    fingerprint: str

    @property
    def pictures(self) -> int:
        """Pictures in all."""
        return sum(split.pictures for split in self.splits.values())

    @property
    def boxes(self) -> int:
        """Boxes in all, ignored ones left out."""
        return sum(split.boxes for split in self.splits.values())

    def to_json(self) -> Plain:
        """The pin as what JSON knows."""
        content: Plain = to_plain({"format": FORMAT, **asdict(self)})
        return content

    @classmethod
    def from_json(cls, content: Any) -> DataPin:
        """A pin from ``to_json``. Raises ``DamagedFileError`` for anything else."""
        wanted = {field.name for field in fields(cls)}
        try:
            if content["format"] != FORMAT:
                raise DamagedFileError(
                    f"data pin of format {content['format']!r}, known is {FORMAT}; pin the data again"
                )
            values = {name: content[name] for name in wanted}
            values["names"] = tuple(values["names"])
            values["splits"] = {name: SplitPin(**split) for name, split in values["splits"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedFileError(f"not a data pin ({error}); pin the data again: marauder manifest pin") from None
        return cls(**values)

    def write(self, folder: Path) -> Path:
        """Write ``data_pin.json`` into ``folder``; returns its path."""
        write_json(folder / PIN_FILE, self.to_json())
        return folder / PIN_FILE

    @classmethod
    def read(cls, path: Path) -> DataPin:
        """Read a ``data_pin.json``, or the one in a folder. Raises ``DamagedFileError``, ``UserError``."""
        file = path / PIN_FILE if path.is_dir() else path
        if not file.is_file():
            see = to_type("manifest", "pin", "--output", file.parent)
            raise UserError(f"{file}: no such file; pin the data first: {see}")
        return cls.from_json(read_json(file))


def pin(
    path: Path, clock: Clock | None = None, journal: FileJournal | None = None, pictures: Path | None = None
) -> DataPin:
    """Pin the data set at ``path``: a manifest, a dataset.yaml, or any source that can be read.

    With ``dvc:`` in the dataset.yaml missing data are pulled first, and the tag, commit and hashes are written down.
    Hashing asks the clock between blocks (``Interrupted``); what was hashed is kept in ``journal`` (default: in the
    cache folder), so that the next time only what changed is read. Raises ``UserError`` for data that cannot be read.
    """
    from marauder.data.reading import read_dataset

    path = Path(path).expanduser()
    spec_file = find_spec(path) if path.exists() else None
    spec = load_spec(spec_file) if spec_file is not None else None
    provenance = None
    if spec is not None and spec_file is not None and spec.dvc is not None:
        from marauder.data.manifests.dvc import fetch_and_resolve

        provenance = fetch_and_resolve(spec, spec_file)
    dataset = read_dataset(path, pictures=pictures)
    hashes = hash_files([record.picture for record in dataset], journal or FileJournal.of("hashes", path), clock)
    splits = {
        name: _split_pin([record for record in dataset if (record.split or "-") == name], dataset.names, hashes)
        for name in _split_names(dataset)
    }
    problems: dict[str, int] = {}
    for problem in dataset.problems:
        problems[problem.kind] = problems.get(problem.kind, 0) + 1
    slices = hash_file(spec.slices) if spec is not None and spec.slices is not None else None
    content = {
        "names": dataset.names,
        "splits": {name: [split.labels_sha256, split.pictures_sha256] for name, split in splits.items()},
        "slices": slices,
    }
    return DataPin(
        source=str(path),
        version=spec.version if spec is not None else None,
        names=dataset.names,
        splits=splits,
        files=_file_hashes(path, spec_file, spec),
        problems=problems,
        dvc=provenance,
        fingerprint=fingerprint(content),
    )


def verify(
    pinned: DataPin, path: Path | None = None, clock: Clock | None = None, pictures: Path | None = None
) -> list[str]:
    """What is no longer as it was pinned, in words; empty when the content is the same.

    ``path``: where the data lie now, if not where they were pinned. The same content in other files is no difference.
    """
    current = pin(path or Path(pinned.source), clock, pictures=pictures)
    if current.fingerprint == pinned.fingerprint:
        return []
    found = []
    if current.names != pinned.names:
        found.append(f"class names: were {', '.join(pinned.names)}; are {', '.join(current.names)}")
    for name in dict.fromkeys([*pinned.splits, *current.splits]):
        before, now = pinned.splits.get(name), current.splits.get(name)
        if before is None or now is None:
            found.append(f"split {name}: {'is new' if before is None else 'is gone'}")
            continue
        if before.pictures_sha256 != now.pictures_sha256:
            found.append(f"split {name}: pictures changed ({before.pictures} then, {now.pictures} now)")
        if before.labels_sha256 != now.labels_sha256:
            found.append(f"split {name}: labels changed ({before.boxes} boxes then, {now.boxes} now)")
    changed = [name for name, value in pinned.files.items() if current.files.get(name) != value]
    return [*found, *(f"file {name}: content changed" for name in changed)] or ["slices.yaml is another file"]


def hash_files(
    paths: Sequence[Path], journal: FileJournal, clock: Clock | None = None, forget: bool = True
) -> dict[Path, tuple[int, str]]:
    """Size and SHA-256 of files. What ``journal`` knows is not read. A file that is gone has size 0 and no hash."""
    return measure_files(paths, lambda path: hash_file(path), journal, clock, "hashing pictures", forget)


def hash_pinned(pictures: Sequence[Path], source: Path, clock: Clock | None = None) -> dict[Path, str | None]:
    """SHA-256 of pictures, maybe not all, of the data set at ``source``; what ``pin`` has read is not read again.

    ``None`` for a file that is gone. Raises ``Interrupted``.
    """
    # Some pictures only: what pin has noted of the others must stay.
    found = hash_files(pictures, FileJournal.of("hashes", source.expanduser()), clock, forget=False)
    return {path: content for path, (_, content) in found.items()}


def measure_files(
    paths: Sequence[Path],
    work: Callable[[Path], Any],
    journal: FileJournal,
    clock: Clock | None,
    label: str,
    forget: bool = True,
) -> dict[Path, tuple[int, Any]]:
    """Size of each file and what ``work`` makes of it (plain JSON), in threads; kept in ``journal`` block by block.

    ``forget``: drop from ``journal`` what is not among ``paths``. A file that is not there has size 0 and ``None``. The
    clock is asked between blocks; raises ``Interrupted``.
    """
    # Taken before the work: a file that changes meanwhile has another stamp the next time, and is read again.
    stamps = {path: stamp_of(path) for path in dict.fromkeys(paths) if path.is_file()}
    results = {path: (stamp[1], journal.values[stamp]) for path, stamp in stamps.items() if stamp in journal.values}
    remaining = [path for path in stamps if path not in results]
    if remaining:
        threads = min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(threads) as pool, Progress(label, len(stamps), already_done=len(results)) as progress:
            for start in range(0, len(remaining), BLOCK):
                if clock is not None:
                    clock.check()
                block = remaining[start : start + BLOCK]
                values = dict(zip(block, pool.map(work, block)))
                journal.add({stamps[path]: value for path, value in values.items()})
                results |= {path: (stamps[path][1], value) for path, value in values.items()}
                progress.advance(len(block))
    if forget:
        journal.keep_only(set(stamps.values()))
    return {path: results.get(path, (0, None)) for path in dict.fromkeys(paths)}


def _split_names(dataset: Dataset) -> list[str]:
    present = {record.split or "-" for record in dataset}
    return [name for name in (*SPLITS, *sorted(present - {*SPLITS})) if name in present]


def _split_pin(records: Iterable[Record], names: Sequence[str], hashes: dict[Path, tuple[int, str]]) -> SplitPin:
    # The order in which a layout lists its pictures must not change the fingerprint.
    ordered = sorted(records, key=lambda record: record.key)
    return SplitPin(
        pictures=len(ordered),
        labelled=sum(record.labelled for record in ordered),
        boxes=int(sum((~record.ignored).sum() for record in ordered)),
        bytes=sum(hashes[record.picture][0] for record in ordered),
        labels_sha256=fingerprint([_content(record) for record in ordered]),
        pictures_sha256=fingerprint([[record.key, hashes[record.picture][1]] for record in ordered]),
    )


def _content(record: Record) -> list[Any]:
    """What training and slicing see of a record. Millionths of a pixel depend on the layout it was read from."""
    return [
        record.key,
        record.group,
        record.labelled,
        record.width,
        record.height,
        # + 0.0 turns -0.0 into 0.0, as JSON writes the two differently.
        record.boxes.round(4) + 0.0,
        record.classes,
        record.ignored,
        record.attributes,
        record.box_attributes,
    ]


def _file_hashes(path: Path, spec_file: Path | None, spec: DatasetSpec | None) -> dict[str, str]:
    if spec is None or spec_file is None:
        return {path.name: hash_file(path)} if path.is_file() else {}
    named = [spec_file, *spec.sources().values(), spec.unlabelled, spec.slices]
    files = dict.fromkeys(file for file in named if file is not None and file.is_file())
    return {os.path.relpath(file, spec_file.parent): hash_file(file) for file in files}
