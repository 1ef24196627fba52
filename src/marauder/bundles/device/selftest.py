"""Does the engine on this board answer as the detector did at the desk? Fixtures decide, not whether a build succeeded.

    python3 selftest.py --engines engine_int8.plan engine_fp16.plan engine_fp32.plan

Tries the engines in this order and takes the first that passes: letterboxed inputs with the detector's raw answers,
then whole pictures with its boxes. Measures how long a picture takes and what it costs, writes ``verdict.json`` and
exits with status 0 if an engine passed, 1 if none did. Written for Python 3.6 and numpy 1.13.
"""

import argparse
import json
import os
import platform
import sys
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import cv2
import numpy as np

try:
    import runner
except ImportError:  # at the desk it is part of a package
    from marauder.bundles.device import runner

SAME = 0.5
"""Two boxes of a class that overlap at least this much are the same animal."""
ROUNDS, WARM_UP = 100, 10
SENSORS = (
    # Name of the rail, and where JetPack shows its power in milliwatts; the first that is there is read.
    ("POM_5V_IN", "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input"),
    ("VDD_IN", "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon%d/in1_input"),
)


def load_fixtures(folder: str) -> List[Dict[str, Any]]:
    """The fixtures: pictures, letterboxed inputs, raw answers, boxes."""
    with open(os.path.join(folder, "fixtures.json"), encoding="utf-8") as file:
        listed = json.load(file)["fixtures"]
    found = []
    for one in listed:
        name = os.path.join(folder, one["name"])
        picture = cv2.imread(name + ".png")
        if picture is None:
            raise SystemExit("%s.png: cannot be read; copy the bundle again" % name)
        canvas, raw = np.load(name + "_input.npy"), np.load(name + "_raw.npy")
        found.append({"name": one["name"], "picture": picture, "canvas": canvas, "raw": raw, "animals": one["animals"]})
    return found


def compare_raw(
    expected: np.ndarray, found: np.ndarray, limits: Mapping[str, float]
) -> Tuple[List[str], Dict[str, float]]:
    """What is wrong with raw answers (4 + classes, places), and how far they are off: boxes in pixels of the input."""
    if not np.isfinite(found).all():
        return ["answers with numbers that are not finite"], {}
    reasons = []
    scores, told = expected[4:], found[4:]
    if told.min() < -limits["score"]:
        reasons.append("gives negative scores, down to %.3f" % told.min())
    difference = np.abs(scores - told)
    figures = {"score": float(difference.max()), "score_mean": float(difference.mean())}
    sure = scores.max(axis=0) >= limits["from_score"]
    if sure.any():
        apart = np.abs(expected[:4, sure] - found[:4, sure])
        shift = (found[:4, sure] - expected[:4, sure]).mean(axis=1)
        figures["box"], figures["shift"] = float(np.percentile(apart, 95)), float(np.abs(shift).max())
        figures["lost"] = float(np.mean(told[:, sure].max(axis=0) < limits["from_score"] / 2.0))
        same = scores[:, sure].argmax(axis=0) == told[:, sure].argmax(axis=0)
        figures["other_class"] = float(np.mean(~same))
    extra = int(np.sum((told.max(axis=0) >= limits["from_score"]) & (scores.max(axis=0) < limits["from_score"] / 2.0)))
    figures["extra"] = float(extra) / max(int(sure.sum()), 10)
    for name, words in _WORDS:
        if figures.get(name, 0.0) > limits[name]:
            reasons.append(words % (figures[name], limits[name]))
    return reasons, figures


_WORDS = (
    ("score", "a score is off by %.3f (limit %g)"),
    ("score_mean", "scores are off by %.5f in the mean (limit %g)"),
    ("box", "boxes are off by %.2f pixels (95 of 100; limit %g)"),
    ("shift", "boxes are shifted by %.2f pixels in the mean (limit %g)"),
    ("lost", "%.2f of the places that see an animal do not any more (limit %g)"),
    ("other_class", "%.2f of the places that see an animal call it another (limit %g)"),
    ("extra", "as many as %.2f of them see an animal where there is none (limit %g)"),
)


def compare_animals(
    expected: List[Dict[str, Any]], found: List[Dict[str, Any]], limits: Mapping[str, float]
) -> Tuple[int, int, int, List[float], List[float]]:
    """Pair the animals of a picture by class and overlap: paired, missing, extra; signed shifts and score differences.

    Animals just about at their threshold may be on either side of it and count as neither missing nor extra.
    """
    free = list(range(len(found)))
    paired, missing, shifts, scores = 0, 0, [], []  # type: int, int, List[float], List[float]
    for one in expected:
        overlaps = [(_overlap(one["box"], found[at]["box"]), at) for at in free if found[at]["class"] == one["class"]]
        best = max(overlaps) if overlaps else (0.0, -1)
        if best[0] >= SAME:
            free.remove(best[1])
            paired += 1
            shifts += [theirs - ours for ours, theirs in zip(one["box"], found[best[1]]["box"])]
            scores.append(abs(found[best[1]]["score"] - one["score"]))
        elif one["above"] > limits["near_threshold"]:
            missing += 1
    extra = sum(1 for at in free if found[at]["above"] > limits["near_threshold"])
    return paired, missing, extra, shifts, scores


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes x0 y0 x1 y1."""
    wide = max(min(first[2], second[2]) - max(first[0], second[0]), 0.0)
    high = max(min(first[3], second[3]) - max(first[1], second[1]), 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    union = sum(areas) - wide * high
    return wide * high / union if union > 0 else 0.0


def test_engine(detector: Any, fixtures: List[Dict[str, Any]], limits: Mapping[str, float]) -> Dict[str, Any]:
    """Both layers of every fixture: ``passed``, ``reasons``, ``figures``."""
    # Over all inputs together: of the few animals of one, a mean says little.
    answers = [detector.raw(one["canvas"]) for one in fixtures]
    expected = [one["raw"] for one in fixtures]
    if any(theirs.shape != ours.shape for ours, theirs in zip(expected, answers)):
        words = "answers %s, not %s" % (answers[0].shape, expected[0].shape)
        return {"passed": False, "reasons": ["inputs: " + words], "figures": {}}
    wrong, figures = compare_raw(np.concatenate(expected, axis=1), np.concatenate(answers, axis=1), limits)
    reasons = ["inputs: " + words for words in wrong]
    totals = [0, 0, 0]
    shifts, scores = [], []  # type: List[List[float]], List[float]
    for one in fixtures:
        found = with_margins(detector.find(one["picture"]), detector.bundle)
        paired, missing, extra, moved, differing = compare_animals(one["animals"], found, limits)
        totals = [totals[0] + paired, totals[1] + missing, totals[2] + extra]
        if moved:
            scale = max(one["picture"].shape[:2]) / float(max(detector.bundle["input"]))
            shifts += [[side / scale for side in moved[at : at + 4]] for at in range(0, len(moved), 4)]
        scores += differing
    reasons += _picture_reasons(totals, shifts, scores, limits, figures)
    return {"passed": not reasons, "reasons": reasons, "figures": figures}


def _picture_reasons(
    totals: List[int],
    shifts: List[List[float]],
    scores: List[float],
    limits: Mapping[str, float],
    figures: Dict[str, float],
) -> List[str]:
    """What whole pictures say, over all fixtures."""
    expected = totals[0] + totals[1]
    for name, count in zip(("animals_found", "animals_missing", "animals_extra"), totals):
        figures[name] = float(count)
    reasons = []
    if totals[1] > limits["animals_off"] * max(expected, 1):
        reasons.append("pictures: %d of %d animals are not found" % (totals[1], expected))
    if totals[2] > max(limits["animals_off"] * max(expected, 1), limits["animals_off"] * 10):
        reasons.append("pictures: %d animals are found that are none" % totals[2])
    if shifts:
        figures["picture_shift"] = float(np.abs(np.array(shifts).mean(axis=0)).max())
        if figures["picture_shift"] > limits["shift"]:
            reasons.append("pictures: boxes are shifted by %.2f pixels of the input" % figures["picture_shift"])
    if scores:
        figures["picture_score"] = float(np.mean(scores))
        if figures["picture_score"] > limits["picture_score"]:
            reasons.append("pictures: scores are off by %.3f in the mean" % figures["picture_score"])
    return reasons


def with_margins(animals: List[Dict[str, Any]], bundle: Dict[str, Any]) -> List[Dict[str, Any]]:
    """``animals`` with ``above``: how far their score is above the threshold of their class."""
    thresholds = dict(zip(bundle["names"], bundle["rules"]["thresholds"]))
    return [dict(one, above=one["score"] - thresholds[one["class"]]) for one in animals]


def measure(detector: Any, picture: np.ndarray, rounds: int = ROUNDS) -> Dict[str, Any]:
    """Milliseconds of a picture, from decoded pixels to boxes: ``p50_ms``, ``p95_ms``; joules by the board's sensor."""
    for _ in range(WARM_UP):
        detector.find(picture)
    sensor = find_sensor()
    times, watts = [], []  # type: List[float], List[float]
    for _ in range(rounds):
        began = time.perf_counter()
        detector.find(picture)
        times.append(time.perf_counter() - began)
        if sensor is not None:
            watts.append(read_watts(sensor[1]))
    told = {"p50_ms": 1e3 * float(np.percentile(times, 50)), "p95_ms": 1e3 * float(np.percentile(times, 95))}
    result = dict(told, rounds=rounds)  # type: Dict[str, Any]
    if sensor is None:
        result["energy"] = "no sensor"
    else:
        mean = float(np.mean(watts))
        result["energy"] = {"sensor": sensor[0], "watts": mean, "joules_a_picture": mean * float(np.mean(times))}
    return result


def find_sensor() -> Optional[Tuple[str, str]]:
    """The rail that the whole board draws its power through, and the file that shows it."""
    for name, pattern in SENSORS:
        for number in range(8):
            path = pattern % number if "%d" in pattern else pattern
            if os.path.isfile(path):
                return name, path
    return None


def read_watts(path: str) -> float:
    """What the sensor shows; a file of voltage has the current in milliamperes beside it."""
    with open(path) as file:
        value = float(file.read())
    if not path.endswith("in1_input"):
        return value / 1e3
    with open(path.replace("in1_input", "curr1_input")) as file:
        return value * float(file.read()) / 1e6


def describe_board() -> Dict[str, str]:
    """The board as it tells itself."""
    told = {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
    told["opencv"] = cv2.__version__
    for name, path in (("model", "/proc/device-tree/model"), ("jetpack", "/etc/nv_tegra_release")):
        if os.path.isfile(path):
            with open(path, errors="replace") as file:
                told[name] = file.readline().strip("\0\n ")
    return told


def precision_of(path: str) -> str:
    """The precision in an engine's name: fp32, fp16 or int8."""
    name = os.path.basename(path)
    found = [one for one in ("int8", "fp16", "fp32") if one in name]
    return found[0] if found else "fp32"


def main(words: Optional[Sequence[str]] = None) -> int:
    """Try the engines, tell, write the verdict."""
    parser = argparse.ArgumentParser(description="Test this bundle's engines against the detector's own answers.")
    parser.add_argument("--engines", nargs="+", required=True, help="in the order of preference")
    parser.add_argument("--folder", default=runner.HERE, help="the bundle")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(words)
    bundle, fixtures = runner.read_bundle(given.folder), load_fixtures(os.path.join(given.folder, "fixtures"))
    verdict = {
        "format": 1,
        "bundle": bundle["digest"],
        "name": bundle["name"],
        "weights_sha256": bundle["weights_sha256"],
        "board": describe_board(),
        "engines": [],
        "engine": None,
    }  # type: Dict[str, Any]
    for path in given.engines:
        tried = try_engine(path, bundle, fixtures, given.rounds)
        verdict["engines"].append(tried)
        print("%s: %s" % (os.path.basename(path), "passed" if tried["passed"] else "FAILED"))
        for reason in tried["reasons"][:8]:
            print("  " + reason)
        if tried["passed"]:
            verdict["engine"], verdict["precision"] = os.path.basename(path), tried["precision"]
            break
    write_verdict(verdict, given.folder)
    if verdict["engine"] is None:
        print("No engine passed: none is to be used. Bring verdict.json home.")
        return 1
    print("%s is the engine to use. Bring verdict.json home." % verdict["engine"])
    return 0


def try_engine(path: str, bundle: Dict[str, Any], fixtures: List[Dict[str, Any]], rounds: int) -> Dict[str, Any]:
    """The verdict on one engine; one that cannot be opened or run has failed."""
    precision = precision_of(path)
    tried = {"engine": os.path.basename(path), "precision": precision}  # type: Dict[str, Any]
    try:
        engine = runner.open_engine(path)
        detector = runner.Detector(engine, bundle)
        tried["runtime"] = engine.version
        tried.update(test_engine(detector, fixtures, bundle["limits"][precision]))
        if tried["passed"]:
            tried["speed"] = measure(detector, fixtures[0]["picture"], rounds)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong here, the next engine is to be tried
        tried.update(passed=False, reasons=["%s: %s" % (type(error).__name__, error)], figures={})
    return tried


def write_verdict(verdict: Dict[str, Any], folder: str) -> None:
    """``verdict.json``, whole or not at all."""
    target = os.path.join(folder, "verdict.json")
    with open(target + ".part", "w", encoding="utf-8") as file:
        json.dump(verdict, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(target + ".part", target)


if __name__ == "__main__":
    sys.exit(main())
