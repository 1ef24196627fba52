"""Drift engine ``scipy``: the distances by scipy alone. Starts in a tenth of Evidently's time and draws no report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from marauder.gates.drift_engine_base import DriftEngine
from marauder.gates.drift_noise import LEAST_DEVIATION, Column


class ScipyEngine(DriftEngine):
    """Wasserstein and Jensen-Shannon distances of scipy."""

    name = "scipy"
    title = "SciPy"

    def measure(self, columns: Sequence[Column], limits: Mapping[str, float], report: Path | None) -> dict[str, float]:
        """Distances by name; ``report`` is not used."""
        from scipy.spatial.distance import jensenshannon
        from scipy.stats import wasserstein_distance

        values: dict[str, float] = {}
        for column in columns:
            if column.kind == "numeric":
                deviation = max(float(column.reference.std()), LEAST_DEVIATION)
                distance = wasserstein_distance(column.reference, column.current) / deviation
            else:
                found, codes = np.unique(np.concatenate([column.reference, column.current]), return_inverse=True)
                split = len(column.reference)
                counts = [np.bincount(side, minlength=len(found)) for side in (codes[:split], codes[split:])]
                # Rounding may leave a tiny negative number under the root where both sides are the same.
                distance = np.nan_to_num(jensenshannon(*counts))
            values[column.name] = float(distance)
        return values
