"""The roles of an ensemble's members: what each is trained for, and which metric picks its weights. Needs no torch.

Members that differ only by chance make the same mistakes. A role shifts what the classification loss weighs (α of the
balanced cross-entropy that Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, begin with, section 3.1;
γ = 0, so that nothing is faded out), how strongly pictures are changed, and how often rare classes are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from marauder.core.mistakes import nearest
from marauder.core.plain import PlainMapping
from marauder.models.naming import family_and_scale, unknown_detector


@dataclass(frozen=True)
class Role:
    """``metric``: picks the best weights (``training.best_metric``); ``changes``: settings of its own, by dotted name;
    ``title``: in a few words."""

    name: str
    title: str
    metric: str
    changes: PlainMapping


def _weighing(alpha: float) -> dict[str, object]:
    """Classification loss that weighs animals against background by ``alpha`` (0.5: alike) and fades nothing out."""
    return {"loss.focal.enabled": True, "loss.focal.gamma": 0.0, "loss.focal.alpha": alpha}


ROLES: Mapping[str, Role] = MappingProxyType(
    {
        role.name: role
        for role in (
            Role(
                "high_recall",
                "misses little",
                "recall_at_precision",
                MappingProxyType(
                    {
                        **_weighing(0.65),
                        "augmentation.mosaic": 1.0,
                        "augmentation.scale": 0.6,
                        "balance.kind": "repeat_factor",
                    }
                ),
            ),
            Role("balanced", "neither before the other", "map50", MappingProxyType({})),
            Role(
                "high_precision",
                "seldom wrong",
                "precision_at_recall",
                MappingProxyType({**_weighing(0.4), "augmentation.mosaic": 0.5, "augmentation.scale": 0.3}),
            ),
        )
    }
)
"""By name, in the order in which members get them where none is named."""


@dataclass(frozen=True)
class MemberName:
    """A member: its ``name`` in folders and reports, its architecture and its role; ``number``: its place, from 0."""

    name: str
    architecture: str
    role: Role
    number: int


def read_members(words: Sequence[str], architecture: str) -> tuple[MemberName, ...]:
    """Members as they are written: ``yolov8m:high_recall``, ``yolov8m`` (the roles in turn) or ``high_recall`` (of
    ``architecture``). Names are made unique by a number. Raises ``ValueError`` for what is neither."""
    found: list[MemberName] = []
    turn: dict[str, int] = {}
    for number, word in enumerate(words):
        model, role = _read(word, architecture)
        if role is None:
            # Each architecture goes through the roles by itself, so that three of a kind have one each.
            role = tuple(ROLES.values())[turn.get(model, 0) % len(ROLES)]
            turn[model] = turn.get(model, 0) + 1
        name = base = f"{model}_{role.name}"
        alike = 1
        while any(name == one.name for one in found):
            alike += 1
            name = f"{base}_{alike}"
        found.append(MemberName(name, model, role, number))
    return tuple(found)


def _read(word: str, architecture: str) -> tuple[str, Role | None]:
    first, colon, second = word.partition(":")
    if not colon and first in ROLES:
        return architecture, ROLES[first]
    named = family_and_scale(first)
    if named is None:
        raise ValueError(f"{word}: {unknown_detector(first)}; write yolov8m:high_recall, yolov8m or high_recall")
    if colon and second not in ROLES:
        raise ValueError(f"{word}: no role named {second!r}{nearest(second, list(ROLES))}")
    return "".join(named), ROLES[second] if colon else None
