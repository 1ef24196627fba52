"""Tables of trainings: each trained once in a process of its own, kept as a line of JSON, compared seed by seed.

A table is stopped and run again at will: what is in its file of results is not trained again, and the trainings still
missing are listed with the command that adds them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import describe_machine, run_arm_process

Line = dict[str, Any]
"""A finished training: ``training``, what decides its figures, and the figures beside it."""


def add_options(parser: argparse.ArgumentParser, seeds: int = 3) -> None:
    """The options that every table has."""
    parser.add_argument("--seeds", type=int, default=seeds, help="trainings of each arm")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first; the others follow it")
    parser.add_argument("--results", type=Path, help="file of finished trainings, a line of JSON each")
    parser.add_argument("--only-report", action="store_true", help="train nothing, print what --results holds")
    parser.add_argument("--max-hours", type=float, help="begin no training after so many hours")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # one training, as JSON


def seeds_of(arguments: argparse.Namespace) -> range:
    """The seeds that the options name."""
    return range(arguments.first_seed, arguments.first_seed + arguments.seeds)


def read_results(path: Path | None) -> list[Line]:
    """Finished trainings; a line that a kill cut short is one that is not finished."""
    if path is None or not path.is_file():
        return []
    content = path.read_text(encoding="utf-8")
    if content and not content.endswith("\n"):
        content = content[: content.rfind("\n") + 1]
        path.write_text(content, encoding="utf-8")
    return [json.loads(line) for line in content.splitlines()]


def run_missing(
    keys: Sequence[Line], arguments: argparse.Namespace, train: Callable[[Line, int], Line], told: Callable[[Line], str]
) -> list[Line]:
    """Train what is not among the results yet, in order; returns all that is finished, the trainings ``keys`` alone.

    ``train`` takes what decides a training, and its number, and returns its figures.
    """
    done = read_results(arguments.results)
    if not arguments.only_report:
        print(describe_machine(), flush=True)
        end = math.inf if arguments.max_hours is None else time.monotonic() + 3600 * arguments.max_hours
        known = [line["training"] for line in done]
        for number, key in enumerate(key for key in keys if key not in known):
            if time.monotonic() > end:
                break
            line = {"training": key, **train(key, number)}
            done.append(line)
            if arguments.results is not None:
                arguments.results.parent.mkdir(parents=True, exist_ok=True)
                with arguments.results.open("a", encoding="utf-8") as file:
                    file.write(f"{json.dumps(line)}\n")
            print(told(line), flush=True)
    found = [line for line in done if line["training"] in keys]
    if len(found) < len(keys):
        print(f"{len(keys) - len(found)} of {len(keys)} trainings are still to be run: the same command continues")
    return found


@dataclass(frozen=True)
class Finding:
    """A row of docs/evidence.md: what was asked, what was found, what follows from it."""

    question: str
    """For example "Step 5: precision of the critical species at plain training's recall"."""
    figure: str
    """With its interval and number of seeds."""
    verdict: str
    """``met``, ``refuted`` or ``open`` (``judge``); without a target: ``measured``."""
    consequence: str
    """What is shipped or advised because of it."""


def print_findings(findings: Sequence[Finding]) -> None:
    """Each finding in a paragraph of its own."""
    for one in findings:
        print(f"\n{one.question}: {one.figure}: {one.verdict}; {one.consequence}")


def judge(found: Paired, target: float, none: float = 0.0) -> str:
    """``met``: the mean reaches the target and the interval leaves ``none`` (no effect) out; ``refuted``: the whole
    interval is below the target; otherwise ``open``."""
    if found.mean >= target and found.low > none:
        return "met"
    return "refuted" if found.high < target else "open"


def best_of(question: str, gains: Mapping[str, Paired | None], form: str) -> list[Finding]:
    """A row for the arm with the largest mean gain, if there is any; ``question`` may hold ``{count}``, of arms."""
    known = {arm: gain for arm, gain in gains.items() if gain is not None}
    if not known:
        return []
    best = max(known, key=lambda arm: known[arm].mean)
    advice = "the best of several is flattered by chance: to be confirmed on other seeds before it is used"
    figure = f"{best}: {known[best].describe(form)}"
    return [Finding(question.format(count=len(known)), figure, "measured", advice)]


def in_process(script: str, training: Mapping[str, Any], **given: Any) -> Line:
    """One training in a process of its own: ``script --one JSON``, whose last line of output is the figures."""
    words = json.dumps({**training, **given}, default=str)
    return run_arm_process(str(training.get("arm", "")), [sys.executable, script, "--one", words])


@dataclass(frozen=True)
class Paired:
    """A mean of differences paired by seed, with its 95 % interval (Student's t; NaN for one pair)."""

    mean: float
    low: float
    high: float
    pairs: int

    def describe(self, form: str = "+.4f") -> str:
        """In words; ``form``: how a figure is written."""
        if self.pairs < 2:
            return f"{self.mean:{form}} (one pair: no interval)"
        return f"{self.mean:{form}} (95 % interval {self.low:{form}} to {self.high:{form}}, {self.pairs} pairs)"


def interval(values: Sequence[float]) -> Paired:
    """The mean of ``values``, at least one, with its interval; NaN where one of them is."""
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2 or math.isnan(mean):
        return Paired(mean, math.nan, math.nan, len(values))
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return Paired(mean, mean - half, mean + half, len(values))


def by_table(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """The lines of each data set and scale, by their names in words; those of the scale ``tiny`` prove nothing."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        if line["training"]["scale"] != "tiny":
            found.setdefault(f"{line['training']['pictures']}, {line['training']['scale']}", []).append(line)
    return found


def by_seed(lines: Sequence[Line], arm: str, metric: str) -> dict[int, float]:
    """An arm's figure by seed."""
    return {line["training"]["seed"]: line[metric] for line in lines if line["training"]["arm"] == arm}


def groups(lines: Sequence[Line], apart: Sequence[str] = ("arm", "seed")) -> list[list[Line]]:
    """Lines whose trainings differ in the keys ``apart`` alone, in the order in which the first of each comes."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        rest = {name: value for name, value in line["training"].items() if name not in apart}
        found.setdefault(json.dumps(rest, sort_keys=True), []).append(line)
    return list(found.values())


def place_of(line: Line) -> str:
    """In words, for findings: the pictures, scale and start of a detector's training."""
    key = line["training"]
    start = "COCO" if key["weights"] else "random"
    return f"{key.get('pictures', 'aquarium')}, {key['scale']}, from {start} weights"


def paired(lines: Sequence[Line], arm: str, reference: str, metric: str, relative: bool = False) -> Paired | None:
    """How much ``arm`` has more of ``metric`` than ``reference``, over the seeds that both have; ``None``: over none.

    ``relative``: as a share of the reference's figure; seeds where that is 0 are left out.
    """
    ours, theirs = by_seed(lines, arm, metric), by_seed(lines, reference, metric)
    seeds = [seed for seed in ours if seed in theirs and not math.isnan(ours[seed]) and not math.isnan(theirs[seed])]
    if relative:
        seeds = [seed for seed in seeds if theirs[seed]]
    differences = [(ours[seed] - theirs[seed]) / (theirs[seed] if relative else 1) for seed in seeds]
    return interval(differences) if differences else None
