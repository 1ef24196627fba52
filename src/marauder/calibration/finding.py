"""What is chosen for one model: views, then curves, then thresholds, all on the pictures to fit on; judged on others.

Each builds on what was chosen before it: curves are those of the scores that the chosen views give together, thresholds
are on the scale of the curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from marauder.calibration.class_thresholds import ClassThreshold, Outcome, choose_thresholds, outcome_at, unsure
from marauder.calibration.fitting import NONE, Fitted, cross_fitted, fit_calibration, judged_rows
from marauder.calibration.judging import Judgement, judge
from marauder.calibration.looking import look_at
from marauder.calibration.settings import CalibrateSettings
from marauder.calibration.view_search import Confirmation, ViewSearch, confirm, fused_views, search_views
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.wording import counted
from marauder.data.records import Dataset, Detections, Record
from marauder.evaluation.detection_table import DetectionTable, tabulate
from marauder.evaluation.matching import match
from marauder.evaluation.metrics import aggregate
from marauder.prediction.fusing.base import Fusion
from marauder.prediction.predictor import Predictor
from marauder.prediction.view_fusion import view_fusion
from marauder.prediction.view_names import PLAIN, PictureView, find_picture_views
from marauder.prediction.viewing import ONE_SIZE

FEWEST_GROUPS = 4
"""Groups below which neither intervals nor held-out parts mean anything."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """``fitting``: what everything is chosen on; ``judging``: what it is judged on, ``None``: by cross-fitting."""

    names: tuple[str, ...]
    fitting: tuple[Record, ...]
    judging: tuple[Record, ...] | None
    splits: tuple[str, str | None]


@dataclass(frozen=True, eq=False)
class Found:
    """What was chosen for one model, and what it is worth.

    ``records``, ``detections``: what was fitted on, with the model's own scores. ``outcomes``: of each threshold on the
    pictures that were judged; ``confirmed``: what the views gain there. ``set_aside``: why a picture could not be read,
    by key. ``untried``: views that the model cannot take.
    """

    records: tuple[Record, ...]
    detections: tuple[Detections, ...]
    set_aside: dict[str, str]
    search: ViewSearch
    fitted: Fitted
    thresholds: tuple[ClassThreshold, ...]
    outcomes: tuple[Outcome, ...]
    judgement: Judgement
    confirmed: Confirmation | None = None
    untried: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """What came of it, in a few lines."""
        told = self.fitted.calibration.describe().rstrip(".")
        if self.fitted.taken.method == NONE:
            told = "scores stay as they are: on held-out clips no calibration does better beyond doubt"
        lines = [self.judgement.words(), told]
        if self.judgement.too_few:
            lines.append(
                "few detections: beside the floor of a perfect detector the drop says little; label more clips"
            )
        lines.append(self.search.words())
        if self.untried:
            lines.append(f"not tried: {', '.join(self.untried)}: they need another input size, and {ONE_SIZE}")
        if self.confirmed is not None:
            lines.append(f"these views: {self.confirmed.words()}")
        if doubtful := unsure(self.thresholds):
            lines.append(f"thresholds that rest on too few boxes: {', '.join(doubtful)}")
        if self.set_aside:
            lines.append(f"set aside: {counted(len(self.set_aside), 'picture')} that cannot be read")
        return lines


def pictures_of(dataset: Dataset, settings: CalibrateSettings) -> Pictures:
    """The labelled pictures to fit on and to judge on. Where the data set has no such splits, all are fitted on, and
    judged by cross-fitting. Raises ``UserError`` with too few groups."""
    labelled = [record for record in dataset if record.labelled]
    by_split = {name: tuple(one for one in labelled if one.split == name) for name in dataset.splits()}
    fitting = by_split.get(settings.fit_split, ())
    judging = by_split.get(settings.judge_split, ()) or None
    split: str = settings.fit_split
    if not fitting:
        others = [name for name in by_split if by_split[name]]
        if len(others) > 1:
            raise UserError(
                f"{settings.data}: has no labelled pictures in the split {settings.fit_split} (there are: "
                f"{', '.join(others)}); name one with fit_split=, which no training saw"
            )
        fitting, judging, split = tuple(labelled), None, others[0] if others else "all pictures"
    groups = len({record.group for record in fitting})
    if groups < FEWEST_GROUPS:
        raise UserError(
            f"{settings.data}: {counted(len(fitting), 'labelled picture')} of {split} in {counted(groups, 'group')} "
            f"(clips); at least {FEWEST_GROUPS} groups are needed to choose anything on: label more clips"
        )
    return Pictures(dataset.names, fitting, judging, (split, settings.judge_split if judging else None))


def find(predictor: Predictor, pictures: Pictures, settings: CalibrateSettings, looks: Path, clock: Clock) -> Found:
    """Look, choose, fit and judge. ``looks``: where what the views show is kept. Raises ``Interrupted``."""
    names, asked = pictures.names, find_picture_views((PLAIN, *settings.views.candidates))
    views = [view for view in asked if predictor.takes_other_sizes or not view.at_another_size]
    sight = _Sight.of(predictor, views, pictures.fitting, looks / "fitting", settings, clock)
    search = search_views(sight.records, sight.shown, sight.seconds, views, names, settings.views, settings.seed)
    clock.check()
    way = view_fusion(settings.views.fusion)
    detections = sight.fused(search, way)
    table = tabulate(sight.records, detections, names)
    fitted = _fit(table, settings, sight.records, detections)
    clock.check()
    scores = fitted.calibration.apply_to(table.score, table.kind)
    thresholds = choose_thresholds(
        table.rescored(scores), settings.thresholds, settings.critical, settings.draws, settings.seed
    )
    clock.check()
    fitted_on, set_aside, confirmed = int(judged_rows(table).sum()), sight.set_aside, None
    if pictures.judging is None:
        judged, shown, scores = sight.records, detections, cross_fitted(table, settings)
    else:
        chosen = [view for view in views if view.name in search.kept]
        other = _Sight.of(predictor, chosen, pictures.judging, looks / "judging", settings, clock)
        judged, shown, set_aside = other.records, other.fused(search, way), {**set_aside, **other.set_aside}
        if search.helps:
            confirmed = confirm(judged, other.shown[PLAIN], shown, names, settings.views, settings.seed)
        table = tabulate(judged, shown, names)
        scores = fitted.calibration.apply_to(table.score, table.kind)
    judgement = judge(judged, shown, table, scores, fitted.calibration, fitted_on, settings.draws, settings.seed)
    outcomes = [outcome_at(table.rescored(scores), number, one.threshold) for number, one in enumerate(thresholds)]
    return Found(
        records=tuple(sight.records),
        detections=tuple(detections),
        set_aside=set_aside,
        search=search,
        fitted=fitted,
        thresholds=thresholds,
        outcomes=tuple(outcomes),
        judgement=judgement,
        confirmed=confirmed,
        untried=tuple(view.name for view in asked if view not in views),
    )


@dataclass(frozen=True, eq=False)
class _Sight:
    """What views show of the pictures that can be read: ``shown`` by view, as ``records``; ``seconds`` by view."""

    records: list[Record]
    shown: dict[str, list[Detections]]
    seconds: dict[str, float]
    set_aside: dict[str, str]

    @classmethod
    def of(
        cls,
        predictor: Predictor,
        views: Sequence[PictureView],
        records: Sequence[Record],
        folder: Path,
        settings: CalibrateSettings,
        clock: Clock,
    ) -> _Sight:
        seen = {view.name: look_at(predictor, view, records, folder, settings.batch, clock) for view in views}
        each = [one.detections for one in seen.values()]
        places = [place for place in range(len(records)) if all(found[place] is not None for found in each)]
        if not places:
            why = next((why for one in seen.values() for why in one.set_aside.values()), "none was named")
            raise UserError(f"no picture can be read; first: {why}")
        shown = {
            name: [found for place in places if (found := one.detections[place]) is not None]
            for name, one in seen.items()
        }
        set_aside = {key: why for one in seen.values() for key, why in one.set_aside.items()}
        seconds = {name: one.seconds for name, one in seen.items()}
        return cls([records[place] for place in places], shown, seconds, set_aside)

    def fused(self, search: ViewSearch, way: Fusion[Any]) -> list[Detections]:
        """What the views that were kept show together."""
        return fused_views([self.shown[name] for name in search.kept], way)


def _fit(
    table: DetectionTable, settings: CalibrateSettings, records: Sequence[Record], detections: Sequence[Detections]
) -> Fitted:
    fitted = fit_calibration(table, settings)
    rows = aggregate(match(records, detections, table.names)).per_class
    average = {str(row["name"]): float(row["ap50"]) for row in rows if np.isfinite(row["ap50"])}
    return replace(fitted, calibration=replace(fitted.calibration, average_precision=average))
