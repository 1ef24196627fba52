"""Step 2: train a baseline YOLO detector on a data set, measure it, and leave weights, figures and a report."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from marauder import __version__
from marauder.core.clock import Clock, Interrupted, describe_seconds
from marauder.core.errors import UserError
from marauder.core.files import fingerprint, hash_file, read_json, write_json, write_text
from marauder.core.locks import exclusive
from marauder.core.progress import Progress
from marauder.data.pictures import PictureStore
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.engine.distributed import Group, process_group
from marauder.engine.state import Outcome
from marauder.engine.trainer import Trainer
from marauder.evaluation.evaluate import EvaluationResult, attribute_slices, evaluate
from marauder.evaluation.inference import InferenceOptions, detect
from marauder.launch.processes import end_worker, launch_processes, launched_by_marauder, stop_file
from marauder.models.files import load_detector, restore_detector, save_detector
from marauder.models.ultralytics_adapter import DetectionModel
from marauder.runs.detection import DetectionPlan, DetectionTask, prepare_process
from marauder.runs.evaluator import pair_up
from marauder.runs.settings import BaselineSettings

log = logging.getLogger("marauder")


@dataclass(frozen=True)
class BaselineSummary:
    """What a finished baseline leaves: files and headline figures (of the test split where there is one)."""

    weights: Path
    report: Path
    split: str
    metrics: dict[str, float | None]
    epochs: int
    best_epoch: int | None
    seconds: float


def train_baseline(
    settings: BaselineSettings,
    clock: Clock,
    resume: Path | None = None,
    fresh: bool = False,
    begun: Callable[[], None] | None = None,
) -> BaselineSummary:
    """Train, or go on training, and evaluate. ``begun`` is called once nothing of an earlier run can be taken up.

    Raises ``Interrupted`` when stopped in time, ``UserError`` for bad input, ``TrainingFailure`` when it cannot go on.
    """
    if settings.processes > 1 and "WORLD_SIZE" not in os.environ:
        return _train_in_processes(settings, clock, resume, fresh, begun)
    with process_group(settings.training.device) as group:
        try:
            summary = _train_in_group(settings, group, clock, resume, fresh, begun)
        except (Interrupted, UserError) as stop:
            if launched_by_marauder():
                end_worker(settings.output, stop)
            raise
        return summary


def _train_in_processes(
    settings: BaselineSettings, clock: Clock, resume: Path | None, fresh: bool, begun: Callable[[], None] | None
) -> BaselineSummary:
    write_text(settings.output / "config.json", settings.model_dump_json(indent=2))
    if begun is not None and not fresh:
        begun()
    arguments = ["--config", str(settings.output / "config.json")]
    if resume is not None:
        arguments += ["--resume", str(resume)]
    if fresh:
        arguments += ["--fresh"]
    launch_processes(
        settings.output, settings.processes, ["baseline", *arguments], clock, checkpoints=settings.checkpoint_folder
    )
    if begun is not None and fresh:
        begun()
    return read_summary(settings.output)


def _train_in_group(
    settings: BaselineSettings,
    group: Group,
    clock: Clock,
    resume: Path | None,
    fresh: bool,
    begun: Callable[[], None] | None,
) -> BaselineSummary:
    if launched_by_marauder():
        clock.stop_file, clock.parent = stop_file(settings.output), int(os.environ["MARAUDER_LAUNCHER"])
    prepare_process(settings.training.threads, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    lock = exclusive(settings.output / ".lock", f"{settings.output}") if group.leads else contextlib.nullcontext()
    with lock:
        dataset = read_dataset(settings.data)
        _check_splits(dataset, settings.data)
        task = DetectionTask(training_plan(settings, dataset), settings.output / "cache", _cache_bytes(settings))
        identity = data_identity(settings, dataset)
        trainer = Trainer(
            task, settings.training, group, settings.output, settings.checkpoint_folder,
            DetectorWeights(settings), clock, identity, described(settings),
        )  # fmt: skip
        if group.leads:
            if fresh:
                set_aside_results(settings.output)
                trainer.checkpointer.prepare(fresh=True)
            write_text(settings.output / "config.json", settings.model_dump_json(indent=2))
        if begun is not None:
            begun()
        outcome = trainer.fit(resume, fresh)
        summary = None
        if group.leads:
            summary = _measure(settings, dataset, outcome, group, clock, identity)
            task.close(remove=True)
        group.broadcast(None)
    return summary if summary is not None else read_summary(settings.output)


def training_plan(settings: BaselineSettings, dataset: Dataset) -> DetectionPlan:
    """What the settings say of the detection task; raises ``UserError`` without the splits train and val."""
    return DetectionPlan(
        architecture=settings.model,
        names=dataset.names,
        training=_labelled(dataset.split("train")),
        validation=_labelled(dataset.split("val")),
        image_size=settings.image_size,
        seed=settings.training.seed,
        augmentation=settings.augmentation,
        weights=settings.weights,
        backbone=settings.ssl_backbone,
    )


def _cache_bytes(settings: BaselineSettings) -> int:
    return int(settings.cache_gigabytes * 1e9)


def _labelled(dataset: Dataset) -> tuple[Record, ...]:
    return tuple(record for record in dataset if record.labelled)


def _check_splits(dataset: Dataset, path: Path) -> None:
    for problem in dataset.problems[:10]:
        log.warning("%s", problem)
    if len(dataset.problems) > 10:
        log.warning("and %d more; see `marauder data check --input %s`", len(dataset.problems) - 10, path)
    for split in ("train", "val"):
        records = _labelled(dataset.split(split))
        if not any(len(record.boxes) for record in records):
            raise UserError(
                f"{path}: the split {split!r} has {len(records)} labelled pictures and not one box; "
                "make splits with `marauder data organize`, and look with `marauder data check`"
            )


def data_identity(settings: BaselineSettings, dataset: Dataset) -> str:
    """Fingerprint of the data set and of the weights that training starts from."""
    records = [
        [
            record.key,
            record.split,
            record.picture.stat().st_size if record.picture.is_file() else -1,
            record.boxes.round(4).tolist(),
            record.classes.tolist(),
            record.labelled,
        ]
        for record in dataset
    ]
    starts = [
        hash_file(path) if path is not None and path.is_file() else None
        for path in (settings.weights, settings.ssl_backbone)
    ]
    return fingerprint([dataset.names, records, starts])


def described(settings: BaselineSettings) -> dict[str, Any]:
    """Settings beside the training's own that decide the weights, by name, so that a difference can be told."""
    return {
        "model": settings.model,
        "image_size": settings.image_size,
        "augmentation": settings.augmentation.model_dump(mode="json"),
    }


class DetectorWeights:
    """The weights files of a run (``marauder.engine.trainer.Weights``)."""

    def __init__(self, settings: BaselineSettings) -> None:
        self.settings = settings

    def save(self, model: torch.nn.Module, name: str, about: dict[str, Any]) -> None:
        """Write ``name.safetensors`` and ``name.pt``."""
        assert isinstance(model, DetectionModel)
        about = {**about, "seed": self.settings.training.seed}
        save_detector(model, self.settings.output / name, self.settings.image_size, about)

    def has(self, name: str) -> bool:
        """Whether both files are whole; one that is lost is written anew from the other."""
        return restore_detector(self.settings.output / name)


def set_aside_results(output: Path) -> None:
    """Move a finished run's weights and reports into ``previous``, so that a new run's do not mix with them."""
    if not (output / "summary.json").is_file():
        return
    previous = output / "previous"
    previous.mkdir(exist_ok=True)
    files = sorted(
        path for path in output.iterdir() if path.is_file() and path.suffix in RESULT_SUFFIXES and path.name[0] != "."
    )
    # The summary goes last: killed in between, the next start finds it and moves the rest.
    for path in sorted(files, key=lambda path: path.name == "summary.json"):
        path.replace(previous / path.name)


def _measure(
    settings: BaselineSettings, dataset: Dataset, outcome: Outcome, group: Group, clock: Clock, identity: str
) -> BaselineSummary:
    """Evaluate the best weights on the test split (else on val) and write the report, unless that is done already."""
    best = hash_file(settings.output / "best.safetensors")
    done = fingerprint([identity, described(settings), settings.training.deciding(), outcome.steps, best])
    summary_path = settings.output / "summary.json"
    if summary_path.is_file() and read_json(summary_path).get("fingerprint") == done:
        return read_summary(settings.output)
    from marauder.reporting.run_report import write_evaluation  # brings matplotlib, which takes a while

    split = "test" if "test" in dataset.splits() else "val"
    result, records, detections = evaluate_split(
        settings.output / "best.pt", dataset, split, group.device, clock, settings.image_size
    )
    metrics = {name: result.overall.to_json(classes=False)[name] for name in HEADLINES}
    export = shlex.join(["marauder", "export", "--models", str(settings.output / "best.pt")])
    report = write_evaluation(
        settings.output, result, records, detections, dataset.names,
        title=f"Baseline detector {settings.model}",
        facts=_facts(settings, dataset, outcome, split, group),
        history=[{name: row[name] for name in row if name not in UNDRAWN} for row in outcome.history],
        what_next=f"Export it: `{export}`. More data of the weakest "
        "classes helps most; longer training helps while the validation curve still rises.",
    )  # fmt: skip
    content = {
        "fingerprint": done, "weights": "best.pt", "report": report.name, "split": split,
        "metrics": metrics, "epochs": outcome.epochs, "best_epoch": outcome.best_epoch,
        "seconds": round(outcome.seconds, 1), "weights_sha256": best,
    }  # fmt: skip
    write_json(summary_path, content)
    return read_summary(settings.output)


UNDRAWN = ("step", "seconds")
"""Numbers of an epoch that only grow, and would be drawn as a straight line."""
RESULT_SUFFIXES = frozenset({".pt", ".safetensors", ".html", ".png", ".json", ".jsonl"})
HEADLINES = ("map50", "map50_95", "precision", "recall", "f1", "pictures", "boxes")


def evaluate_split(
    weights: Path,
    dataset: Dataset,
    split: str,
    device: torch.device,
    clock: Clock | None,
    image_size: int | None = None,
) -> tuple[EvaluationResult, list[Record], list[Any]]:
    """Run a stored detector over a split; returns the result with the records and detections it rests on."""
    loaded = load_detector(weights)
    if loaded.names != dataset.names:
        raise UserError(
            f"{weights} knows the classes {', '.join(loaded.names)}; the data set has {', '.join(dataset.names)}: "
            "evaluate on a data set with the same classes in the same order"
        )
    records = _labelled(dataset.split(split))
    store = PictureStore(records, image_size or loaded.image_size, None, 0)
    model = loaded.model.to(device)

    def stops() -> bool:
        return clock is not None and clock.stop_reason() is not None

    with Progress(f"evaluating on {split}", len(records)) as progress:
        predictions = detect(model, records, store, range(len(records)), InferenceOptions(), stops, progress)
    if predictions is None:
        raise Interrupted((clock.stop_reason() if clock is not None else None) or "stopped while evaluating")
    kept, detections = pair_up(records, predictions, set())
    return evaluate(kept, detections, dataset.names, attribute_slices(kept)), kept, detections


def _facts(settings: BaselineSettings, dataset: Dataset, outcome: Outcome, split: str, group: Group) -> dict[str, str]:
    counts = ", ".join(f"{count} {name}" for name, count in dataset.splits().items())
    training, optimizer = settings.training, settings.training.optimizer
    machine = torch.cuda.get_device_name() if group.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "Measured on": f"the split {split}, which training never saw" if split == "test" else "the split val",
        "Detector": f"{settings.model} at {settings.image_size} pixels",
        "Pictures": f"{counts}; classes {', '.join(dataset.names)}",
        "Training": f"{outcome.epochs} epochs, {outcome.steps} updates of {training.batch_size}, "
        f"{describe_seconds(outcome.seconds)}; best epoch {outcome.best_epoch}",
        "Optimiser": f"{optimizer.name}, rate {optimizer.learning_rate}, {optimizer.schedule}",
        "Seed": str(training.seed),
        "Machine": f"{machine}, {group.size} process{'es' if group.size > 1 else ''}",
        "Versions": f"marauder {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def read_summary(output: Path) -> BaselineSummary:
    """The summary a finished run left in ``output``."""
    content: Mapping[str, Any] = read_json(output / "summary.json")
    return BaselineSummary(
        output / content["weights"], output / content["report"], content["split"], dict(content["metrics"]),
        content["epochs"], content["best_epoch"], content["seconds"],
    )  # fmt: skip
