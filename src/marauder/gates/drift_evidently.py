"""Drift engine ``evidently``: the distances by Evidently, with its report as a page of HTML.

Evidently's own limits count every frame as independent. It is given this project's limits instead, which know of clips,
so that its page and the gate say the same. Importing it takes seconds and is left to the moment of comparing.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.errors import UserError
from marauder.core.files import atomic_path
from marauder.gates.drift_engine_base import DriftEngine
from marauder.gates.drift_noise import Column

OUT_OF_REACH = 1e9
"""Stands for an infinite limit, which the page could not show."""


class EvidentlyEngine(DriftEngine):
    """One ``ValueDrift`` a feature, method ``wasserstein`` or ``jensenshannon``, each with its own threshold."""

    name = "evidently"
    title = "Evidently"

    def measure(self, columns: Sequence[Column], limits: Mapping[str, float], report: Path | None) -> dict[str, float]:
        """Distances by name; the page goes to ``report`` where one is given."""
        if not columns:
            return {}
        os.environ.setdefault("DO_NOT_TRACK", "1")  # it would report its use to its makers
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the libraries below it, about themselves
                from evidently import DataDefinition, Dataset, Report
                from evidently.metrics import ValueDrift
        except ModuleNotFoundError as error:
            raise UserError(
                f"drift engine 'evidently' needs the package {error.name!r}, which is not installed; install marauder "
                "with the extra 'drift', or set engine: scipy in gates.yaml"
            ) from None
        definition = DataDefinition(
            numerical_columns=[column.name for column in columns if column.kind == "numeric"],
            categorical_columns=[column.name for column in columns if column.kind == "categorical"],
        )
        tables = [
            Dataset.from_pandas(_table(columns, side), data_definition=definition) for side in ("reference", "current")
        ]
        methods = {"numeric": "wasserstein", "categorical": "jensenshannon"}
        metrics: list[Any] = [
            ValueDrift(
                column=column.name,
                method=methods[column.kind],
                threshold=min(limits[column.name], OUT_OF_REACH),
            )
            for column in columns
        ]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            snapshot = Report(metrics, include_tests=True).run(reference_data=tables[0], current_data=tables[1])
            if report is not None:
                with atomic_path(report) as temporary:
                    snapshot.save_html(str(temporary))
        values: dict[str, float] = {}
        for column, entry in zip(columns, snapshot.dict()["metrics"], strict=True):
            value = float(entry["value"])
            # As in drift_scipy: rounding under the root where both sides are the same.
            values[column.name] = 0.0 if math.isnan(value) else value
        return values


def _table(columns: Sequence[Column], side: str) -> Any:
    """One side as a table: pictures have as many rows as there are pictures, boxes as there are boxes; the shorter
    columns end in empty cells, which Evidently leaves out."""
    import pandas

    parts = {column.name: pandas.Series(getattr(column, side)) for column in columns}
    return pandas.DataFrame(parts)
