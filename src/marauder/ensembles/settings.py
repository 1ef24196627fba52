"""What ``marauder ensemble`` does: which detectors are fused, on which pictures that is fitted and measured."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from marauder.core.errors import UserError
from marauder.core.mistakes import Mistake, mistakes_in
from marauder.core.plain import Plain
from marauder.core.plugins import known_as, make
from marauder.core.settings import Decides, Existing, Places, Settings, split_commas
from marauder.engine.devices import CHOICES, Device
from marauder.evaluation.resampling import PRECISION_METRICS
from marauder.models.naming import explain_missing

WILD = frozenset("*?[")


def expand_patterns(value: Any) -> Any:
    """A list of paths in which patterns (``runs/*/best.pt``) stand for the files that match, by name; each once.

    Raises ``ValueError`` for a pattern that nothing matches.
    """
    items = split_commas(value)
    if not isinstance(items, list):
        return items
    found: list[str] = []
    for item in items:
        # A file may have such a character in its name.
        if not WILD & set(item) or Path(item).exists():
            found.append(item)
            continue
        matching = sorted(glob.glob(item, recursive=True))  # noqa: PTH207 - patterns may begin at the root
        if not matching:
            raise ValueError(f"{item}: no file matches")
        found += matching
    return list(dict.fromkeys(found))


PATTERNS = BeforeValidator(expand_patterns)
"""On a field of several paths: commas and patterns are understood."""


def _known_metric(value: str) -> str:
    if value not in PRECISION_METRICS:
        raise ValueError(f"no metric named {value!r} to fit by; choose of: {', '.join(PRECISION_METRICS)}")
    return value


class CostSettings(Settings):
    """How long each member and the ensemble take is measured in interleaved rounds."""

    decides: ClassVar[Decides] = Decides.MEASUREMENT

    enabled: bool = True
    pictures: int = Field(8, ge=1, description="pictures that are looked at in turn")
    rounds: int = Field(20, ge=3, description="timed looks of each")
    max_seconds: float = Field(120.0, gt=0, description="no new round begins after this, once there are 3")

    @property
    def is_off(self) -> bool:
        """See ``Settings.is_off``."""
        return not self.enabled


class EnsembleSettings(Settings):
    """An ensemble: its members, how they are fused, and what that is fitted and measured on."""

    decides: ClassVar[Decides] = Decides.RESULT

    members: Annotated[tuple[Path, ...], PATTERNS, Existing(explain_missing)] = Field(
        min_length=2, description="detectors to fuse: model files or predictor folders, or patterns"
    )
    data: Annotated[Path, Existing()] = Field(
        description="labelled pictures: data.yaml, or any data set of docs/formats.md"
    )
    output: Annotated[Path, Decides.PLACE] = Field(Path("ensemble"), description="folder of the ensemble")
    fusion: Annotated[str, known_as("fusion", "way of fusing")] = Field(
        "weighted_boxes", description="how boxes are fused: weighted_boxes, nms, soft_nms"
    )
    options: Plain = Field(
        default_factory=dict, description="settings of the way of fusing; those that are named are not fitted"
    )
    fit: str = Field("val", description="split that calibrations, weights and overlap are fitted on")
    split: str = Field("test", description="split that is measured on; nothing is decided by it")
    metric: Annotated[str, BeforeValidator(_known_metric)] = Field(
        "map50", description=f"what is fitted and compared by: {', '.join(PRECISION_METRICS)}"
    )
    weights: bool = Field(True, description="fit weights of members and classes; off: all count alike")
    prune: bool = Field(False, description="leave out members that are not shown to add anything")
    folds: int = Field(4, ge=2, le=20, description="parts that the groups are divided into for fitting")
    draws: int = Field(1000, ge=100, description="draws of groups for each interval")
    seed: int = Field(0, description="decides the parts and the draws")
    image_size: int | None = Field(
        None, ge=32, description="pixels of the long side for all members; default: each member's own"
    )
    pictures: Annotated[Path | None, Existing()] = Field(
        None, description="folder of the pictures, where they are not beside their labels"
    )
    batch: Annotated[int | None, Decides.NOTHING] = Field(
        None, ge=1, le=64, description="pictures of a forward pass; default: 4 on a CPU, 16 on a GPU"
    )
    device: Annotated[Device, Decides.NOTHING] = Field("auto", description=CHOICES)
    cost: CostSettings = CostSettings()
    fresh: Annotated[bool, Decides.NOTHING] = Field(False, description="forget what earlier calls found")

    def mistakes(self, places: Places) -> Iterable[Mistake]:
        """See ``Settings.mistakes``."""
        if self.fit == self.split:
            yield places.mistake("split", f"is the split that is fitted on ({self.fit}); measure on another one")
        try:
            make("fusion", self.fusion, self.options, "options")
        except UserError as error:
            yield from mistakes_in(error)
