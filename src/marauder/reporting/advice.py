"""What to do next with a model, chosen from its figures. Pure: figures in, advice out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from marauder.core.wording import counted

GATES_FAILED, NOTHING_FOUND, LITTLE_FOUND = "gates_failed", "nothing_found", "little_found"
BELOW_LEVEL = "below_level"
START_PRETRAINED, CHECK_LABELS, TRAIN_LONGER = "start_pretrained", "check_labels", "train_longer"
LABELS_MISSING = "labels_missing"
VAL_ABOVE_TEST, CLASS_AT_ZERO, LABEL_MORE = "val_above_test", "class_at_zero", "label_more"
PROMOTE, EXPORT, USE = "promote", "export", "use"

NOTHING = 0.005
"""An average precision below it reads 0.00: nothing is found."""
LEAST_RISE, LEAST_RISE_SHARE = 0.005, 0.03
"""A curve rises where its last third lies above the third before by both: points, and a share of what was reached."""
LEAST_FALL_SHARE = 0.03
"""The loss falls where its last third lies below the third before by this share."""
FEW_EPOCHS = 10
"""Shorter trainings that taught nothing are worth continuing with, whatever their curves say."""
CLASSES_NAMED = 3
WEAKEST = "More labelled pictures of the weakest classes and slices help most."


@dataclass(frozen=True)
class Advice:
    """``kind``: a stable word for programs. ``text``: a sentence or two. ``command``: what to type, empty: nothing."""

    kind: str
    text: str
    command: str = ""

    def __str__(self) -> str:
        return f"{self.text} `{self.command}`" if self.command else self.text


@dataclass(frozen=True)
class ClassFigures:
    """A class: its AP50 (NaN: no boxes to measure it on), and by split its boxes and the clips that hold them."""

    name: str
    value: float
    boxes: Mapping[str, int]
    clips: Mapping[str, int]


@dataclass(frozen=True)
class Figures:
    """What advice on a detector rests on; what is not known stays at its default.

    ``value``: mAP50 on ``split`` (NaN: not measured), ``low`` to ``high`` its interval; ``level``: what the floor gate
    asks for, ``floor``: what a detector that has learned anything reaches; ``uncertain``: the floor gate cannot tell.
    ``on_val``: mAP50 of the same weights on val. ``validation``, ``losses``: by epoch. ``pretrained``: whether training
    started from weights. ``clips``: by split. ``failed``: gates that failed; ``withheld``: why it is not offered for
    production. ``unlabelled``: pictures with many confident boxes where no label is: the key and how many.
    ``nothing_found``: no detection is right at the operating point.
    """

    value: float
    split: str
    low: float = math.nan
    high: float = math.nan
    level: float = 0.05
    floor: float = 0.05
    uncertain: bool = False
    on_val: float = math.nan
    epochs: int = 0
    validation: Sequence[float] = ()
    losses: Sequence[float] = ()
    pretrained: bool = True
    clips: Mapping[str, int] = field(default_factory=dict)
    classes: Sequence[ClassFigures] = ()
    failed: Sequence[str] = ()
    withheld: str = ""
    unlabelled: Sequence[tuple[str, int]] = ()
    nothing_found: bool = False

    @property
    def is_unlearned(self) -> bool:
        """Whether it finds next to nothing. A higher level that somebody set says nothing about that."""
        return self.nothing_found or self.value < min(self.level, self.floor)


@dataclass(frozen=True)
class Commands:
    """Command lines that advice can name; empty: there is none for it."""

    longer: str = ""
    pretrained: str = ""
    check: str = ""
    promote: str = ""
    export: str = ""
    false_on_train: str = ""


def advise(figures: Figures, commands: Commands) -> list[Advice]:
    """What to do next, the most urgent first."""
    found = [*_of_failures(figures), *_of_learning(figures, commands), *_of_curves(figures, commands)]
    found += [
        *_of_labels(figures, commands),
        *_of_missing_labels(figures, commands),
        *_of_splits(figures, commands),
        *_of_classes(figures),
    ]
    found += _of_pictures(figures)
    # Below the level, or not measured, it is not offered either where the gate that says so was off.
    if figures.value >= figures.level and not (figures.failed or figures.withheld):
        found += _of_use(commands)
    return found


def _of_failures(figures: Figures) -> list[Advice]:
    if not figures.failed:
        return []
    names = ", ".join(figures.failed)
    text = f"Do not use it yet. Failed: {names}; the report's table says why, docs/gates.md what to do about it."
    return [Advice(GATES_FAILED, text)]


def _of_learning(figures: Figures, commands: Commands) -> list[Advice]:
    """A detector that finds nothing, next to nothing, or less than it has to."""
    if not figures.value < figures.level:
        return []
    if figures.is_unlearned:
        kind, words = (NOTHING_FOUND, "nothing") if figures.value < NOTHING else (LITTLE_FOUND, "next to nothing")
        found = [Advice(kind, f"It finds {words} (mAP50 {figures.value:.3f}): do not use it.")]
    else:
        text = f"mAP50 is {figures.value:.3f}, below the level you set ({figures.level:g}). {WEAKEST}"
        found = [Advice(BELOW_LEVEL, text)]
    if not figures.pretrained and commands.pretrained:
        text = "It started from random weights. Start from pretrained ones, which need far fewer pictures and epochs:"
        found.append(Advice(START_PRETRAINED, text, commands.pretrained))
    return found


def _of_labels(figures: Figures, commands: Commands) -> list[Advice]:
    """Where nothing is found, or little in spite of a good start, the labels may be at fault."""
    if not commands.check or not figures.is_unlearned or not (figures.pretrained or figures.value < NOTHING):
        return []
    text = (
        "Check the labels: the report shows three training pictures with their boxes. A detector learns nothing from "
        "boxes beside the animals or wrong classes."
    )
    return [Advice(CHECK_LABELS, text, commands.check)]


def _of_missing_labels(figures: Figures, commands: Commands) -> list[Advice]:
    """A detector that has learned is sure of many boxes where nobody drew one."""
    if figures.is_unlearned or not figures.unlabelled:
        return []
    key, most = max(figures.unlabelled, key=lambda one: one[1])
    pictures = counted(len(figures.unlabelled), f"picture of {figures.split} has", f"pictures of {figures.split} have")
    text = (
        f"{pictures} many confident boxes without a label (most: {key}, {most}): look for missing labels, under "
        "Pictures in the report."
    )
    if commands.false_on_train:
        text += " The report of this command shows the same of the training pictures:"
    return [Advice(LABELS_MISSING, text, commands.false_on_train)]


def _of_curves(figures: Figures, commands: Commands) -> list[Advice]:
    if not commands.longer:
        return []
    epochs = counted(figures.epochs, "epoch")
    if is_rising(figures.validation):
        text = f"mAP50 on val was still rising at the end ({figures.validation[-1]:.3f} after {epochs}): "
    elif figures.value < figures.level and is_falling(figures.losses):
        text = f"The training loss was still falling at the end, after {epochs}: "
    elif figures.is_unlearned and 0 < figures.epochs < FEW_EPOCHS:
        text = f"{epochs} of training teach{'es' if figures.epochs == 1 else ''} little: "
    else:
        return []
    return [Advice(TRAIN_LONGER, text + "train longer. The same run continues:", commands.longer)]


def is_rising(values: Sequence[float]) -> bool:
    """Whether a curve was still going up when it ended: its last third lies above the third before, and holds its
    highest value."""
    late, before = _last_thirds(values)
    if math.isnan(late - before) or max(values) > max(values[-_third(values) :]):
        return False
    return late - before > max(LEAST_RISE, LEAST_RISE_SHARE * late)


def is_falling(values: Sequence[float]) -> bool:
    """Whether a loss was still going down when it ended."""
    late, before = _last_thirds(values)
    return before - late > LEAST_FALL_SHARE * abs(before)


def _last_thirds(values: Sequence[float]) -> tuple[float, float]:
    """Means of the last third of a curve and of the third before; NaN with fewer than two values."""
    third = _third(values)
    late, before = values[-third:], values[-2 * third : -third]
    return (math.fsum(late) / len(late), math.fsum(before) / len(before)) if before else (math.nan, math.nan)


def _third(values: Sequence[float]) -> int:
    return max(1, len(values) // 3)


def _of_splits(figures: Figures, commands: Commands) -> list[Advice]:
    if figures.split == "val" or not figures.on_val > figures.high:
        return []
    clips = " and ".join(f"{_clips(figures.clips[name])} of {name}" for name in ("val", figures.split))
    text = (
        f"mAP50 is {figures.on_val:.3f} on val but {figures.value:.3f} on {figures.split} ({figures.low:.3f} to "
        f"{figures.high:.3f}): either clips of train are also in val, or {clips} are too few to be representative. "
        "Look for similar pictures in two splits:"
    )
    return [Advice(VAL_ABOVE_TEST, text, commands.check)]


def _of_classes(figures: Figures) -> list[Advice]:
    """Classes that are never found by a detector that has learned others."""
    if figures.is_unlearned:
        return []
    never = [one for one in figures.classes if one.value < NOTHING]
    parts = []
    for one in never[:CLASSES_NAMED]:
        held = [
            f"{name} has {counted(one.boxes[name], 'box', 'boxes')} of it in {_clips(one.clips[name])}"
            for name in one.boxes
        ]
        parts.append(f"{one.name} is never found: {', '.join(held)}")
    if not parts:
        return []
    more = len(never) - CLASSES_NAMED
    if more > 0:
        parts.append(f"{counted(more, 'more class is', 'more classes are')} never found either")
    them = "it" if len(never) == 1 else "them"
    return [Advice(CLASS_AT_ZERO, f"{'. '.join(parts)}. Label more of {them}, in other clips.")]


def _of_pictures(figures: Figures) -> list[Advice]:
    if math.isnan(figures.value):
        return [
            Advice(LABEL_MORE, f"mAP50 could not be measured on {figures.split}: label more pictures of that split.")
        ]
    if not figures.uncertain or figures.value < figures.level:
        return []
    clips = f", which has {_clips(figures.clips[figures.split])}" if figures.split in figures.clips else ""
    text = f"Label more clips of the split {figures.split}{clips}: its figures are too uncertain to decide by."
    return [Advice(LABEL_MORE, text)]


def _of_use(commands: Commands) -> list[Advice]:
    if commands.promote:
        text = f"{WEAKEST} If you trust it, make it the production model:"
        return [Advice(PROMOTE, text, commands.promote)]
    if commands.export:
        return [Advice(EXPORT, f"{WEAKEST} To use it elsewhere, export it:", commands.export)]
    return [Advice(USE, WEAKEST)]


def _clips(count: int) -> str:
    return counted(count, "clip")
