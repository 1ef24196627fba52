"""Step 7: detectors trained on at changing picture sizes, one gated run after another, each continuing where it was.

What comes out is in a folder for each, ``<output>/<name>/best.pt``, and as ``<output>/<name>.pt``, so that the next
step takes them all by one pattern.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import atomic_path, hash_file, read_json
from marauder.core.plain import Plain
from marauder.data.reading import read_dataset
from marauder.multiscale.runtime import MultiScaleRuntime
from marauder.multiscale.settings import REPORT_JSON, REPORT_PAGE, MultiScaleRunSettings, MultiScaleStepSettings
from marauder.multiscale.sources import Source, sources_of
from marauder.runs.gated import RunSummary, run_gated
from marauder.runs.training_processes import is_one_of_several
from marauder.runs.training_stage import SingleTraining
from marauder.tasks.detection.base_detector import BaseDetector, open_base
from marauder.tasks.detection.evaluate_split import other_classes

log = logging.getLogger("marauder")


@dataclass(frozen=True)
class MultiScaleSummary:
    """What step 7 leaves. ``runs`` by the detectors' names, in order; ``reports``: what sizes changed
    (``multiscale_report.json``); ``models``: the published files of those whose gates did not fail."""

    folder: Path
    runs: Mapping[str, RunSummary]
    reports: Mapping[str, Plain]
    models: Mapping[str, Path]

    @property
    def earlier(self) -> list[Path]:
        """Models beside the published ones that are of other calls: a pattern takes them, too."""
        return sorted(path for path in self.folder.glob("*.pt") if path not in self.models.values())

    @property
    def exit_status(self) -> int:
        """The worst of all runs."""
        return max(one.exit_status for one in self.runs.values())


class ChangingSizesTraining(SingleTraining):
    """One training, of which a report says what changing sizes changed."""

    leaves = (REPORT_JSON, REPORT_PAGE)


def run_multiscale(
    settings: MultiScaleStepSettings,
    clock: Clock,
    resume: Path | None = None,
    fresh: bool = False,
    begun: Callable[[], None] | None = None,
    asked_to_resume: bool = False,
) -> MultiScaleSummary:
    """Do step 7, or go on with it; other arguments as ``runs.gated.run_gated`` has them.

    Every detector is opened and compared with the data set before the first is trained. Raises ``Interrupted`` when
    stopped in time, ``GateStop``, ``UserError``, ``TrainingFailure``.
    """
    if is_one_of_several():
        raise UserError("this step starts the processes of its runs itself: call it without torchrun, processes=N")
    assert settings.output is not None and settings.weights is not None
    sources = sources_of(settings.ensemble_models, settings.weights, settings.output)
    runs = [run_settings(settings, one, base) for one, base in zip(sources, _opened(sources, settings))]
    _check_checkpoint(resume, runs)
    done: dict[str, RunSummary] = {}
    models: dict[str, Path] = {}
    for number, (source, run) in enumerate(zip(sources, runs), 1):
        clock.check()
        if len(runs) > 1:
            log.info("%s (%d of %d): from %s", source.name, number, len(runs), source.path)
        own = resume if resume is not None and _is_of(resume, run) else None
        done[source.name] = run_gated(
            run, clock, own, fresh, begun, MultiScaleRuntime, ChangingSizesTraining(), asked_to_resume
        )
        published = publish(done[source.name], source)
        if published is not None:
            models[source.name] = published
    reports = {one.name: read_json(one.folder / REPORT_JSON) for one in sources}
    # A run's own settings name its folder: the models lie beside it.
    return MultiScaleSummary(sources[0].folder.parent, done, reports, models)


def run_settings(settings: MultiScaleStepSettings, source: Source, base: BaseDetector) -> MultiScaleRunSettings:
    """One detector's run."""
    decided = settings.decided_by(base.model, base.image_size)
    several, checkpoints = bool(settings.ensemble_models), settings.checkpoints
    # A run's own settings name its own folder of checkpoints.
    if checkpoints is not None and not source.own:
        checkpoints = checkpoints / source.name
    changes: Plain = {
        "weights": source.path,
        "output": source.folder,
        "checkpoints": checkpoints,
        # Ids and names of projects end at 63 characters; the suffix must fit.
        "id": f"{settings.id[:20]}-{source.name}" if settings.id and several else settings.id,
        # Each has its own production model to be compared with.
        "project": f"{settings.project[:20]}-{source.name}" if several else settings.project,
    }
    plain = decided.model_dump(include=set(MultiScaleRunSettings.model_fields))
    return MultiScaleRunSettings.model_validate({**plain, **changes})


def publish(run: RunSummary, source: Source) -> Path | None:
    """The run's best weights as ``<name>.pt`` beside its folder; ``None`` where its gates failed, and none is there."""
    target = source.folder.parent / f"{source.name}.pt"
    if run.exit_status:
        # One of an earlier run would be taken for this one's.
        target.unlink(missing_ok=True)
        return None
    # A copy: links do not survive buckets and moves. Whole ones are not written once more.
    if not (target.is_file() and hash_file(target) == hash_file(run.weights)):
        with atomic_path(target) as temporary:
            shutil.copyfile(run.weights, temporary)
    return target


def _opened(sources: list[Source], settings: MultiScaleStepSettings) -> list[BaseDetector]:
    """All detectors. Raises one ``UserError`` for all that cannot be gone on from."""
    names = read_dataset(settings.data).names
    found, problems = [], []
    for one in sources:
        try:
            base = open_base(one.path, settings.model)
            if sorted(base.names) != sorted(names):
                raise UserError(
                    f"{other_classes(one.path, base.names, names)}: step 7 goes on from a detector of the same; train "
                    "one on these pictures first"
                )
            _check_sizes(settings, base)
            found.append(base)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return found


def _check_sizes(settings: MultiScaleStepSettings, base: BaseDetector) -> None:
    """Refuse sizes that make no set at the detector's own size, which was not known when the settings were read."""
    try:
        settings.multi_scale.set_for(settings.image_size or base.image_size)
    except ValueError as error:
        raise UserError(f"{base.path}: {error}") from None


def _check_checkpoint(resume: Path | None, runs: list[MultiScaleRunSettings]) -> None:
    if resume is not None and not any(_is_of(resume, run) for run in runs):
        places = ", ".join(str(run.checkpoint_folder) for run in runs)
        raise UserError(f"{resume}: is not a checkpoint of this step; its runs have theirs in {places}")


def _is_of(checkpoint: Path, run: MultiScaleRunSettings) -> bool:
    return checkpoint.resolve().is_relative_to(run.checkpoint_folder.resolve())
