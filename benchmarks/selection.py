"""Claim: choosing 2,000 of 100,000 pictures (512 features) takes under 60 s and 4 GB on two cores, and covers the pool
no worse than scikit-learn's k-means.

Every arm runs in a process of its own on the same generated features (clips of similar frames around scenes, some of
them labelled): our strategies, and scikit-learn's ``MiniBatchKMeans`` and ``KMeans`` with the real picture nearest to
each centre. Printed for each: seconds, processor seconds, peak memory, and how well the choice covers the pool: mean
and greatest distance of a picture to the nearest one chosen or labelled (lower is better).

    python benchmarks/selection.py [--pictures 100000] [--features 512] [--choose 2000] [--kmeans-rounds 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

import numpy as np

from peers import processor_name, run_arm_process

OURS = ("hybrid", "k_medoids", "k_center", "typical", "uncertainty", "random")
PEERS = ("MiniBatchKMeans", "MiniBatchKMeans_fast", "KMeans")
"""``_fast``: begun from random pictures, as ours is, instead of by k-means++, which takes most of its time."""
LIMIT_SECONDS, LIMIT_GIGABYTES = 60.0, 4.0


def make_features(pictures: int, features: int, labelled: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit features of a pool, of what is labelled, and the clip of each picture: scenes, clips in them, frames."""
    generator = np.random.default_rng(0)
    scenes = generator.standard_normal((300, features), np.float32)
    clips = max(1, pictures // 50)
    of_clip = scenes[generator.integers(0, len(scenes), clips)] + 0.7 * generator.standard_normal(
        (clips, features), np.float32
    )

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        groups = generator.integers(0, clips, count)
        points = of_clip[groups]
        points += 0.5 * generator.standard_normal(points.shape, np.float32)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        return points, groups

    pool, groups = draw(pictures)
    return pool, draw(labelled)[0], groups


def run_arm(arm: str, options: argparse.Namespace) -> dict[str, float]:
    """Choose, measured, and judge the choice afterwards."""
    points, centres, groups = make_features(options.pictures, options.features, options.labelled)
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.monotonic()
    chosen = choose_ours(arm, points, centres, groups, options) if arm in OURS else choose_peer(arm, points, options)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "gigabytes": after.ru_maxrss * 1024 / 1e9,
        "chosen": len(set(chosen.tolist())),
    }
    from marauder.selection.clustering import nearest

    distances = np.sqrt(nearest(points, np.concatenate([points[chosen], centres]))[1])
    return {**result, "mean": float(distances.mean()), "greatest": float(distances.max())}


def choose_ours(
    arm: str, points: np.ndarray, centres: np.ndarray, groups: np.ndarray, options: argparse.Namespace
) -> np.ndarray:
    """By our strategy, without random share and limits of clips, so that all arms do the same work."""
    from marauder.selection.basket import Pool
    from marauder.selection.choosing import choose
    from marauder.selection.settings import SelectionSettings

    scores = np.random.default_rng(1).random(len(points))
    pool = Pool(
        features=points, scores=scores, class_counts=np.zeros((len(points), 0)), boxes=np.full(len(points), 4.0),
        groups=groups, centres=centres, centre_counts=np.zeros((len(centres), 0)), labelled_share=0.05,
    )  # fmt: skip
    settings = SelectionSettings(pool="pool", strategy=arm, count=options.choose, random_share=0, most_per_group=None)
    return choose(pool, settings).indices()


def choose_peer(arm: str, points: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    """By scikit-learn: cluster, then the picture nearest to each centre."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.metrics import pairwise_distances_argmin

    if arm == "KMeans":
        model = KMeans(options.choose, init="random", n_init=1, max_iter=options.kmeans_rounds, random_state=0)
    else:
        start = "random" if arm == "MiniBatchKMeans_fast" else "k-means++"
        model = MiniBatchKMeans(options.choose, init=start, n_init=1, batch_size=16_384, max_iter=3, random_state=0)
    return np.asarray(pairwise_distances_argmin(model.fit(points).cluster_centers_, points))


def main() -> None:
    """Run every arm and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--choose", type=int, default=2_000)
    parser.add_argument("--labelled", type=int, default=5_000)
    parser.add_argument("--kmeans-rounds", type=int, default=3, help="iterations of KMeans, which takes long")
    parser.add_argument("--arms", default=",".join((*OURS, *PEERS)))
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(run_arm(options.arm, options)))
        return
    print(f"machine: {processor_name()}")
    print(f"{options.choose:,} of {options.pictures:,} pictures x {options.features} features")
    print(f"{'arm':<22}{'seconds':>9}{'CPU s':>9}{'GB peak':>9}{'mean dist':>11}{'greatest':>10}{'chosen':>8}")
    results = {}
    for arm in options.arms.split(","):
        words = [sys.executable, *sys.argv, "--arm", arm]
        results[arm] = found = run_arm_process(arm, words)
        print(
            f"{arm:<22}{found['seconds']:>9.1f}{found['cpu_seconds']:>9.1f}{found['gigabytes']:>9.2f}"
            f"{found['mean']:>11.4f}{found['greatest']:>10.4f}{found['chosen']:>8.0f}",
            flush=True,
        )
    for peer in (arm for arm in PEERS if arm in results):
        for ours in (arm for arm in ("k_medoids", "hybrid") if arm in results):
            faster = results[peer]["seconds"] / results[ours]["seconds"]
            closer = results[ours]["mean"] / results[peer]["mean"]
            print(f"{ours} against {peer}: {faster:.1f} times as fast, mean distance {closer:.3f} of its")
    slow = [
        arm for arm in results
        if arm in OURS and (results[arm]["seconds"] > LIMIT_SECONDS or results[arm]["gigabytes"] > LIMIT_GIGABYTES)
    ]  # fmt: skip
    limit = f"{LIMIT_SECONDS:.0f} s and {LIMIT_GIGABYTES:.0f} GB"
    print(f"within {limit}: {'all of ours' if not slow else 'not ' + ', '.join(slow)}")


if __name__ == "__main__":
    main()
