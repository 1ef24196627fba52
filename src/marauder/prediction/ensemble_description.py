"""What ``predictor.json`` says of an ensemble: its members, which lie beside it, how much each counts, how they are
fused::

    {"format": 1, "model": "", "names": ["fish", "ray"], "thresholds": {"fish": 0.3, "ray": 0.2},
     "ensemble": {"fusion": "weighted_boxes", "options": {"overlap": 0.55}, "least": 0.01,
                  "members": [{"model": "baseline", "weight": 1.0, "class_weights": {}},
                              {"model": "critical", "weight": 0.8, "class_weights": {"ray": 1.5}}]}}

A member is a model file or a predictor folder, which may have a calibration of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.errors import UserError
from marauder.core.plain import Plain, PlainMapping


@dataclass(frozen=True)
class MemberDescription:
    """One member. ``model``: name of the file or folder; ``weight``: how much it counts, above 0; ``class_weights``:
    by class, times which it counts there, 1 for those that are not named."""

    model: str
    weight: float = 1.0
    class_weights: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> Plain:
        """Plain values."""
        return {"model": self.model, "weight": self.weight, "class_weights": dict(self.class_weights)}


@dataclass(frozen=True)
class EnsembleDescription:
    """``members``: in their order. ``fusion``: name of the way of fusing (plug point ``fusion``), ``options``: its
    settings. ``least``: score of a member, before its calibration, from which its boxes take part, 0..1."""

    members: tuple[MemberDescription, ...]
    fusion: str = "weighted_boxes"
    options: PlainMapping = field(default_factory=dict)
    least: float = 0.001

    def to_json(self) -> Plain:
        """Plain values."""
        return {
            "fusion": self.fusion,
            "options": dict(self.options),
            "least": self.least,
            "members": [member.to_json() for member in self.members],
        }

    def weights(self, known: Sequence[Sequence[str]], names: Sequence[str]) -> np.ndarray:
        """How much each member counts for each of the classes ``names``: float64 (K, C), 0 where ``known[k]`` lacks
        the class."""
        return np.array(
            [
                [member.weight * member.class_weights.get(name, 1.0) if name in own else 0.0 for name in names]
                for member, own in zip(self.members, known, strict=True)
            ],
            np.float64,
        ).reshape(len(self.members), len(names))


def parse_ensemble(file: Path, content: Any) -> EnsembleDescription:
    """What stands under ``ensemble`` in ``file``. Raises ``UserError`` where it is wrong."""
    if not isinstance(content, dict):
        raise UserError(f"{file}: ensemble must hold members, fusion, options and least")
    members = content.get("members")
    if not isinstance(members, list) or not members:
        raise UserError(f"{file}: ensemble.members must list the members, one at least")
    parsed = tuple(_member(file, place, member) for place, member in enumerate(members))
    fusion, options, least = content.get("fusion"), content.get("options", {}), content.get("least", 0.001)
    if not isinstance(fusion, str):
        raise UserError(f"{file}: ensemble.fusion {fusion!r} must be the name of a way of fusing")
    if not isinstance(options, dict):
        raise UserError(f"{file}: ensemble.options must be settings of {fusion}")
    if not _is_number(least) or not 0 < least < 1:
        raise UserError(f"{file}: ensemble.least {least!r} must be a score above 0 and below 1")
    return EnsembleDescription(parsed, fusion, options, float(least))


def _member(file: Path, place: int, content: Any) -> MemberDescription:
    here = f"{file}: ensemble.members[{place}]"
    if not isinstance(content, dict):
        raise UserError(f"{here} must name a model")
    model, weight, classes = content.get("model"), content.get("weight", 1.0), content.get("class_weights", {})
    # A folder may come from anywhere: its description must not lead to files outside it.
    if not isinstance(model, str) or Path(model).name != model or model in ("", ".."):
        raise UserError(f"{here}.model {model!r} must be the name of a file or folder beside predictor.json")
    if not _is_number(weight) or weight <= 0:
        raise UserError(f"{here}.weight {weight!r} must be a number above 0")
    if not isinstance(classes, dict) or not all(_is_number(value) and value > 0 for value in classes.values()):
        raise UserError(f"{here}.class_weights must give classes numbers above 0")
    return MemberDescription(model, float(weight), {str(name): float(value) for name, value in classes.items()})


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
