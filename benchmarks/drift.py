"""Claim: the drift gate leaves handfuls of clips of one data set alone and finds pictures that got darker.

Draws two halves of a data set again and again, groups kept whole, and counts how often each judge finds drift: where
nothing changed (false alarms; once more with the pictures written anew, as the darkened ones are), and where those of
one half were darkened (found). Beside the gate stand, on the same halves: a Kolmogorov-Smirnov test of every feature
that counts frames and boxes (chi-square for classes) at p < 0.05; the same for features of pictures only, with Holm's
correction; and the distances with Evidently's own limit of 0.1. Exit status 1 if the gate alarms falsely in more than
twice its rate, or finds less than 90 % of the strongest darkening.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from scipy import stats

from marauder.core.randomness import stream
from marauder.data.pictures import decode_picture
from marauder.data.profile import PICTURE_FEATURES, Profile, profile_dataset
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset
from marauder.gates.drift import DriftGate, DriftSettings, drift_evidence
from marauder.gates.drift_noise import columns_of
from marauder.gates.drift_scipy import ScipyEngine
from peers import describe_machine, shared_data

LIGHTS = (1.0, 0.95, 0.9, 0.5)
"""Light that is left; of red the square of it, since red goes first under water."""
EVIDENTLY_LIMIT = 0.1
SETTINGS = DriftSettings(engine="scipy")


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=100, help="pairs of halves of each case")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    print(describe_machine())
    judges: dict[str, Callable[[Profile, Profile], bool]] = {
        "gate": gate_alarms,
        "KS": lambda here, there: min(frame_p_values(here, there)) < 0.05,
        "KS of pictures, Holm": holm_alarms,
        "distance 0.1": distance_alarms,
    }
    figures: dict[str, dict[str, float]] = {}
    for name in ("aquarium", "deepfish"):
        dataset = read_dataset(shared_data() / name, format="yolo")
        plain = profile_dataset(dataset)
        print(f"{name}: {len(plain)} pictures in {plain.group_count()} groups, {options.draws} pairs of halves")
        cases = {"nothing changed": plain}
        with tempfile.TemporaryDirectory() as folder:
            for light in LIGHTS:
                cases[f"light {light:.0%}" if light < 1 else "written anew"] = profile_dataset(
                    darkened(dataset, light, Path(folder) / str(light))
                )
        for case, changed in cases.items():
            rates = found(judges, plain, changed, options.draws)
            figures[f"{name}, {case}"] = rates
            print(f"  {case:15}" + "".join(f"  {judge} {rate:6.1%}" for judge, rate in rates.items()))
    engine_seconds()
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    calm = all(rates["gate"] <= 2 * SETTINGS.false_alarm_rate for case, rates in figures.items() if "light" not in case)
    awake = all(rates["gate"] >= 0.9 for case, rates in figures.items() if case.endswith(f"{LIGHTS[-1]:.0%}"))
    return 0 if calm and awake else 1


def found(
    judges: dict[str, Callable[[Profile, Profile], bool]], plain: Profile, changed: Profile, draws: int
) -> dict[str, float]:
    """How often each judge finds drift between one half of ``plain`` and the other half of ``changed``."""
    groups = np.array(plain.groups)
    known = sorted(set(plain.groups))
    counts = dict.fromkeys(judges, 0)
    for number in range(draws):
        order = stream(0, "drift benchmark", number).permutation(len(known))
        first = np.isin(groups, [known[place] for place in order[: len(known) // 2]])
        here, there = plain.take(np.flatnonzero(first)), changed.take(np.flatnonzero(~first))
        for judge, alarms in judges.items():
            counts[judge] += alarms(here, there)
    return {judge: count / draws for judge, count in counts.items()}


def gate_alarms(here: Profile, there: Profile) -> bool:
    """Whether the gate does not pass."""
    return DriftGate(SETTINGS).judge(drift_evidence(here, there, SETTINGS)).answer != "pass"


def holm_alarms(here: Profile, there: Profile) -> bool:
    """Whether any feature of the pictures differs with Holm's correction, which compares the smallest p value."""
    p_values = frame_p_values(here, there, PICTURE_FEATURES)
    return min(p_values) * len(p_values) < 0.05


def frame_p_values(here: Profile, there: Profile, features: Sequence[str] = ()) -> list[float]:
    """The p value of every feature (of ``features``, if any are named) that counts each frame and box by itself."""
    p_values = []
    for column in columns_of(here, there)[0]:
        if features and column.name not in features:
            continue
        if column.kind == "numeric":
            p_values.append(float(stats.ks_2samp(column.reference, column.current).pvalue))
        else:
            values = np.unique(np.concatenate([column.reference, column.current]))
            table = [[int((side == value).sum()) for value in values] for side in (column.reference, column.current)]
            p_values.append(float(stats.chi2_contingency(table).pvalue) if len(values) > 1 else 1.0)
    return p_values


def distance_alarms(here: Profile, there: Profile) -> bool:
    """Whether any feature lies beyond Evidently's own limit."""
    columns = columns_of(here, there)[0]
    values = ScipyEngine().measure(columns, {}, None)
    return max(values.values()) >= EVIDENTLY_LIMIT


def darkened(dataset: Dataset, light: float, folder: Path) -> Dataset:
    """The data set with ``light`` of its light left, its pictures in ``folder``."""
    folder.mkdir(parents=True)
    records = []
    for number, record in enumerate(dataset):
        path = folder / f"{number}.jpg"
        picture = decode_picture(record.picture) * np.array([light**2, light, light])
        cv2.imwrite(str(path), picture.astype(np.uint8)[:, :, ::-1])
        records.append(replace(record, picture=path))
    return dataset.with_records(records)


def engine_seconds(names: Sequence[str] = ("scipy", "evidently")) -> None:
    """Print what one comparison of 2 × 287 pictures costs with each engine, the second time (imports done)."""
    profile = profile_dataset(read_dataset(shared_data() / "aquarium", format="yolo"))
    here, there = profile.take(range(0, len(profile), 2)), profile.take(range(1, len(profile), 2))
    seconds = {}
    for name in names:
        settings = DriftSettings.model_validate({"engine": name})
        drift_evidence(here, there, settings)
        started = time.perf_counter()
        drift_evidence(here, there, settings)
        seconds[name] = time.perf_counter() - started
    print(", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()) + " for one comparison")


if __name__ == "__main__":
    sys.exit(main())
