"""One call that opens a data set of any known layout; a new format joins through core.plugins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from marauder.core.clock import Clock, listening_clock
from marauder.core.errors import UserError, printable
from marauder.core.layers import read_yaml_mapping
from marauder.core.plugins import make
from marauder.core.plugins import names as plugin_names
from marauder.core.wording import to_type
from marauder.data.formats.assembling import assemble
from marauder.data.formats.base import Reader, ReadOptions
from marauder.data.formats.entries import Findings
from marauder.data.formats.manifest import ManifestReader, parse_manifests
from marauder.data.formats.source import Source
from marauder.data.manifests.rows import JSON_SUFFIXES, PARQUET_SUFFIX, is_blank, is_manifest
from marauder.data.manifests.spec import find_spec, load_spec, require_files
from marauder.data.records import Dataset, merge


def read_dataset(
    path: Path | str,
    format: str = "auto",
    names: Sequence[str] | None = None,
    group_pattern: str | None = None,
    pictures: Path | str | None = None,
    parts: Sequence[str] | None = None,
    missing_label: str = "unlabelled",
    uris: Mapping[str, Path] | None = None,
    clock: Clock | None = None,
    lost: bool = False,
) -> Dataset:
    """Read the data set at ``path`` (a folder, a manifest, a dataset.yaml, a data.yaml, or a file of labels).

    ``format`` is a format's name or ``auto``; the other values are those of ``formats.base.ReadOptions``. Bad pictures
    and label lines do not end the reading: they are in the data set's ``problems``. Raises ``UserError`` for a path
    that does not exist, that no format recognises, that holds no picture at all, or, unless ``lost``, of which not one
    label can be used; ``Interrupted`` when the ``clock``, or the one that listens for signals, says so.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"{place}: no such file or folder; check the path")
    if printable(str(place.absolute())) != str(place.absolute()):
        raise UserError(f"{printable(str(place.absolute()))}: the path is not UTF-8; rename the folder")
    clock = clock or listening_clock()
    source = Source(place, clock=clock)
    if place.is_dir() and not source.files and not source.odd_names:
        raise UserError(f"{place}: is empty; put labelled pictures into it (docs/formats.md shows the layouts)")
    options = ReadOptions(
        names=tuple(names) if names is not None else None,
        group_pattern=group_pattern,
        pictures=Path(pictures) if pictures is not None else None,
        parts=tuple(parts) if parts is not None else None,
        missing_label=missing_label,
        uris=uris or {},
    )
    dataset = _read(source, _choose(source, format), options, Findings(clock=clock))
    gone = next((problem for problem in dataset.problems if problem.kind == "labels-lost"), None)
    if gone is not None and not lost:
        raise UserError(f"{gone}\nsee `{to_type('data', 'check', '--input', place)}`")
    return dataset


def _read(source: Source, layout: Reader, options: ReadOptions, findings: Findings) -> Dataset:
    spec = find_spec(source.path) if isinstance(layout, ManifestReader) else None
    if spec is not None:
        return _read_spec(spec, layout, source, options, findings)
    return assemble(layout, source, options, findings, layout.parse(source, options, findings))


def _read_spec(file: Path, layout: Reader, source: Source, options: ReadOptions, findings: Findings) -> Dataset:
    """All sources of a dataset.yaml as one data set; records of ``train`` have the split ``train``, and so on."""
    spec = load_spec(file)
    require_files(spec, file)
    options = replace(options, names=options.names or spec.names, uris={**spec.uris, **options.uris})
    places = spec.sources()
    manifests: list[tuple[Path, str | None]] = [(p, split) for split, p in places.items() if is_manifest(p)]
    manifests += [(spec.unlabelled, None)] if spec.unlabelled is not None else []
    read: dict[Path, Dataset] = {}
    parts: list[Dataset] = []
    if manifests:
        parsed = parse_manifests(manifests, source, options, findings, spec)
        parts.append(assemble(layout, source, options, findings, parsed))
    for split, place in places.items():
        if is_manifest(place):
            continue
        if find_spec(place) is not None:
            raise UserError(f"{file}: {split}: {place} is a dataset.yaml itself; name a manifest or pictures")
        if place not in read:
            other = Source(place, clock=findings.clock)
            read[place] = _read(
                other, _choose(other, "auto"), replace(options, parts=None), Findings(clock=findings.clock)
            )
        parts.append(_part(read[place], split))
    united = parts[0] if len(parts) == 1 else merge(parts)
    # A source that stands for several splits is read once, and brings its problems with each of them.
    return replace(united, source=str(source.path), problems=tuple(dict.fromkeys(united.problems)))


def _part(dataset: Dataset, split: str) -> Dataset:
    """The split of that name, or all of a source that has no splits; without the problems of other splits' pictures."""
    chosen = dataset.split(split) if dataset.splits() else dataset
    records = [replace(record, split=split) for record in chosen]
    elsewhere = {record.key for record in dataset} - {record.key for record in records}
    problems = [problem for problem in dataset.problems if problem.key not in elsewhere]
    return Dataset(dataset.names, tuple(records), dataset.source, tuple(problems))


def refuse_output_among_pictures(output: Path, source: Path) -> None:
    """Raise ``UserError`` for an output in a folder that is read for every picture in it: the next call would read what
    this one writes."""
    inside = output.resolve().is_relative_to(source.resolve())
    if inside and source.is_dir() and not is_empty(source) and choose_reader(source).name == "pictures":
        raise UserError(
            f"{output}: is inside the folder of pictures {source}, and would be read as some of them; name an output "
            "outside it"
        )


def is_empty(path: Path) -> bool:
    """Whether ``path`` is a folder without a file in it or below it; hidden ones do not count."""
    return path.is_dir() and not Source(path).files


def choose_reader(path: Path) -> Reader:
    """The first format that recognises ``path``. Raises ``UserError``."""
    return _choose(Source(path), "auto")


def _choose(source: Source, format: str) -> Reader:
    if format != "auto":
        layout: Reader = make("reader", format)
        return layout
    # Bare pictures are what nothing else is, what other packages read included.
    path, known = source.path, sorted(plugin_names("reader"), key=lambda name: name == "pictures")
    layouts: list[Reader] = [make("reader", name) for name in known]
    # A data.yaml says what the folder is; any JSON file in it merely may.
    for sure in (True, False):
        for layout in layouts:
            if layout.declared(source) if sure else layout.files(source):
                return layout
    if path.suffix.lower() in (*JSON_SUFFIXES, PARQUET_SUFFIX) and is_blank(path):
        raise UserError(f"{path}: has no rows; write it again, or name another manifest")
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        read_yaml_mapping(path)  # one that is no valid YAML is not recognised as anything: say its line
    if path.is_file() and path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        raise UserError(f"{path}: is an archive; unpack it, and name the folder")
    raise UserError(
        f"{path}: not recognised as any of {', '.join(known)}. {_seen(source)}Say which with --format, or see "
        "docs/formats.md for what each needs"
    )


def _seen(source: Source) -> str:
    """What lies there, in words."""
    files = source.files if source.path.is_dir() else [source.path.name]
    suffixes = Counter(Path(name).suffix.lower() or "no suffix" for name in files)
    first = {Path(name).suffix.lower() or "no suffix": name for name in reversed(files)}
    counts = [f"{count} {suffix} ({first[suffix]})" for suffix, count in suffixes.most_common(4)]
    return f"Seen: {', '.join(counts)}. " if counts else ""
