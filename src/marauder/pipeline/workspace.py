"""The bucket-shaped tree of a workspace, where every step reads and writes: its root is a setting, its shape fixed."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT_VARIABLE = "MARAUDER_ROOT"
DEFAULT_ROOT = "workspace"


@dataclass(frozen=True)
class Workspace:
    """Paths below ``root``. Nothing is created by asking for a path."""

    root: Path

    @classmethod
    def at(cls, root: Path | str | None = None) -> Workspace:
        """The workspace at ``root``, else at ``$MARAUDER_ROOT``, else at ``./workspace``; always an absolute path."""
        # Absolute, but not resolved: folders of a workspace may be links.
        return cls(Path(root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT).absolute())

    @property
    def images(self) -> Path:
        """Raw pictures with their labels, a folder for each source; a folder may be a link to a read-only place."""
        return self.root / "images"

    @property
    def training(self) -> Path:
        """Everything that the steps write."""
        return self.root / "training"

    @property
    def datasets(self) -> Path:
        """Data sets that steps make: ``organized``, ``preprocessed``, ``selected``, ``annotated``."""
        return self.training / "datasets"

    @property
    def data_yaml(self) -> Path:
        """The finished data set that training reads."""
        return self.datasets / "data.yaml"

    @property
    def annotation(self) -> Path:
        """``outbox``, with the packages for annotators, and ``inbox``, where their deliveries are put."""
        return self.root / "annotation"

    def model(self, name: str) -> Path:
        """Folder of a step's models, such as ``baseline`` or ``tensorrt``."""
        return self.training / "models" / name

    def checkpoints(self, name: str) -> Path:
        """Folder of a step's checkpoints."""
        return self.training / "checkpoints" / name

    def run(self, name: str) -> Path:
        """Folder of what is recorded of a run: its state, settings and events."""
        return self.training / "runs" / name

    def relative(self, path: Path) -> str:
        """``path`` as it is written in records: from the root where it lies below it, so that a workspace can move."""
        absolute = path.absolute()
        inside = absolute.is_relative_to(self.root)
        return (absolute.relative_to(self.root) if inside else absolute).as_posix()


def remove_folder(folder: Path) -> None:
    """Delete a folder with everything in it; killed in the middle, it is gone all the same, never half there."""
    discarded = folder.with_name(f".{folder.name}.discarded")
    if discarded.exists():
        shutil.rmtree(discarded)
    if folder.exists():
        # A rename is one step: no kill leaves half a folder under its own name.
        folder.rename(discarded)
        shutil.rmtree(discarded)
