"""What the precisions of step 9 cost a detector: average precision of its graphs in fp32, fp16 and int8.

    python benchmarks/engines.py --weights yolov8n.pt --output DIR --results FILE [--pictures deepfish]

Each seed has its own split and one detector; arms are graphs of it, run by ONNX Runtime and measured on ``test``:
``fp16`` (the answers in float32), ``percentile`` and ``minmax`` (int8 by how the range of an activation is chosen),
``default`` (the plain call of ONNX Runtime's quantiser, which a bundle refuses). Scales come from 64 pictures of
``train``. Beside each stands how far the raw answers are off by the board's own self-test, on pictures of ``val``.

Target: int8 loses at most 0.01 mAP50-95. ``--scale small`` takes about ten minutes a seed on one core; ``full``, on a
GPU, an hour a seed. The same command continues after any stop. No speed is measured: a processor says nothing of a
board.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from detector_trainings import (
    SCALES,
    add_training_options,
    measure_detector,
    parse,
    run_trainings,
    shared_by_all,
    train_detector,
)
from peers import prepare_pictures
from tables import Finding, Line, by_seed, groups, interval, judge, paired, place_of, print_findings, seeds_of

FP32, FP16, DEFAULT = "fp32", "fp16", "default"
INT8 = ("percentile", "minmax")
ARMS = (FP32, FP16, *INT8, DEFAULT)
MOST_LOST = 0.01
"""mAP50-95 that int8 may cost."""
SCALE_PICTURES, TEST_PICTURES = 64, 16


def train_and_measure(training: Line) -> Line:
    """The seed's detector, trained by the first arm that needs it, and one graph of it."""
    from marauder.bundles.device import runner, selftest
    from marauder.bundles.fixtures import describe_rules, make_fixtures, reference_predictor
    from marauder.bundles.limits import LIMITS
    from marauder.bundles.making import as_loaded
    from marauder.data.pictures import decode_picture
    from marauder.data.reading import read_dataset

    started, root, arm = time.perf_counter(), Path(training["folder"]), training["arm"]
    scale = SCALES[training["scale"]]
    data = prepare_pictures(training["pictures"], root / "pictures", training["seed"])
    weights = train_detector(training, scale, data, root / "detector", ("evaluation.split=val",))
    dataset = read_dataset(data)
    graph = graph_of(arm, weights, [record.picture for record in dataset.split("train")], root / "graphs")
    predictor = reference_predictor(root / "graphs" / f"{FP32}.onnx", weights)
    pictures = [decode_picture(record.picture) for record in dataset.split("val")[:TEST_PICTURES]]
    bundle = {
        "input": list(predictor.accepts.size or ()),
        "names": list(predictor.names),
        "rules": describe_rules(predictor),
    }
    detector = runner.Detector(runner.open_engine(str(graph)), bundle)
    precision = arm if arm in LIMITS else "int8"
    verdict = selftest.test_engine(
        detector, [as_loaded(one) for one in make_fixtures(predictor, pictures)], LIMITS[precision]
    )
    return {
        **measure_detector(graph, dataset, "test", scale, "cpu"),
        "passed": verdict["passed"],
        "figures": verdict["figures"],
        "seconds": time.perf_counter() - started,
    }


def graph_of(arm: str, weights: Path, pictures: Sequence[Path], folder: Path) -> Path:
    """The ONNX file of an arm; that in float32 is made first."""
    from onnxruntime.quantization import quantize_static

    from marauder.bundles.half_precision import to_half
    from marauder.bundles.quantising import Batches, quantise
    from marauder.core.plugins import make
    from marauder.data.pictures import decode_picture
    from marauder.exporting.base import GraphOptions
    from marauder.exporting.graph import describe_graph
    from marauder.exporting.inputs import make_batches
    from marauder.models.files import load_detector

    detector = load_detector(weights)
    options = GraphOptions(detector.image_size, detector.image_size)
    plain, target = folder / f"{FP32}.onnx", folder / f"{arm}.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    if not plain.is_file():
        make("exporter", "onnx").export(detector, options, describe_graph(detector, options, ""), plain)
    if arm == FP16:
        to_half(plain, target)
    elif arm != FP32:
        places = np.linspace(0, len(pictures) - 1, min(SCALE_PICTURES, len(pictures))).round().astype(int)
        batches = make_batches([decode_picture(pictures[at]) for at in places], options, 32)
        if arm == DEFAULT:
            quantize_static(plain, target, Batches("images", batches))
        else:
            quantise(plain, target, batches, arm)
    return target


def trainings(arguments: argparse.Namespace) -> Iterator[Line]:
    """What decides each arm's figures, in the order in which they are run."""
    shared = shared_by_all(arguments)
    for seed in seeds_of(arguments):
        for arm in (arm for arm in ARMS if arm in arguments.arms):
            yield {"arm": arm, "seed": seed, **shared}


def told(line: Line) -> str:
    """A finished arm in words."""
    key, figures = line["training"], line["figures"]
    return (
        f"{key['pictures']} {key['seed']} {key['arm']:10}: mAP50 {line['map50']:.4f}, mAP50-95 {line['map50_95']:.4f}, "
        f"self-test {'passed' if line['passed'] else 'failed'}, scores off by {figures.get('score_mean', 0):.5f} "
        f"in the mean, {line['seconds']:.0f} s"
    )


def report(lines: Sequence[Line]) -> None:
    """Each arm's average precision, and what it loses."""
    for group in groups(lines):
        print(f"\n{place_of(group[0])}:")
        for arm in ARMS:
            values = by_seed(group, arm, "map50_95")
            if values:
                lost = paired(group, arm, FP32, "map50_95")
                words = f"; {lost.describe('+.4f')} beside fp32" if lost is not None and arm != FP32 else ""
                print(f"  {arm:10} mAP50-95 {interval(list(values.values())).describe('.4f')}{words}")
    print_findings(findings(lines))


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Rows of the evidence page: what each precision loses. The scale ``tiny`` proves nothing and is left out."""
    found = []
    for group in groups([line for line in lines if line["training"]["scale"] != "tiny"]):
        for arm in (*INT8, FP16, DEFAULT):
            gained = paired(group, arm, FP32, "map50_95")
            if gained is None:
                continue
            name = arm if arm == FP16 else f"int8 ({arm})"
            question = f"Step 9 ({place_of(group[0])}): mAP50-95 that {name} changes; at most {MOST_LOST} lost"
            verdict = judge(gained, -MOST_LOST, -MOST_LOST)
            passed = [line["passed"] for line in group if line["training"]["arm"] == arm]
            figure = f"{gained.describe('+.4f')}; passes the self-test in {sum(passed)} of {len(passed)}"
            found.append(Finding(question, figure, verdict, ADVICE[verdict]))
    return found


ADVICE = {
    "met": "it costs hardly anything: what decides is the board's own self-test",
    "refuted": "not to be carried out",
    "open": "not decided: `--data-yaml` measures it for your detector, and leaves it out where it costs more",
}


def main() -> None:
    """Train what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_options(parser, ARMS)
    arguments = parse(parser, train_and_measure)
    report(run_trainings(__file__, arguments, list(trainings(arguments)), told))


if __name__ == "__main__":
    main()
