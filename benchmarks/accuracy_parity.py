"""Accuracy of our trainer beside Ultralytics' own, from random weights or from a detector's.

Claim: mAP50 on the validation split no lower than theirs beyond the noise of seeds. ``equal``: the same recipe, epochs,
data and seeds. ``defaults``: our recipe as shipped (or ``--recipe``, ``--set``) beside what Ultralytics does when it is
given nothing but data, epochs, batch and image size. Both arms' best weights are measured by the same evaluation
(Marauder's, equal to pycocotools). Prints every run, and for each comparison the means, the ranges, and the difference
paired by seed with a 95 % interval (Student's t).

    python benchmarks/accuracy_parity.py --image-size 256 --epochs 40 --seeds 3
    python benchmarks/accuracy_parity.py --weights yolov8n.pt --optimizer adamw --learning-rate 5e-4 \
        --compare equal defaults --epochs 3 10 --seeds 6 --results parity.jsonl

With ``--results`` every finished training is a line of JSON in that file; the same command goes on after the last one,
and further epochs or seeds are added. ``--only-report`` prints what the file holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from peers import NAMES, pinned_ultralytics, prepare_pictures
from tables import (
    Finding,
    Line,
    add_options,
    by_seed,
    groups,
    in_process,
    judge,
    paired,
    run_missing,
    seeds_of,
)

ARMS = ("ours", "ultralytics")
TOLD = ("data", "model", "image_size", "batch_size", "optimizer", "learning_rate", "device", "threads")
"""Options that every training of a comparison shares and its key holds, beside weights and ``--set``."""
MEASURED = ("map50", "map50_95")
MARGIN = 0.02
"""mAP50 by which ours may be lower with equal settings and still count as equal."""


def equal_recipe(arguments: argparse.Namespace) -> dict[str, float]:
    """What both arms are given by name in ``equal``."""
    adaptive = arguments.optimizer == "adamw"
    return {
        "rate": arguments.learning_rate,
        # Warm-ups of short trainings are cut differently (ours at half of it, theirs at all but an epoch).
        "warmup_epochs": min(3.0, arguments.epochs / 2),
        # As Ultralytics does by itself: biases of an adaptive optimiser start from 0, and its beta has no warm-up.
        "bias_rate": 0.0 if adaptive else 0.1,
        "warmup_momentum": 0.937 if adaptive else 0.8,
    }


def train_ours(arguments: argparse.Namespace) -> Path:
    """Train with Marauder; returns the best weights."""
    from marauder.core.clock import Clock
    from marauder.runs.gated import run_gated
    from marauder.runs.recipes import load_run_settings
    from marauder.tasks.detection.settings import BaselineSettings

    overrides = [
        f"training.epochs={arguments.epochs}", f"training.batch_size={arguments.batch_size}",
        f"training.seed={arguments.seed}", f"training.device={arguments.device}", "training.patience=0",
        "gate.contract=off", "gate.drift=off", "gate.sanity=off", "gate.determinism=off", "tracking.trackers=[]",
        "registry.kind=none", "export.formats=[]", "evaluation.slices_each_epoch=false",
        f"training.threads={arguments.threads}",
    ]  # fmt: skip
    if arguments.compare == "equal":
        recipe = equal_recipe(arguments)
        overrides += [
            f"training.optimizer.name={arguments.optimizer}", f"training.optimizer.learning_rate={recipe['rate']}",
            f"training.optimizer.warmup_epochs={recipe['warmup_epochs']}",
            f"training.optimizer.warmup_bias_rate={recipe['bias_rate']}",
            f"training.optimizer.warmup_momentum={recipe['warmup_momentum']}",
            # By steps, our default, a short training's rates are lower: on average by a tenth at 10 epochs.
            "training.optimizer.decay_each=epoch",
        ]  # fmt: skip
    else:
        overrides += [f"recipe={arguments.recipe}"] if arguments.recipe else []
        overrides += arguments.set
    settings = load_run_settings(
        BaselineSettings, None, overrides, data=arguments.data, output=arguments.output, model=arguments.model,
        image_size=arguments.image_size, weights=arguments.weights,
    )  # fmt: skip
    return run_gated(settings, Clock()).weights


def train_theirs(arguments: argparse.Namespace) -> Path:
    """Train with Ultralytics' trainer; returns the best weights."""
    with pinned_ultralytics(Path(arguments.output)) as (YOLO, common):
        import torch

        given: dict[str, Any] = {"verbose": False, "plots": False, "exist_ok": True}
        if arguments.compare == "equal":
            recipe = equal_recipe(arguments)
            given |= common | {
                "optimizer": {"sgd": "SGD", "adamw": "AdamW"}[arguments.optimizer], "lr0": recipe["rate"],
                "warmup_epochs": recipe["warmup_epochs"], "warmup_bias_lr": recipe["bias_rate"],
                "warmup_momentum": recipe["warmup_momentum"], "nbs": arguments.batch_size, "patience": 0,
                "amp": arguments.device != "cpu",
            }  # fmt: skip
        given |= {"pretrained": arguments.weights is not None, "seed": arguments.seed}
        detector = YOLO(arguments.weights or f"{arguments.model}.yaml", verbose=False)
        detector.add_callback("on_train_start", lambda _trainer: torch.set_num_threads(arguments.threads))
        detector.train(
            data=arguments.data, epochs=arguments.epochs, batch=arguments.batch_size, imgsz=arguments.image_size,
            device=arguments.device, project=arguments.output, name="theirs", **given,
        )  # fmt: skip
        return Path(detector.trainer.best)


def run_arm(arguments: argparse.Namespace) -> Line:
    """Train one arm and measure its best weights on the validation split."""
    from marauder.core.clock import Clock
    from marauder.data.reading import read_dataset
    from marauder.engine.distributed import choose_device
    from marauder.tasks.detection.evaluate_split import evaluate_split

    started = time.perf_counter()
    weights = {"ours": train_ours, "ultralytics": train_theirs}[arguments.arm](arguments)
    seconds = time.perf_counter() - started
    dataset = read_dataset(Path(arguments.data))
    device = choose_device(arguments.device)
    overall = evaluate_split(weights, dataset, "val", device, Clock(), arguments.image_size).result.overall
    return {"map50": overall.map50, "map50_95": overall.map50_95, "seconds": seconds}


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", choices=NAMES, default="aquarium", help="real pictures beside the checkout")
    parser.add_argument("--data", help="data.yaml of other pictures")
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--weights", help="detector that both arms start from; default: random weights")
    parser.add_argument("--compare", nargs="+", choices=("equal", "defaults"), default=["equal"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="those that are trained")
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd", help="of equal")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="of equal")
    parser.add_argument("--recipe", help="ours in defaults; default: the shipped settings")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="ours in defaults, over the recipe")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, nargs="+", default=[40])
    parser.add_argument("--threads", type=int, default=2)
    add_options(parser)
    return parser


ADVICE = {
    "equal": {
        "met": "ours trains no worse than Ultralytics' trainer",
        "refuted": "ours trains worse: to be found out why",
        "open": "no difference is shown, but one is not ruled out either",
    },
    "defaults": {
        "met": "the recipe does better on so few pictures",
        "refuted": "their defaults do better: the recipe is to be changed",
        "open": "not decided",
    },
}


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Rows of the evidence page: equal settings, and our recipes beside Ultralytics' defaults."""
    found = []
    for group in groups(lines, ("arm", "seed", "settings")):
        key = group[0]["training"]
        theirs = [line for line in group if line["training"]["arm"] != "ours"]
        ours = groups([line for line in group if line["training"]["arm"] == "ours"])
        settings = [flat(lines[0]["training"].get("settings", {})) for lines in ours]
        for here, own in zip(ours, settings, strict=True):
            difference = paired([*here, *theirs], "ours", "ultralytics", "map50")
            if difference is None:
                continue
            # Of several recipes only what tells them apart.
            words = [f"{name}={value}" for name, value in own.items() if any(o.get(name) != value for o in settings)]
            equal = key["compare"] == "equal"
            limit = -MARGIN if equal else 0.0
            verdict = judge(difference, limit, none=limit)
            target = f"at most {MARGIN} below" if equal else "above"
            what = "equal settings" if equal else "our recipe, their defaults"
            start = "COCO" if key["weights"] else "random"
            where = f"{key['data'] or 'aquarium'}, {key['epochs']} epochs from {start} weights"
            told_apart = f" ({', '.join(words)})" if words else ""
            question = f"Step 2 ({where}): mAP50 on val, {target} Ultralytics'; {what}{told_apart}"
            advice = ADVICE[key["compare"]][verdict]
            found.append(Finding(question, difference.describe("+.3f"), verdict, advice))
    return found


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


def main() -> None:
    """Train all arms and seeds that are not done yet, and report."""
    arguments = options().parse_args()
    if arguments.one:
        print(json.dumps(run_arm(argparse.Namespace(**json.loads(arguments.one)))))
        return
    keys = list(trainings(arguments))
    with tempfile.TemporaryDirectory() as name:
        data = Path(arguments.data or Path(name) / "data")
        if not arguments.data and not arguments.only_report:
            data = prepare_pictures(arguments.pictures, data)
        done = run_missing(
            keys, arguments, lambda key, number: measure(key, arguments, data, Path(name) / str(number)), told
        )
    report(keys, done)


def trainings(arguments: argparse.Namespace) -> Iterator[Line]:
    """What decides each training's figures, in the order in which they are run."""
    shared = {name: getattr(arguments, name) for name in TOLD}
    shared["weights"] = hash_of(arguments.weights)
    if arguments.data is None and arguments.pictures != "aquarium":
        shared["data"] = arguments.pictures
    for compare in arguments.compare:
        of_equal = ("optimizer", "learning_rate")
        # What an arm is not given does not make it another training.
        kept = {name: value for name, value in shared.items() if name not in of_equal}
        for epochs in arguments.epochs:
            for seed in seeds_of(arguments):
                for arm in arguments.arms:
                    if compare == "equal":
                        given = {name: shared[name] for name in of_equal}
                    else:
                        given = {"settings": told_by(arguments.recipe, arguments.set)} if arm == "ours" else {}
                    yield {"compare": compare, "arm": arm, "epochs": epochs, "seed": seed, **kept, **given}


def told_by(recipe: str | None, words: Sequence[str]) -> Line:
    """What a recipe and settings say, as they are now: another content of the same name makes another training."""
    from marauder.runs.recipes import run_layer

    content = run_layer(None, [*([f"recipe={recipe}"] if recipe else []), *words]).content
    return {name: value for name, value in content.items() if name != "recipe"}


def hash_of(weights: str | None) -> str | None:
    """SHA-256 of the weights that trainings start from."""
    from marauder.core.files import hash_file

    return hash_file(Path(weights)) if weights else None


def measure(key: Line, arguments: argparse.Namespace, data: Path, folder: Path) -> Line:
    """One training, in a process of its own."""
    given = {name: value for name, value in vars(arguments).items() if name not in ("results", "one")}
    given |= {name: key[name] for name in ("compare", "arm", "epochs", "seed")}
    weights = str(Path(arguments.weights).resolve()) if arguments.weights else None
    given |= {"data": str(data), "output": str(folder), "weights": weights}
    return in_process(__file__, given)


def told(line: Line) -> str:
    """A finished training in words."""
    key = line["training"]
    figures = f"mAP50 {line['map50']:.4f}  mAP50-95 {line['map50_95']:.4f}  {line['seconds']:.0f} s"
    return f"{key['compare']:8} {key['epochs']:3} epochs  seed {key['seed']} {key['arm']:12} {figures}"


def report(keys: Sequence[Line], done: Sequence[Line]) -> None:
    """Of each comparison and number of epochs: every run, means, ranges, and the paired difference."""
    wanted = [one for one in done if one["training"] in keys]
    for compare, epochs in dict.fromkeys((key["compare"], key["epochs"]) for key in keys):
        here = [one for one in wanted if (one["training"]["compare"], one["training"]["epochs"]) == (compare, epochs)]
        print(f"\n{compare}, {epochs} epochs: {len(here)} trainings")
        for line in sorted(here, key=lambda one: (one["training"]["seed"], one["training"]["arm"])):
            print(f"  {told(line)}")
        for metric in MEASURED:
            arms = {arm: by_seed(here, arm, metric) for arm in ARMS}
            for arm, values in arms.items():
                if values:
                    low, high = min(values.values()), max(values.values())
                    mean = statistics.mean(values.values())
                    print(f"  {metric} {arm}: mean {mean:.4f}, {low:.4f} to {high:.4f} ({len(values)} seeds)")
            difference = paired(here, "ours", "ultralytics", metric)
            if difference is not None:
                print(f"  {metric}: ours is {difference.describe()}")


if __name__ == "__main__":
    main()
