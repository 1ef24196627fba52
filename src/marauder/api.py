"""The public Python face: the commands as functions. ``import marauder`` offers them; each imports what it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from marauder.core.plain import Plain, PlainMapping

if TYPE_CHECKING:
    from marauder.bundles.job import EngineSummary
    from marauder.calibration.job import CalibrateSummary
    from marauder.core.clock import Clock
    from marauder.core.settings import AnySettings
    from marauder.data.records import Dataset
    from marauder.ensembles.report import AssemblySummary
    from marauder.runs.gated import RunSummary
    from marauder.students.training import StudentSummary
    from marauder.survey.job import PredictSummary
    from marauder.tasks.detection.evaluate_split import Measured

    PathOrText = str | PathLike[str]


def open_dataset(
    path: PathOrText, *, format: str = "auto", names: Sequence[str] | None = None, pictures: PathOrText | None = None
) -> Dataset:
    """A data set in any layout of docs/formats.md, as records.

    ``format``: a reader's name, by default whichever recognises the files. ``names``: class names, where no file has
    them. ``pictures``: their folder where they are not beside the labels. Raises ``marauder.core.errors.UserError``.
    """
    from marauder.data.reading import read_dataset

    return read_dataset(Path(path), format, names=names, pictures=Path(pictures) if pictures is not None else None)


def train(
    data: PathOrText,
    *,
    task: str | None = None,
    recipe: str | None = None,
    output: PathOrText | None = None,
    settings: PlainMapping | None = None,
    resume: PathOrText | None = None,
    fresh: bool = False,
    max_hours: float | None = None,
) -> RunSummary:
    """A gated run, or its continuation: the same call goes on after any interruption.

    ``task``: what is trained, by default what the recipe says, else a detector. ``settings``: any setting of
    docs/runs.md by its dotted name, ``{"training.epochs": 20}``; it takes precedence over
    the ``recipe``. ``resume``: a checkpoint instead of the newest. Gates that failed are in the summary
    (``exit_status``, ``failed``). Raises ``marauder.core.errors.UserError`` for mistakes, ``GateStop`` (one of these)
    when a gate stops it before training, ``marauder.core.clock.Interrupted`` when its hours are spent or on SIGTERM.
    """
    from marauder.runs.gated import run_gated
    from marauder.runs.recipes import check_run, run_layer

    # ``None`` is "not given" there, so that a recipe's value stays.
    values, places = _given({"data": data, "task": task, "recipe": recipe, "output": output}, settings)
    checked, clock = _checked(lambda: check_run(run_layer(None, (), places, values), places), max_hours)
    with clock.listening():
        return run_gated(checked, clock, Path(resume) if resume is not None else None, fresh)


def evaluate(
    model: PathOrText,
    data: PathOrText,
    *,
    split: str = "test",
    output: PathOrText | None = None,
    image_size: int | None = None,
    device: str = "auto",
    max_hours: float | None = None,
) -> Measured:
    """What a stored detector is worth on a split of labelled pictures: ``result`` has figures, classes and slices.

    With ``output`` a folder, the report is written there. ``image_size``: pixels of the long side, by default as
    trained. Raises ``marauder.core.errors.UserError``, which lists all mistakes in the arguments, and
    ``marauder.core.clock.Interrupted``.
    """
    from marauder.core.settings import load_checked
    from marauder.tasks.detection.evaluate_settings import EvaluateSettings

    # The settings are those of the command, which always writes a report.
    folder = output if output is not None else "evaluation"
    arguments = {"model": model, "data": data, "split": split, "image_size": image_size, "device": device}
    values, places = _given({**arguments, "output": folder}, None)
    checked, clock = _checked(lambda: load_checked(EvaluateSettings, None, (), places, **values), max_hours)
    # After the mistakes: it loads torch.
    from marauder.tasks.detection.evaluate_model import evaluate_model

    with clock.listening():
        measured, _ = evaluate_model(
            checked.model,
            checked.data,
            checked.split,
            clock,
            output=checked.output if output is not None else None,
            image_size=checked.image_size,
            device=checked.device,
        )
    return measured


def predict(
    model: PathOrText,
    inputs: PathOrText | Sequence[PathOrText],
    output: PathOrText = "predictions",
    *,
    settings: PlainMapping | None = None,
    max_hours: float | None = None,
) -> PredictSummary:
    """What a detector finds in pictures and videos: counts, MaxN by clip, files for other tools, a page in ``output``.

    ``inputs``: files, folders or patterns. ``settings``: those of ``marauder predict`` by name, ``{"confidence": 0.3,
    "fps": 2, "formats": ["boxes", "coco"]}``. The same call goes on after any interruption. Raises
    ``marauder.core.errors.UserError``, ``marauder.core.clock.Interrupted``.
    """
    from marauder.core.settings import load_checked
    from marauder.survey.job import predict_files
    from marauder.survey.settings import PredictSettings

    values, places = _given({"model": model, "inputs": _each(inputs), "output": output}, settings)
    checked, clock = _checked(lambda: load_checked(PredictSettings, None, (), places, **values), max_hours)
    with clock.listening():
        return predict_files(checked, clock)


def export(
    models: PathOrText | Sequence[PathOrText],
    output: PathOrText = "exported",
    *,
    settings: PlainMapping | None = None,
    max_hours: float | None = None,
) -> EngineSummary:
    """ONNX and TorchScript files of trained detectors, each compared with its model before it is put in place; with
    ``target`` among the settings also a bundle for that board.

    ``settings``: those of ``marauder export`` by dotted name, ``{"formats": ["onnx"], "latency.enabled": False}``.
    Raises ``marauder.core.errors.UserError``, ``marauder.core.clock.Interrupted``.
    """
    from marauder.bundles.job import export_engines
    from marauder.bundles.settings import EngineSettings
    from marauder.core.settings import load_checked

    values, places = _given({"models": _each(models), "output": output}, settings)
    checked, clock = _checked(lambda: load_checked(EngineSettings, None, (), places, **values), max_hours)
    with clock.listening():
        return export_engines(checked, clock)


def ensemble(
    members: Sequence[PathOrText],
    data: PathOrText,
    output: PathOrText = "ensemble",
    *,
    settings: PlainMapping | None = None,
    max_hours: float | None = None,
) -> AssemblySummary:
    """Several detectors made one predictor folder, with a report on what each of them adds.

    ``settings``: those of ``marauder ensemble`` by dotted name, ``{"prune": True, "cost.enabled": False}``. Raises
    ``marauder.core.errors.UserError``, ``marauder.core.clock.Interrupted``.
    """
    from marauder.core.settings import load_checked
    from marauder.ensembles.assembly import assemble
    from marauder.ensembles.settings import EnsembleSettings

    values, places = _given({"members": [str(one) for one in members], "data": data, "output": output}, settings)
    checked, clock = _checked(lambda: load_checked(EnsembleSettings, None, (), places, **values), max_hours)
    with clock.listening():
        return assemble(checked, clock)


def teach(
    teacher: PathOrText,
    data: PathOrText,
    *,
    unlabelled: Sequence[PathOrText] = (),
    output: PathOrText | None = None,
    settings: PlainMapping | None = None,
    resume: PathOrText | None = None,
    fresh: bool = False,
    max_hours: float | None = None,
) -> StudentSummary:
    """One small detector, taught by another or by an ensemble, on labelled and ``unlabelled`` pictures; or its
    continuation.

    ``settings``: those of ``marauder student`` by dotted name, ``{"model": "yolov8s", "lessons.sure": 0.6}``. The other
    arguments and what is raised are those of ``train``.
    """
    from marauder.runs.recipes import check_run, run_layer
    from marauder.students.settings import StudentSettings

    arguments: Plain = {"teacher": teacher, "data": data, "output": output}
    if unlabelled:
        arguments["unlabelled"] = [str(one) for one in unlabelled]
    values, places = _given(arguments, settings)
    load = lambda: check_run(run_layer(None, (), places, values), places, StudentSettings)  # noqa: E731
    checked, clock = _checked(load, max_hours)
    # After the mistakes: it loads torch.
    from marauder.students.training import run_student

    assert isinstance(checked, StudentSettings)
    with clock.listening():
        return run_student(checked, clock, Path(resume) if resume is not None else None, fresh)


def calibrate(
    models: PathOrText | Sequence[PathOrText],
    data: PathOrText,
    output: PathOrText = "calibrated",
    *,
    settings: PlainMapping | None = None,
    max_hours: float | None = None,
) -> CalibrateSummary:
    """Trained detectors or ensembles made ones whose scores say how often they are right: each a folder in ``output``.

    ``data``: labelled pictures that no training saw. ``settings``: those of ``marauder calibrate`` by dotted name,
    ``{"views.candidates": ["flip"], "thresholds.rule": "recall_floor"}``. Raises ``marauder.core.errors.UserError``,
    ``marauder.core.clock.Interrupted``.
    """
    from marauder.calibration.job import calibrate_models
    from marauder.calibration.settings import CalibrateSettings
    from marauder.core.settings import load_checked

    values, places = _given({"models": _each(models), "data": data, "output": output}, settings)
    checked, clock = _checked(lambda: load_checked(CalibrateSettings, None, (), places, **values), max_hours)
    with clock.listening():
        return calibrate_models(checked, clock)


def _each(named: PathOrText | Sequence[PathOrText]) -> list[str]:
    """One or several. A text is a sequence, too: of its letters."""
    return [str(one) for one in ([named] if isinstance(named, (str, PathLike)) else named)]


def _given(arguments: PlainMapping, settings: PlainMapping | None) -> tuple[Plain, dict[str, str]]:
    """All that was given, by the settings' names, and what each is called where it is wrong."""
    given = {**arguments, **(settings or {})}
    # Settings are validated as if they stood in a file, where paths are text.
    values = {name: str(value) if isinstance(value, PathLike) else value for name, value in given.items()}
    places = {name: f"argument {name}" for name in arguments}
    return values, places | {name: f"argument settings[{name!r}]" for name in settings or {}}


def _checked(load: Callable[[], AnySettings], max_hours: float | None) -> tuple[AnySettings, Clock]:
    """Settings and clock. Raises one ``UserError`` with the mistakes in both."""
    from marauder.core.clock import Clock
    from marauder.core.mistakes import Mistakes

    found = Mistakes()
    settings = clock = None
    with found.gathered():
        settings = load()
    with found.gathered():
        clock = Clock.for_hours(max_hours, "argument max_hours")
    found.demand_none()
    assert settings is not None and clock is not None
    return settings, clock
