"""Claim: enhancing a 640-pixel picture takes less time than decoding and encoding it, and a third of the plain chain.

Arms take the same files from bytes to bytes, in turn file by file, in one process and then in two at once:
decode + encode alone (the floor), Marauder's enhancement, and a straightforward OpenCV chain of the same stages that
works on the full picture. `full` makes every picture go through all five stages; `auto` chooses, and leaves good
pictures alone. At the end the whole job (walk, measures, journal, report) runs over the same files. Exit status 1 if a
limit is missed: `full` at most 2 times the floor, the chain at least 3 times `full`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from marauder.core.clock import Clock
from marauder.imaging.enhance import enhance
from marauder.imaging.plan import METHODS, Plan, plan_for
from marauder.preprocessing.codec import decode, encode
from marauder.preprocessing.job import preprocess_folder
from marauder.preprocessing.settings import PreprocessingSettings
from marauder.preprocessing.work import prepare_process

FLOOR_LIMIT, CHAIN_LIMIT = 2.0, 3.0
QUALITY = 95
FULL = METHODS["full"][1] or Plan()


def floor(content: bytes) -> bytes:
    """Decode and encode, nothing else."""
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def ours_full(content: bytes) -> bytes:
    """Every stage, the way the job runs it."""
    return encode(enhance(decode(content), FULL), ".jpg", QUALITY)


def ours_auto(content: bytes) -> bytes:
    """Stages chosen for the picture, measuring included; pictures that need nothing keep their bytes."""
    picture = decode(content)
    plan, _ = plan_for(picture, "auto")
    return content if plan.changes_nothing else encode(enhance(picture, plan), ".jpg", QUALITY)


def chain(content: bytes) -> bytes:
    """The five stages as one writes them with OpenCV and NumPy from the papers, in float, on the full picture."""
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    colour = chain_colour(picture.astype(np.float32) / 255)
    clear = chain_dehaze(colour)
    lab = cv2.cvtColor((clear * 255).astype(np.uint8), cv2.COLOR_BGR2LAB)
    lightness, a, b = cv2.split(lab)
    lightness = cv2.createCLAHE(FULL.clip_limit, (8, 8)).apply(lightness)
    contrast = cv2.cvtColor(cv2.merge([lightness, a, b]), cv2.COLOR_LAB2BGR)
    table = np.array([255 * (level / 255) ** FULL.gamma for level in range(256)]).astype(np.uint8)
    return cv2.imencode(".jpg", cv2.LUT(contrast, table), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def chain_colour(picture: np.ndarray) -> np.ndarray:
    """Red and blue compensation and shades of grey; float32 (H, W, 3) in 0..1."""
    blue, green, red = cv2.split(picture)
    red = red + FULL.red * max(0.0, float(green.mean() - red.mean())) * (1 - red) * green
    blue = blue + FULL.blue * max(0.0, float(green.mean() - blue.mean())) * (1 - blue) * green
    merged = cv2.merge([blue, green, red])
    squares = merged * merged
    light = ((squares * squares * squares).reshape(-1, 3).mean(axis=0)) ** (1 / 6)
    return np.clip(merged * (light.mean() / light) ** FULL.white_balance, 0, 1).astype(np.float32)


def chain_dehaze(picture: np.ndarray) -> np.ndarray:
    """Underwater dark channel with a guided filter at full resolution; float32 (H, W, 3) in 0..1."""
    patch = np.ones((15, 15), np.uint8)
    dark = cv2.erode(np.minimum(picture[..., 0], picture[..., 1]), patch)
    brightest = np.argpartition(dark.ravel(), -max(1, dark.size // 200))[-max(1, dark.size // 200) :]
    veil = picture.reshape(-1, 3)[brightest].mean(axis=0)
    share = cv2.erode(np.minimum(picture[..., 0] / veil[0], picture[..., 1] / veil[1]), patch)
    coarse = 1 - FULL.dehaze * share
    guide = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    window = (81, 81)
    mean_guide, mean_coarse = cv2.boxFilter(guide, -1, window), cv2.boxFilter(coarse, -1, window)
    variance = cv2.boxFilter(guide * guide, -1, window) - mean_guide * mean_guide
    covariance = cv2.boxFilter(guide * coarse, -1, window) - mean_guide * mean_coarse
    slope = covariance / (variance + 1e-3)
    offset = mean_coarse - slope * mean_guide
    transmission = cv2.boxFilter(slope, -1, window) * guide + cv2.boxFilter(offset, -1, window)
    transmission = np.clip(transmission, 0.4, 1)[..., None]
    return np.clip((picture - veil) / transmission + veil, 0, 1).astype(np.float32)


ARMS: dict[str, Callable[[bytes], bytes]] = {
    "floor: decode + encode": floor,
    "ours, every stage": ours_full,
    "ours, auto": ours_auto,
    "straightforward chain": chain,
}


def measure(files: list[bytes], rounds: int) -> dict[str, float]:
    """Seconds of every arm over all files, each file at its best round.

    Seconds are processor time (every arm computes in one thread and waits for nothing), and the arms take turns file by
    file, so that other work on the machine hits all alike and little.
    """
    prepare_process()
    best = {name: np.full(len(files), np.inf) for name in ARMS}
    for _ in range(rounds):
        for index, content in enumerate(files):
            for name, arm in ARMS.items():
                started = time.process_time()
                arm(content)
                best[name][index] = min(best[name][index], time.process_time() - started)
    return {name: float(seconds.sum()) for name, seconds in best.items()}


def measure_in(processes: int, files: list[bytes], rounds: int) -> dict[str, float]:
    """Pictures a second of every arm, summed over processes that run at once."""
    shares = [files[index::processes] for index in range(processes)]
    if processes == 1:
        runs = [measure(files, rounds)]
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            runs = pool.starmap(measure, [(share, rounds) for share in shares], chunksize=1)
    return {name: sum(len(share) / run[name] for share, run in zip(shares, runs)) for name in ARMS}


def measure_job(paths: list[Path], method: str, workers: int) -> float:
    """Pictures a second of the whole job over the files, from an empty output."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "raw"
        source.mkdir()
        for path in paths:
            shutil.copyfile(path, source / path.name)
        settings = PreprocessingSettings(
            input=source, output=Path(folder) / "out", method=method, workers=workers, sheet_pictures=0
        )
        started = time.perf_counter()
        summary = preprocess_folder(settings, Clock())
        return summary.pictures / (time.perf_counter() - started)


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    shared = Path(os.environ.get("MARAUDER_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--pictures", type=Path, default=shared / "aquarium" / "images", help="folder of JPEG pictures")
    parser.add_argument("--count", type=int, default=60, help="pictures, spread evenly over the folder")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    found = sorted(options.pictures.glob("*.jpg"))
    if not found:
        parser.error(f"no .jpg pictures in {options.pictures}; name a folder with --pictures")
    paths = found[:: max(1, len(found) // options.count)][: options.count]
    files = [path.read_bytes() for path in paths]
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, OpenCV {cv2.__version__}"
    )
    sizes = {"×".join(map(str, decode(content).shape[1::-1])) for content in files}
    print(
        f"{machine}\n{len(files)} pictures ({', '.join(sorted(sizes))}), each at its best of {options.rounds} rounds\n"
    )
    figures: dict[str, object] = {"machine": machine, "pictures": len(files)}
    missed = False
    for processes in (1, 2):
        rates = measure_in(processes, files, options.rounds)
        base = rates["floor: decode + encode"]
        slow = rates["straightforward chain"]
        print(f"{processes} process{'es' if processes > 1 else ''}:")
        for name, rate in rates.items():
            print(
                f"  {name:24s} {rate:7.1f} pictures/s   {base / rate:5.2f} × floor   {rate / slow:5.2f} × chain's speed"
            )
        figures[f"pictures_a_second_{processes}"] = rates
        full = rates["ours, every stage"]
        missed |= processes == 1 and (base / full > FLOOR_LIMIT or full / slow < CHAIN_LIMIT)
    print("whole job, with measures, journal and report, from start to end:")
    for workers in (1, 2):
        for method in ("full", "auto"):
            rate = measure_job(found, method, workers)
            figures[f"job_{method}_{workers}"] = rate
            print(
                f"  {method}, {workers} worker{'s' if workers > 1 else ''}: {rate:.0f} pictures/s ({len(found)} files)"
            )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"limits: every stage ≤ {FLOOR_LIMIT} × floor, ≥ {CHAIN_LIMIT} × the chain: {'MISSED' if missed else 'met'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
