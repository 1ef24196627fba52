"""Manifests: JSON lines in the SageMaker Ground Truth convention, Parquet, or a dataset.yaml that names them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from marauder.core.errors import UserError
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.coco import split_of_file
from marauder.data.formats.entries import Entry, Findings, Label
from marauder.data.formats.source import Listing, Source
from marauder.data.manifests.format import local_path
from marauder.data.manifests.rows import JSON_SUFFIXES, PARQUET_SUFFIX, is_manifest, manifest_rows
from marauder.data.manifests.spec import DatasetSpec, find_spec
from marauder.data.picture_files import path_exists
from marauder.data.records import Problem


class ManifestReader(Reader):
    """A manifest, a folder of ``*.manifest`` files, or a dataset.yaml; names come from the rows' class maps."""

    name = "manifest"
    title = "Manifest of records (CSV or Parquet)"

    def files(self, source: Source) -> list[Path]:
        spec = find_spec(source.path) if not source.delivery else None
        suffixes = (*JSON_SUFFIXES, PARQUET_SUFFIX) if source.path.is_file() or source.delivery else JSON_SUFFIXES[:1]
        return [spec] if spec is not None else [path for path in source.with_suffix(*suffixes) if is_manifest(path)]

    def declared(self, source: Source) -> bool:
        return not source.delivery and find_spec(source.path) is not None

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        files = [path for path in self.files(source) or [source.path] if path.is_file()]
        if not files:
            raise UserError(f"{source.path}: no manifest here; name a .manifest, .jsonl, .parquet or dataset.yaml")
        # The folder's name says nothing of one file among several.
        return parse_manifests([(file, split_of_file(Path(file.name))) for file in files], source, options, findings)


def parse_manifests(
    files: list[tuple[Path, str | None]],
    source: Source,
    options: ReadOptions,
    findings: Findings,
    spec: DatasetSpec | None = None,
) -> Parsed:
    """The rows of manifests, read as one data set. Raises ``UserError`` when there is no row at all."""
    entries: list[Entry] = []
    first_ids: dict[str, int] = {}
    strange: set[str] = set()
    by_line: dict[tuple[str, int | None], Entry] = {}
    bad: list[Problem] = []
    listing = Listing()
    for file, split in files:
        for line, row in manifest_rows(file, bad, spec.label if spec else None):
            findings.tick()
            entry = Entry((row.source,), file, line, key=row.identity, split=split, group=row.group or None)
            by_line[str(file), line] = entry
            if not source.delivery:
                entry.picture = _picture(row.source, file, options, findings, strange, listing)
            entry.width, entry.height, entry.labelled = row.width, row.height, row.labelled
            entry.attributes = row.attributes
            class_map = {number: unicodedata.normalize("NFC", name) for number, name in row.class_map.items()}
            for class_id, name in class_map.items():
                first_ids[name] = min(class_id, first_ids.get(name, class_id))
            for annotation in row.annotations:
                named: str | int = class_map.get(annotation.class_id, annotation.class_id)
                entry.labels.append(Label(annotation.box, named, line, "", annotation.ignored, annotation.details))
            entries.append(entry)
    if not entries and not source.delivery:
        told = "".join(f"\n  {problem}" for problem in bad[:5])
        words = f"no usable row in it{told}\ncorrect the rows" if bad else "has no rows; name another manifest"
        raise UserError(f"{source.path}: {words}, or write it again")
    for problem in bad:
        findings.add(
            problem.kind, problem.message, Path(problem.path), problem.line, by_line.get((problem.path, problem.line))
        )
    if not first_ids:  # no class map at all: the numbers make the names
        labels = [label for entry in entries for label in entry.labels if isinstance(label.class_name, int)]
        for label in labels:
            first_ids[f"class_{label.class_name}"] = int(label.class_name)
            label.class_name = f"class_{label.class_name}"
        if labels:
            message = f"no class map names the classes; called {', '.join(sorted(first_ids)[:8])}"
            findings.add("names-missing", message, entries[0].file, labels[0].line)
    if options.names and (unknown := sorted(first_ids.keys() - set(options.names))):
        message = f"classes in the class maps that the given names lack: {', '.join(unknown[:8])}"
        findings.add("names-missing", message, entries[0].file)
    # Rows may number their classes each in its own way; the name is what counts.
    names = sorted(first_ids, key=lambda name: (first_ids[name], name))
    used = {file for file, _ in files}
    # A dataset.yaml names files anywhere on the disk: below a root that does not exist nothing counts as left over.
    return Parsed(
        entries, names, used=used, root=files[0][0].parent if spec is None else source.root / "no such folder"
    )


def _picture(
    stated: str, file: Path, options: ReadOptions, findings: Findings, strange: set[str], listing: Listing
) -> Path | None:
    """Where the picture of a row lies by its address or path; ``None`` where that is to be looked for."""
    if options.pictures is not None:
        return None
    found = local_path(stated, file.parent, options.uris)
    if found is not None:
        place = found if path_exists(found) else listing.find(found)
        return place or (None if stated.startswith("/") or "\\" in stated else found)
    scheme, _, inside = stated.partition("://")
    prefix = f"{scheme}://{inside.partition('/')[0]}/"
    # The address of a bucket without a local folder: the end of its path may lie beside the manifest all the same.
    beside = [file.parent.joinpath(*inside.split("/")[start:]) for start in range(inside.count("/") + 1)]
    place = next((path for path in beside if ".." not in inside and path_exists(path)), None)
    place = place or next((path for one in beside if ".." not in inside and (path := listing.find(one))), None)
    if place is None and prefix not in strange:
        strange.add(prefix)
        message = f"no local folder is given for {prefix} (row of {stated}); name one under uris: in dataset.yaml"
        findings.add("root-moved", message, file)
    return place
