"""Gate: overall metrics keep to absolute limits, whatever the model in production does."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from marauder.core.mistakes import Mistake, nearest
from marauder.core.plain import Plain
from marauder.core.settings import Places, Settings
from marauder.data.slices.settings import METRICS
from marauder.evaluation.metrics import SCALARS, Metrics
from marauder.gates.base import Gate, GateSettings
from marauder.gates.verdict import Verdict

SHARES = {*METRICS, "confidence", "d_ece", "la_ece", "ap50", "ap75", "ap50_95"}
"""Metrics that lie from 0 to 1, of the whole and (``ap50/fish``) of a class."""
OF_CLASSES = ("ap50", "ap75", "ap50_95", "precision", "recall", "f1")
"""Metrics that there is one of for each class."""
OVERALL = (*SCALARS, "d_ece", "la_ece")
"""Metrics of the whole."""
ALL_CLASSES = "`marauder data check` lists the classes"
OF_DETECTIONS = ("precision", "f1")
"""Metrics that a detector which finds nothing leaves undefined, though there is something to find."""


class Bounds(Settings):
    """Least and largest value of a metric; at least one of them."""

    model_config = ConfigDict(allow_inf_nan=False)

    minimum: float | None = Field(None, description="a smaller value breaks the limit")
    maximum: float | None = Field(None, description="a larger value breaks the limit")

    @model_validator(mode="after")
    def _bounded(self) -> Bounds:
        if self.minimum is None and self.maximum is None:
            raise ValueError("give a minimum, a maximum, or both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"the minimum {self.minimum:g} is above the maximum {self.maximum:g}")
        return self


class LimitsSettings(GateSettings):
    """Limits by metric: map50, map50_95, recall, precision, f1, d_ece, ap50/<class> and what else the run reports."""

    metrics: dict[str, Bounds] = Field(default_factory=dict, description="limits by the metric's name")

    def mistakes(self, places: Places) -> Iterator[Mistake]:
        """Limits of metrics that no run reports, or of classes that there are not: they would protect nothing."""
        for limit in self.metrics:
            metric, of_class, name = limit.partition("/")
            if metric not in (OF_CLASSES if of_class else OVERALL):
                known = tuple(f"{one}/CLASS" for one in OF_CLASSES) if of_class else OVERALL
                words = f"no metric named {metric!r}{nearest(metric, known, 'docs/gates.md names all')}"
            elif of_class and (classes := places.class_names()) is not None and name not in classes:
                words = f"no class named {name!r}{nearest(name, classes, ALL_CLASSES)}"
            else:
                continue
            # Names have dots of their own (a class may): the place is that of the exact key.
            at = places.layer.places.get((*places.prefix, "metrics", limit), "") or places.at("metrics")
            yield Mistake(f"{places.layer.name_of((*places.prefix, 'metrics', limit), at)}: {words}", at)

    @field_validator("metrics")
    @classmethod
    def _can_be_reached(cls, metrics: dict[str, Bounds]) -> dict[str, Bounds]:
        mistakes = [
            # Each with its own location, so that it is reported with its own line.
            InitErrorDetails(
                type=PydanticCustomError("out_of_range", "must be between 0 and 1"),
                loc=(name, side),
                input=bound,
            )
            for name, bounds in metrics.items()
            for side, bound in (("minimum", bounds.minimum), ("maximum", bounds.maximum))
            if bound is not None and name.partition("/")[0] in SHARES and not 0 <= bound <= 1
        ]
        if mistakes:
            raise ValidationError.from_exception_data(cls.__name__, mistakes)
        return metrics


@dataclass(frozen=True)
class LimitsEvidence:
    """Overall metrics by name, and those of classes (``recall/fish``); NaN: undefined on these pictures."""

    metrics: Mapping[str, float]

    @classmethod
    def of(cls, overall: Metrics, **further: float) -> LimitsEvidence:
        """All numbers of ``overall``, of its classes (``ap50/fish``), and ``further`` ones (``d_ece=0.08``)."""
        found = {name: float(getattr(overall, name)) for name in overall.scalars()}
        for row in overall.per_class:
            for metric, value in row.items():
                if metric not in ("name", "n_boxes"):
                    found[f"{metric}/{row['name']}"] = float(value)
        return cls({**found, **further})


@dataclass(frozen=True)
class Broken:
    """A value on the wrong side of a bound."""

    metric: str
    value: float
    bound: float
    side: str

    def __str__(self) -> str:
        value = "undefined, which counts as" if math.isnan(self.value) else f"{self.value:.4g},"
        return f"{self.metric} is {value} {self.side} {self.bound:.4g}"


def broken_bound(metric: str, value: float, minimum: float | None, maximum: float | None) -> Broken | None:
    """What is wrong with ``value``, or ``None``. The bounds themselves are allowed; NaN keeps to none."""
    if minimum is not None and not value >= minimum:
        return Broken(metric, value, minimum, "below its minimum")
    if maximum is not None and not value <= maximum:
        return Broken(metric, value, maximum, "above its maximum")
    return None


def found_nothing(metric: str, value: float, boxes: bool, minimum: float | None) -> Broken | None:
    """What is wrong with a NaN: a minimum is broken where nothing was detected though there are ``boxes``.

    ``None``: the metric cannot be judged, as there is nothing that it could be measured on.
    """
    if minimum is not None and boxes and metric.partition("/")[0] in OF_DETECTIONS and math.isnan(value):
        return Broken(f"{metric} (nothing was detected)", value, minimum, "below its minimum")
    return None


class LimitsGate(Gate[LimitsSettings, LimitsEvidence]):
    """Fails when a metric is beyond a limit, or when a limit names a metric that the run does not report."""

    name = "limits"
    phase = "end"
    title = "Metrics meet their limits"
    settings_model = LimitsSettings
    evidence_model = LimitsEvidence

    def judge(self, evidence: LimitsEvidence) -> Verdict:
        """Every limit in turn; the first broken one is the value."""
        limits = self.settings.metrics
        if not limits:
            return self.verdict("off", "no limits are set; name some under limits.metrics in gates.yaml")
        unknown = [name for name in limits if name not in evidence.metrics]
        known = {name: evidence.metrics[name] for name in limits if name in evidence.metrics}
        found, unjudged, names = [], [], []
        for name, value in known.items():
            bounds = limits[name]
            if not math.isnan(value):
                broken = broken_bound(name, value, bounds.minimum, bounds.maximum)
            else:
                broken = found_nothing(name, value, _has_boxes(name, evidence.metrics), bounds.minimum)
                if broken is None:
                    unjudged.append(f"{name} cannot be judged: {_why_undefined(name, evidence.metrics)}")
            if broken is not None:
                found.append(broken)
                names.append(name)
        facts: Plain = {
            "metrics": known,
            "limits": {name: bounds.model_dump() for name, bounds in limits.items()},
            "broken": names,
        }
        # Before the broken ones: a limit on a name that is not measured protects nothing.
        if unknown:
            why = "the run reports no " + ", no ".join(_with_hint(name, evidence.metrics) for name in unknown)
            why += "".join(f"; {one}" for one in found)
            return self.verdict(self.broken(), why, unknown[0], "a metric of this run", **facts)
        if found:
            why = "; ".join([*map(str, found), *unjudged])
            first_value = "undefined" if math.isnan(found[0].value) else found[0].value
            return self.verdict(self.broken(), why, first_value, found[0].bound, **facts)
        if unjudged:
            return self.verdict("warn", "; ".join(unjudged), **facts)
        tightest = next(iter(known))
        first = limits[tightest]
        bound = first.minimum if first.minimum is not None else first.maximum
        return self.verdict("pass", f"all {len(known)} limits are met", known[tightest], bound, **facts)


def _has_boxes(metric: str, metrics: Mapping[str, float]) -> bool:
    """Whether there are boxes for the metric: recall, of the whole or of a class, is undefined without any."""
    _, of_class, name = metric.partition("/")
    return not math.isnan(metrics.get(f"recall{of_class}{name}", math.nan))


def _why_undefined(metric: str, metrics: Mapping[str, float]) -> str:
    if _has_boxes(metric, metrics) and not metric.startswith(("map", "ar")):
        return "nothing was detected"
    _, _, name = metric.partition("/")
    return f"no boxes of {name}" if name else "no boxes that it is measured on"


def _with_hint(name: str, known: Mapping[str, float]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"{name} (did you mean {near[0]}?)" if near else f"{name} (it reports {', '.join(list(known)[:12])}, ...)"
