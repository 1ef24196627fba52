"""Manifests: JSON lines in the SageMaker Ground Truth convention, Parquet, or a dataset.yaml that names them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from marauder.core.errors import UserError
from marauder.data.manifests.format import local_path
from marauder.data.manifests.rows import JSON_SUFFIXES, is_manifest, manifest_rows
from marauder.data.manifests.spec import DatasetSpec, find_spec, load_spec, require_files
from marauder.data.picture_files import common_suffix_match
from marauder.data.readers.base import Draft, Reader, ReadOptions, finish, make_keys_unique, unique_keys
from marauder.data.readers.coco import split_of_file
from marauder.data.records import Dataset, Problem


class ManifestReader(Reader):
    """Reads a manifest, a folder of ``*.manifest`` files, or a dataset.yaml; names come from the rows' class maps."""

    name = "manifest"

    def recognises(self, path: Path) -> bool:
        return find_spec(path) is not None or bool(_manifests(path))

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        spec_file = find_spec(path)
        if spec_file is not None:
            return _read_spec(spec_file, path, options)
        files = [path] if path.is_file() else _manifests(path)
        if not files:
            raise UserError(f"{path}: no manifest here; name the .manifest, .jsonl, .parquet or dataset.yaml file")
        sheaf = _Sheaf(options)
        for file in files:
            # The folder's name says nothing of one file among several.
            sheaf.add(file, split_of_file(Path(file.name)))
        return sheaf.dataset(str(path))


def _manifests(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if is_manifest(path) else []
    if not path.is_dir():
        return []
    return [file for file in sorted(path.glob(f"*{JSON_SUFFIXES[0]}")) if is_manifest(file)]


def _read_spec(file: Path, source: Path, options: ReadOptions) -> Dataset:
    """All sources of a spec as one data set; records of ``train`` have the split ``train``, and so on."""
    spec = load_spec(file)
    require_files(spec, file)
    options = replace(options, names=options.names or spec.names, uris={**spec.uris, **options.uris})
    sheaf = _Sheaf(options, spec.label)
    read: dict[Path, Dataset] = {}
    others: list[Dataset] = []
    for split, place in spec.sources().items():
        if is_manifest(place):
            sheaf.add(place, split)
        else:
            if place not in read:
                read[place] = _read_other(file, place, split, options)
            others.append(_part(read[place], split))
    if spec.unlabelled is not None:
        sheaf.add(spec.unlabelled, None)
    parts = [sheaf.dataset(str(source))] if sheaf.drafts or not others else []
    return _together([*parts, *others], spec, str(source))


def _read_other(file: Path, place: Path, split: str, options: ReadOptions) -> Dataset:
    from marauder.data.reading import read_dataset

    if find_spec(place) is not None:
        raise UserError(f"{file}: {split}: {place} is a dataset.yaml itself; name a manifest or a source of pictures")
    return read_dataset(
        place,
        names=options.names,
        group_pattern=options.group_pattern,
        pictures=options.pictures,
        missing_label=options.missing_label,
    )


def _part(dataset: Dataset, split: str) -> Dataset:
    """The split of that name, or all of a source that has no splits; without the problems of other splits' pictures."""
    chosen = dataset.split(split) if dataset.splits() else dataset
    records = [replace(record, split=split) for record in chosen]
    elsewhere = {record.key for record in dataset} - {record.key for record in records}
    problems = [problem for problem in dataset.problems if problem.key not in elsewhere]
    return Dataset(dataset.names, tuple(records), dataset.source, tuple(problems))


def _together(parts: list[Dataset], spec: DatasetSpec, source: str) -> Dataset:
    from marauder.data.records import merge

    if len(parts) == 1:
        return replace(parts[0], source=source)
    united = merge(parts, source)
    return replace(united, problems=tuple(dict.fromkeys(united.problems)))


@dataclass
class _Sheaf:
    """Manifests that are read as one data set: their drafts, and the class names that their rows gave each box."""

    options: ReadOptions
    label: str | None = None
    drafts: list[Draft] = field(default_factory=list)
    class_names: list[list[str]] = field(default_factory=list)
    first_ids: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _roots: list[Path] = field(default_factory=list)
    _strange: set[str] = field(default_factory=set)

    def add(self, file: Path, split: str | None) -> None:
        """Read a manifest's rows."""
        for line, row in manifest_rows(file, self.problems, self.label):
            picture = self._picture(row.source, file)
            draft = Draft(row.identity, picture, label_file=str(file), line=line, split=split, group=row.group or None)
            draft.width, draft.height, draft.labelled = row.width, row.height, row.labelled
            draft.attributes = row.attributes
            for class_id, name in row.class_map.items():
                self.first_ids[name] = min(class_id, self.first_ids.get(name, class_id))
            names = []
            for annotation in row.annotations:
                names.append(row.class_map.get(annotation.class_id, f"class_{annotation.class_id}"))
                draft.add(annotation.box, 0, annotation.ignored, line, annotation.details)
                if annotation.class_id not in row.class_map:
                    self.first_ids.setdefault(names[-1], annotation.class_id)
            self.drafts.append(draft)
            self.class_names.append(names)
            self._roots.append(file.parent)

    def dataset(self, source: str) -> Dataset:
        """The data set. Raises ``UserError`` when there is no row at all."""
        if not self.drafts:
            if not self.problems:
                raise UserError(f"{source}: has no rows; write it again, or name another manifest")
            told = "".join(f"\n  {problem}" for problem in self.problems[:5])
            raise UserError(f"{source}: no usable row in it{told}\nmend the rows, or write it again")
        keys = unique_keys(zip((draft.picture for draft in self.drafts), self._roots))
        for draft, key in zip(self.drafts, keys):
            draft.key = draft.key or key
        make_keys_unique(self.drafts)
        key_of = {(draft.label_file, draft.line): draft.key for draft in self.drafts}
        self.problems = [
            replace(problem, key=key_of.get((problem.path, problem.line or 0), "")) for problem in self.problems
        ]
        # Rows may number their classes each in its own way; the name is what counts.
        names = self.options.names or tuple(sorted(self.first_ids, key=lambda name: (self.first_ids[name], name)))
        index_of = {name: index for index, name in enumerate(names)}
        for draft, class_names in zip(self.drafts, self.class_names):
            draft.classes = [index_of.get(name, len(names)) for name in class_names]
        self._tell_unknown(index_of)
        records = finish(self.drafts, len(names), self.options, self.problems)
        return Dataset(names, tuple(records), source, tuple(self.problems))

    def _tell_unknown(self, index_of: Iterable[str]) -> None:
        """Give the number that stands for an unknown class its name, once a name."""
        unknown = sorted(self.first_ids.keys() - set(index_of))
        if unknown:
            message = f"classes in the class maps that the given names lack: {', '.join(unknown[:8])}"
            self.problems.append(Problem(self.drafts[0].label_file, None, "names-missing", message))

    def _picture(self, source: str, file: Path) -> Path:
        folder = self.options.pictures
        if folder is not None:
            return common_suffix_match(source, [folder]) or folder / Path(source).name
        found = local_path(source, file.parent, self.options.uris)
        if found is not None:
            return found
        scheme, _, inside = source.partition("://")
        beside = common_suffix_match(inside, [file.parent])
        prefix = f"{scheme}://{inside.partition('/')[0]}/"
        if beside is None and prefix not in self._strange:
            self._strange.add(prefix)
            message = f"no local folder stands for {prefix} (row of {source}); name one under uris: in dataset.yaml"
            self.problems.append(Problem(str(file), None, "root-moved", message))
        return beside or file.parent / inside.replace("..", "_")
