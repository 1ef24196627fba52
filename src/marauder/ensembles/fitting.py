"""Fitting how members are fused, on groups of pictures that are then not measured on.

The groups of the split for fitting are divided into parts. For each part everything is fitted on the others (the curves
of every member, the settings of the way of fusing, from which score boxes take part, the weights) and applied to the
part: what comes of it shows how an ensemble fitted in this way does on groups that it has not seen. The ensemble itself
is fitted on all parts.

Weights come from average precision: a member counts by its mean, or for each class by its own, to a power that is
fitted like the rest. That is one number to fit instead of members times classes, which few groups would not bear.
(PRAE, arXiv 2105.03139, 2021, goes by the members' precision on validation pictures, too.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, read_json, write_json
from marauder.core.plain import Plain, PlainMapping
from marauder.core.plugins import resolve
from marauder.core.progress import Progress
from marauder.core.randomness import stream
from marauder.data.records import Detections
from marauder.ensembles.fusing import Recipe, alone, calibrate_member
from marauder.ensembles.looking import Looked
from marauder.ensembles.settings import EnsembleSettings
from marauder.evaluation.matching import match
from marauder.evaluation.metrics import Metrics, aggregate
from marauder.evaluation.resampling import PRECISION_METRICS
from marauder.prediction.fusing.base import Fusion
from marauder.prediction.score_calibration import ScoreCalibration

LEAST = (0.01, 0.001, 0.05)
"""Own scores from which boxes may take part, the first one while the rest is fitted."""
POWERS = (1.0, 2.0, 4.0)
EQUAL, BY_MEMBER, BY_CLASS = "equal", "members", "members and classes"
SUPPORT = 20
"""So many boxes of a class its average precision must rest on to count as much as the member's mean."""
LEAST_SHARE = 0.05
"""The least weight, as a share of the greatest."""
FEWEST_GROUPS = 2


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was fitted on some groups. ``calibrations``: of each member; ``recipe``; ``weighing``: ``EQUAL``,
    ``BY_MEMBER`` or ``BY_CLASS``, with ``power``; ``value``: the metric where it was fitted; ``tried``: what else was
    tried there, in words, with the metric."""

    calibrations: tuple[ScoreCalibration, ...]
    recipe: Recipe
    weighing: str
    power: float
    value: float
    tried: tuple[tuple[str, float], ...]

    def fuse(self, looked: Looked) -> list[Detections]:
        """What the ensemble finds in each picture."""
        return self.recipe.fuse(self.calibrations, looked)

    def to_json(self) -> Plain:
        """Plain values from which ``from_json`` makes the same."""
        recipe = self.recipe
        return {
            "calibrations": [one.to_json() for one in self.calibrations],
            "fusion": recipe.fusion,
            "options": recipe.options,
            "least": recipe.least,
            "weights": recipe.weights.tolist(),
            "weighing": self.weighing,
            "power": self.power,
            "value": self.value,
            "tried": self.tried,
        }

    @classmethod
    def from_json(cls, content: PlainMapping) -> Fitted:
        """What ``to_json`` gave."""
        weights = np.array(content["weights"], np.float64)
        recipe = Recipe(content["fusion"], dict(content["options"]), float(content["least"]), weights)
        curves = tuple(ScoreCalibration.from_json(one) for one in content["calibrations"])
        tried = tuple((str(words), float(value)) for words, value in content["tried"])
        return cls(curves, recipe, content["weighing"], float(content["power"]), float(content["value"]), tried)


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """All pictures of the split for fitting, each with what was fitted on the groups of other parts. ``looked``: them;
    ``part``: int64 (P,), the part of each; ``fits``: of each part."""

    looked: Looked
    part: np.ndarray
    fits: tuple[Fitted, ...]

    def fused(self) -> list[Detections]:
        """What the ensembles find in the pictures of their parts."""
        found: dict[int, Detections] = {}
        for number, fit in enumerate(self.fits):
            places = np.flatnonzero(self.part == number)
            found |= zip(places.tolist(), fit.fuse(self.looked.take(places)), strict=True)
        return [found[place] for place in range(len(self.part))]

    def alone(self, place: int) -> list[Detections]:
        """What one member finds, calibrated on other parts."""
        own = self.looked.found[place]
        curves = [fit.calibrations[place] for fit in self.fits]
        return [alone(curves[part], [own[index]])[0] for index, part in enumerate(self.part)]

    def equal(self) -> CrossFitted:
        """The same with equal weights."""
        fits = tuple(
            replace(one, recipe=one.recipe.equal(), weighing=EQUAL, power=0.0) if one.weighing != EQUAL else one
            for one in self.fits
        )
        return replace(self, fits=fits)

    def without(self, place: int) -> CrossFitted:
        """The same without one member."""
        return replace(self, fits=tuple(replace(one, recipe=one.recipe.without(place)) for one in self.fits))

    def of(self, places: Sequence[int]) -> CrossFitted:
        """The same of some of the members; what was fitted stays."""
        looked = self.looked.of(places)
        fits = tuple(
            replace(
                fit,
                recipe=fit.recipe.of(places),
                calibrations=tuple(fit.calibrations[place] for place in places),
            )
            for fit in self.fits
        )
        return CrossFitted(looked, self.part, fits)


def divide(groups: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """The part of each picture, int64 (P,): whole groups, as many in each part as possible; a function of the seed and
    the names. Raises ``UserError`` where there is only one group."""
    known = np.unique(np.asarray(groups, dtype=str))
    if len(known) < FEWEST_GROUPS:
        raise UserError(
            "all pictures for fitting are of one group (clip), so that nothing fitted on some can be judged on others; "
            "name another split with fit=…, or divide the data anew (`marauder data organize --fractions`)"
        )
    order = stream(seed, "ensemble", "parts").permutation(len(known))
    part_of = np.empty(len(known), np.int64)
    part_of[order] = np.arange(len(known)) % min(folds, len(known))
    return part_of[np.searchsorted(known, np.asarray(groups, dtype=str))]


def cross_fit(
    looked: Looked,
    knows: np.ndarray,
    names: Sequence[str],
    settings: EnsembleSettings,
    clock: Clock,
    folder: Path,
    key: str,
) -> CrossFitted:
    """Fit once for each part, on all others. ``knows``: bool (K, C), which member knows which class.

    What is fitted is kept in ``folder`` under ``key``, which stands for all that it is made from.
    """
    part = divide([record.group for record in looked.records], settings.folds, settings.seed)
    fits = []
    with Progress("fitting", int(part.max()) + 1, unit="parts") as progress:
        for number in range(int(part.max()) + 1):
            path = folder / f"fit-{number:02d}.json"
            fitted = _kept(path, key)
            if fitted is None:
                fitted = fit(looked.take(np.flatnonzero(part != number)), knows, names, settings, clock)
                write_json(path, {"key": key, "fitted": fitted.to_json()})
            fits.append(fitted)
            progress.advance()
    return CrossFitted(looked, part, tuple(fits))


def _kept(path: Path, key: str) -> Fitted | None:
    try:
        content = read_json(path) if path.is_file() else None
    except DamagedFileError:
        return None  # it is made anew
    if not isinstance(content, dict) or content.get("key") != key:
        return None
    return Fitted.from_json(content["fitted"])


def fit(
    looked: Looked,
    knows: np.ndarray,
    names: Sequence[str],
    settings: EnsembleSettings,
    clock: Clock,
    weighed: bool = True,
) -> Fitted:
    """Fit everything on these pictures. ``weighed``: whether weights are fitted where settings allow it.

    Of choices that are equally good the first, which is the usual one, stays.
    """
    calibrations = tuple(calibrate_member(looked, place, names) for place in range(len(looked.found)))
    trial = _Trial(looked, names, calibrations, settings.metric, clock)
    way: type[Fusion[Any]] = resolve("fusion", settings.fusion)
    choices = {name: values for name, values in way.tried.items() if name not in settings.options}
    usual = {**settings.options, **{name: values[0] for name, values in choices.items()}}
    trial.take(Recipe(settings.fusion, usual, LEAST[0], knows.astype(np.float64)), "the usual settings")
    for name, values in choices.items():
        for value in values[1:]:
            recipe = replace(trial.best, options={**trial.best.options, name: value})
            trial.take(recipe, f"{name} {value:g}")
    for least in LEAST[1:]:
        trial.take(replace(trial.best, least=least), f"boxes from {least:g}")
    weighing, power = EQUAL, 0.0
    if settings.weights and weighed:
        for words, exponent, weights in weightings(trial.precisions(), knows):
            if trial.take(replace(trial.best, weights=weights), f"weights by {words}, power {exponent:g}"):
                weighing, power = words, exponent
    return Fitted(calibrations, trial.best, weighing, power, trial.value, tuple(trial.tried))


@dataclass(frozen=True, eq=False)
class Precisions:
    """Average precision of K members for C classes on the pictures of the fit: ``by_class`` float64 (K, C), NaN where
    there is no box of the class; ``boxes``: int64 (C,)."""

    by_class: np.ndarray
    boxes: np.ndarray


def weightings(found: Precisions, knows: np.ndarray) -> Iterator[tuple[str, float, np.ndarray]]:
    """The weights worth trying besides equal ones: what they go by, to which power, float64 (K, C)."""
    known = np.where(knows, found.by_class, np.nan)
    # A member is judged on the classes that all know as far as there are such: what it cannot know is no fault.
    common = knows.all(axis=0) & ~np.isnan(found.by_class).any(axis=0)
    mean = _means(known[:, common] if common.any() else known)
    share = found.boxes / (found.boxes + SUPPORT)
    # Of a class with few boxes the mean of the member counts, too.
    leaning = np.where(np.isnan(known), mean[:, None], share * np.nan_to_num(known) + (1 - share) * mean[:, None])
    for words, values in ((BY_MEMBER, np.repeat(mean[:, None], knows.shape[1], axis=1)), (BY_CLASS, leaning)):
        most = np.where(knows, values, 0.0).max(axis=0)
        relative = np.divide(values, most, out=np.ones_like(values), where=most > 0)
        for power in POWERS:
            yield words, power, np.where(knows, np.maximum(relative**power, LEAST_SHARE), 0.0)


def _means(values: np.ndarray) -> np.ndarray:
    """Mean of what is defined in each row, 0 where nothing is."""
    defined = ~np.isnan(values)
    return np.where(defined, values, 0.0).sum(axis=1) / np.maximum(defined.sum(axis=1), 1)


class _Trial:
    """Recipes tried on pictures with labels; the best one so far."""

    def __init__(
        self,
        looked: Looked,
        names: Sequence[str],
        calibrations: tuple[ScoreCalibration, ...],
        metric: str,
        clock: Clock,
    ) -> None:
        self.looked, self.names, self.calibrations = looked, names, calibrations
        self.metric, self.clock = metric, clock
        self.best: Recipe
        self.value = -1.0
        self.tried: list[tuple[str, float]] = []
        self.known: dict[Any, float] = {}

    def take(self, recipe: Recipe, words: str) -> bool:
        """Try a recipe; whether it is better than the best so far, which it then becomes."""
        self.clock.check()
        key = (tuple(sorted(recipe.options.items())), recipe.least, recipe.weights.tobytes())
        if key not in self.known:
            self.known[key] = metric_of(self._measure(recipe.fuse(self.calibrations, self.looked)), self.metric)
            self.tried.append((words, self.known[key]))
        better = self.known[key] > self.value
        if better:
            self.best, self.value = recipe, self.known[key]
        return better

    def precisions(self) -> Precisions:
        """Average precisions of the members by themselves."""
        measured = [
            self._measure(alone(curve, own)) for curve, own in zip(self.calibrations, self.looked.found, strict=True)
        ]
        area, thresholds = PRECISION_METRICS[self.metric]
        by_class = np.array([one.ap[area][list(thresholds)].mean(axis=0) for one in measured])
        return Precisions(by_class, measured[0].boxes_of[area])

    def _measure(self, found: Sequence[Detections]) -> Metrics:
        return aggregate(match(self.looked.records, found, self.names))


def metric_of(measured: Metrics, metric: str) -> float:
    """A metric by name; 0 where it is undefined."""
    value = float(getattr(measured, metric))
    return value if np.isfinite(value) else 0.0


def class_weights_of(weights: np.ndarray, names: Sequence[str]) -> list[tuple[float, Mapping[str, float]]]:
    """Weights (K, C) as they are written down: of each member its weight, the greatest for a class being 1 over all
    members, and what that is multiplied by for classes where it is another."""
    most = weights.max() if weights.size else 1.0
    said: list[tuple[float, Mapping[str, float]]] = []
    for row in weights / most:
        known = row > 0
        weight = float(row[known].max()) if known.any() else 1.0
        named = {
            name: float(value / weight) for name, value in zip(names, row, strict=True) if value > 0 and value != weight
        }
        said.append((weight, named))
    return said
