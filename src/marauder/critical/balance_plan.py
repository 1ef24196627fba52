"""The plan of draws as files: how often each picture and class is drawn in an epoch; no picture is copied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marauder.core.files import write_json, write_text
from marauder.core.wording import counted
from marauder.critical.settings import CriticalSettings
from marauder.data.balancing import class_frequencies
from marauder.data.records import Record
from marauder.pages.rendering import render_page

PLAN_FILE, PLAN_PAGE = "balance.json", "balance.html"


@dataclass(frozen=True)
class ClassDraws:
    """A class in the training pictures: how many show it, how many boxes, and what an epoch draws of it."""

    name: str
    critical: bool
    pictures: int
    boxes: int
    share: float
    draws: float
    factor: float


@dataclass(frozen=True)
class BalancePlan:
    """What an epoch is made of. ``length``: draws in it; ``records``: pictures; ``page``: the plan for people. ``bag``:
    which clips take part, in words, where not all do."""

    classes: tuple[ClassDraws, ...]
    records: int
    length: int
    file: Path
    page: Path
    bag: str | None = None

    def describe(self) -> str:
        """A table with one line for each class."""
        lines = [f"{counted(self.records, 'picture')}, {self.length} draws an epoch; nothing is copied"]
        if self.bag is not None:
            lines.append(self.bag)
        for one in self.classes:
            mark = " (critical)" if one.critical else ""
            factor = "–" if math.isnan(one.factor) else f"{one.factor:.2f}"
            held = f"{counted(one.boxes, 'box', 'boxes')} in {counted(one.pictures, 'picture')}"
            lines.append(f"  {one.name}{mark}: {held}, pictures drawn {factor} times")
        return "\n".join([*lines, f"plan:    {self.file}", f"page:    {self.page}"])


def plan_balance(settings: CriticalSettings) -> BalancePlan:
    """Write ``balance.json`` and ``balance.html`` into the output: the very factors that training draws by.

    Raises ``UserError`` for data that cannot be trained on.
    """
    # Inside: the settings and ``--help`` must not load torch.
    from marauder.tasks.detection.class_weighting import bagged, check_critical_boxes, resampling_of
    from marauder.tasks.detection.data import DetectionData, labelled

    # Read as the training reads it, so that plan and training cannot differ.
    data = DetectionData(settings)
    names = data.dataset.names
    bag = bagged(settings, labelled(data.dataset.split("train")), names)
    records = bag.records
    if data.critical:
        check_critical_boxes(data.critical, records, names)
    resampling, factors = resampling_of(settings, records, names, data.critical, bag.times)
    assert settings.output is not None
    plan = BalancePlan(
        classes=_class_draws(records, names, data.critical, factors),
        records=len(records),
        length=resampling.length if resampling is not None else len(records),
        file=settings.output / PLAN_FILE,
        page=settings.output / PLAN_PAGE,
        bag=None if settings.bagging.is_off else bag.describe(),
    )
    # By key where factors are equal: the file is the same each time.
    pictures = sorted(zip(factors.tolist(), records, strict=True), key=lambda pair: (-pair[0], pair[1].key))
    content = {
        "format": 1,
        "settings": settings.balance.model_dump(mode="json"),
        "bagging": plan.bag,
        "length": plan.length,
        "classes": [vars(one) for one in plan.classes],
        "pictures": [
            {"key": record.key, "picture": str(record.picture), "factor": factor} for factor, record in pictures
        ],
    }
    write_json(plan.file, content)
    shown_pictures = [{"key": record.key, "factor": factor} for factor, record in pictures[:50]]
    context = {"plan": plan, "settings": settings, "pictures": shown_pictures}
    write_text(plan.page, render_page("critical/balance.html", **context))
    return plan


def _class_draws(
    records: Sequence[Record], names: Sequence[str], critical: Sequence[str], factors: np.ndarray
) -> tuple[ClassDraws, ...]:
    """Of each class what ``records`` show of it, drawn by ``factors`` (N,)."""
    frequencies = class_frequencies(records, len(names))
    classes = []
    for number, name in enumerate(names):
        # Crowds teach nothing, and are no reason to draw a picture.
        shown = np.array([(one.classes[~one.ignored] == number).any() for one in records], bool)
        boxes = sum(int((one.classes[~one.ignored] == number).sum()) for one in records)
        draws = float(factors[shown].sum())
        classes.append(
            ClassDraws(
                name=name,
                critical=name in critical,
                pictures=int(shown.sum()),
                boxes=boxes,
                share=float(frequencies[number]),
                draws=draws,
                factor=draws / shown.sum() if shown.any() else math.nan,
            )
        )
    return tuple(classes)
