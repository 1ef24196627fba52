"""Plug point ``drift_engine``: what measures how far each feature of a data set lies from the reference.

What counts as drift is the same for every engine: a distance of practical size (the limit of its kind) that dealing
whole groups to the two sides at random hardly reaches, with the false discovery rate held over all features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marauder.core.plugins import Plugin
from marauder.core.settings import Settings
from marauder.data.profile import Profile
from marauder.gates.drift_noise import Column, Kind, columns_of, deals, noise_of, significant_p_value

METHODS: dict[Kind, str] = {"numeric": "Wasserstein distance / standard deviation", "categorical": "Jensen-Shannon"}


@dataclass(frozen=True)
class FeatureDrift:
    """A feature's distance. ``limit``: the larger of the limit of its kind and of what chance reaches; ``p_value``: by
    dealing groups. ``reference``, ``current``: both sides in words, the median or the share that changed most."""

    feature: str
    kind: Kind
    method: str
    value: float
    limit: float
    p_value: float
    drifted: bool
    engine: str
    reference: str
    current: str


class DriftLimits(Settings):
    """From which distance a feature may count as drifted, and how sure that must be."""

    numeric: float = 0.1
    categorical: float = 0.1
    false_alarm_rate: float = 0.05
    permutations: int = 500
    seed: int = 0


class DriftEngine(Plugin[DriftLimits], ABC):
    """Measures distances of features."""

    settings_model = DriftLimits

    def compare(self, reference: Profile, current: Profile, report: Path | None = None) -> list[FeatureDrift]:
        """The drift of every feature that both profiles know. ``report``: where an engine that draws one leaves it."""
        columns, _, first, second = columns_of(reference, current)
        dealt = deals(first, second, self.settings.permutations, self.settings.seed)
        # Measured here and not by the engine, which would take the same distance anew for each of hundreds of deals.
        noises = [noise_of(column, dealt) for column in columns]
        certain = significant_p_value([noise.p_value for noise in noises], self.settings.false_alarm_rate)
        least = {"numeric": self.settings.numeric, "categorical": self.settings.categorical}
        limits = {
            column.name: max(least[column.kind], noise.limit(certain))
            for column, noise in zip(columns, noises, strict=True)
        }
        values = self.measure(columns, limits, report)
        return [
            FeatureDrift(
                column.name,
                column.kind,
                METHODS[column.kind],
                values[column.name],
                limits[column.name],
                noise.p_value,
                values[column.name] >= limits[column.name],
                self.name,
                *in_words(column),
            )
            for column, noise in zip(columns, noises, strict=True)
        ]

    @abstractmethod
    def measure(self, columns: Sequence[Column], limits: Mapping[str, float], report: Path | None) -> dict[str, float]:
        """Distance of every column by name: for numbers the first Wasserstein distance divided by the reference's
        standard deviation (at least 0.001), for categories the Jensen-Shannon distance (natural logarithm)."""


def in_words(column: Column) -> tuple[str, str]:
    """Both sides in words: their medians, or the value whose share changed most with its shares."""
    if column.kind == "numeric":
        return f"{np.median(column.reference):.3g}", f"{np.median(column.current):.3g}"
    found = np.unique(np.concatenate([column.reference, column.current]))
    shares = [
        np.array([float((side == value).mean()) for value in found]) for side in (column.reference, column.current)
    ]
    most = int(np.argmax(np.abs(shares[0] - shares[1])))
    return f"{found[most]} {shares[0][most]:.0%}", f"{found[most]} {shares[1][most]:.0%}"
