"""``dataset.yaml``: which manifests make a data set, its version, slices and names, and how DVC pins it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from marauder.core.errors import UserError
from marauder.core.layers import read_yaml_mapping
from marauder.core.plain import Plain
from marauder.core.settings import Settings, load_settings

SPEC_FILE = "dataset.yaml"
SPLITS = ("train", "val", "test")
# Ultralytics' data sets may be called dataset.yaml, too; these keys give them away.
YOLO_ONLY = {"nc", "path", "download"}


class DvcSettings(Settings):
    """Where DVC keeps the data. ``repo``: the repository's folder. ``rev``: a tag, branch or commit that the data must
    stand at; ``None``: what is checked out."""

    repo: Path = Path()
    rev: str | None = None


class DatasetSpec(Settings):
    """What ``dataset.yaml`` holds; paths are relative to its folder.

    ``train``, ``val``, ``test``: a manifest, a Parquet file, or any other source (one data.yaml or COCO folder may
    stand for all three: each takes its own split of it). ``unlabelled``: pictures without labels, in no split.
    ``slices``: the file of named slices. ``names``: class names in order (else from the class maps). ``label``: the
    rows' label attribute where there are several. ``uris``: beginnings of addresses and the folders in their place.
    """

    version: str
    train: Path | None = None
    val: Path | None = None
    test: Path | None = None
    unlabelled: Path | None = None
    slices: Path | None = None
    names: tuple[str, ...] | None = None
    label: str | None = None
    uris: dict[str, Path] = Field(default_factory=dict)
    dvc: DvcSettings | None = None

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, version: Any) -> Any:
        # 2026.10 without quotes is a number to YAML.
        return str(version) if isinstance(version, (int, float)) and not isinstance(version, bool) else version

    @field_validator("names")
    @classmethod
    def _named(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for index, name in enumerate(names or ()):
            if not name.strip() or name in (names or ())[:index]:
                raise ValueError(f"class {index} is {name!r}: give every class a different name")
        return names

    @model_validator(mode="after")
    def _has_data(self) -> DatasetSpec:
        if not self.sources():
            raise ValueError("name at least one of train, val and test")
        return self

    def sources(self) -> dict[str, Path]:
        """Split to its source, those that are named."""
        found = {name: getattr(self, name) for name in SPLITS}
        return {name: path for name, path in found.items() if path is not None}


def load_spec(path: Path) -> DatasetSpec:
    """Read ``dataset.yaml`` with its paths made whole. Raises ``UserError`` that lists every mistake with its line, and
    for files that are not there (unless DVC may bring them)."""
    spec = load_settings(DatasetSpec, path)
    folder = path.parent

    def whole(place: Path | None) -> Path | None:
        return None if place is None else folder / place.expanduser()

    changes: Plain = {name: whole(getattr(spec, name)) for name in (*SPLITS, "unlabelled", "slices")}
    changes["uris"] = {prefix: whole(place) for prefix, place in spec.uris.items()}
    if spec.dvc is not None:
        changes["dvc"] = spec.dvc.changed({"repo": whole(spec.dvc.repo)})
    return spec.changed(changes)


def require_files(spec: DatasetSpec, path: Path) -> None:
    """Raise ``UserError`` when a file that the spec names is not there."""
    lines = read_yaml_mapping(path)[1]
    for name in (*SPLITS, "unlabelled", "slices"):
        place = getattr(spec, name)
        if place is not None and not place.exists():
            remedy = "run `marauder manifest pin` to pull it with DVC" if spec.dvc else "correct the path, or fetch it"
            raise UserError(f"{path}:{lines.get((name,), 1)}: {name}: {place} does not exist; {remedy}")


def find_spec(path: Path) -> Path | None:
    """The dataset.yaml that ``path`` is, or that is in the folder ``path``; ``None`` when there is none."""
    file = path / SPEC_FILE if path.is_dir() else path
    if file.suffix.lower() not in (".yaml", ".yml") or not file.is_file():
        return None
    try:
        content = read_yaml_mapping(file)[0]
    except UserError:
        # A broken dataset.yaml is still one: reading it then names the line.
        return file if file.name == SPEC_FILE else None
    named = "version" in content and bool({*SPLITS} & content.keys())
    return file if named and not YOLO_ONLY & content.keys() else None
