"""What members and the ensemble cost: the time of a look at one picture, in interleaved rounds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.core.clock import Clock
from marauder.core.plain import Plain
from marauder.core.progress import Progress
from marauder.ensembles.settings import CostSettings
from marauder.exporting.latency import Timing, describe_machine, why_unsteady
from marauder.prediction.predictor import Predictor

LEAST_ROUNDS = 3
ENSEMBLE = "the ensemble"


@dataclass(frozen=True)
class Cost:
    """Milliseconds of a look at one picture, from its pixels to boxes, by name; ``ENSEMBLE`` among them.

    ``rounds``: timed looks of each. ``unsteady``: why the figures are not those of a machine at rest; empty: nothing
    says so.
    """

    timings: dict[str, Timing]
    rounds: int
    machine: str
    device: str
    unsteady: str

    @property
    def times_fastest(self) -> float:
        """How many times as long as the fastest member the ensemble takes."""
        members = [one.p50 for name, one in self.timings.items() if name != ENSEMBLE]
        return self.timings[ENSEMBLE].p50 / min(members)

    def to_json(self) -> Plain:
        """Plain values."""
        return {
            "milliseconds": {name: {"p50": one.p50, "p95": one.p95} for name, one in self.timings.items()},
            "sum_of_members": sum(one.p50 for name, one in self.timings.items() if name != ENSEMBLE),
            "times_fastest": self.times_fastest,
            "rounds": self.rounds,
            "machine": self.machine,
            "device": self.device,
            "unsteady": self.unsteady,
        }


def measure_cost(
    members: dict[str, Predictor],
    ensemble: Predictor,
    pictures: Sequence[np.ndarray],
    settings: CostSettings,
    clock: Clock,
) -> Cost:
    """Time each member and the ensemble in turn, round after round, so that what slows the machine down slows all of
    them alike. ``pictures``: uint8 (H, W, 3), looked at one at a time. Asks the clock before every round."""
    looking = {**members, ENSEMBLE: ensemble}
    seconds: dict[str, list[float]] = {name: [] for name in looking}
    with Progress("timing", settings.rounds, unit="rounds") as progress:
        for predictor in looking.values():
            clock.check()
            predictor.predict(pictures[:1])
        started = time.perf_counter()
        for number in range(settings.rounds):
            clock.check()
            if number >= LEAST_ROUNDS and time.perf_counter() - started > settings.max_seconds:
                break
            picture = pictures[number % len(pictures)]
            for name, predictor in looking.items():
                begin = time.perf_counter()
                predictor.predict([picture])
                seconds[name].append(time.perf_counter() - begin)
            progress.advance()
    medians = {name: float(np.percentile(values, 50)) for name, values in seconds.items()}
    fastest = min(medians[name] for name in members)
    timings = {
        name: Timing(medians[name] * 1e3, float(np.percentile(values, 95)) * 1e3, fastest / medians[name])
        for name, values in seconds.items()
    }
    rounds = len(seconds[ENSEMBLE])
    return Cost(timings, rounds, describe_machine(), str(ensemble.device), why_unsteady(timings))
