"""What the steps that are gated runs share: where they lie in a workspace, what they read and leave, their summary."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from marauder.core.mistakes import Mistake
from marauder.core.plain import PlainMapping
from marauder.core.settings import Places
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace
from marauder.runs.settings import is_word
from marauder.runs.start_weights import present

# Steps are imported for ``marauder status``, which must not wait for torch.
if TYPE_CHECKING:
    from marauder.runs.gated import RunSummary


class TrainingStep(Step):
    """A step that does gated runs, one or several: what it is given and what it reads."""

    folder: ClassVar[str]
    """Its folder in ``training/models`` and in ``training/checkpoints``."""
    starts: ClassVar[Mapping[str, str]] = {}
    """What training may start from: an artifact's name to the setting that names its file."""

    def placed(self, workspace: Workspace) -> PlainMapping:
        """The data set, the output, the checkpoints, the folder of the runs' common store, and whose step it is."""
        return {
            "data": workspace.data_yaml,
            "output": workspace.model(self.folder),
            "checkpoints": workspace.checkpoints(self.folder),
            "runs": workspace.training / "runs",
            "step": self.name,
            "workspace": workspace.root,
        }

    def mistakes(self, settings: Any, places: Places) -> Iterable[Mistake]:
        """Those of a run of this kind."""
        from marauder.runs.task_description import describe_task

        return describe_task(settings.task).mistakes(settings, places)

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The data set with its pictures and labels, and the weights to start from where they are named."""
        preprocessed, annotated = workspace.datasets / "preprocessed", workspace.datasets / "annotated"
        # Merged labels lie beside links to the same preprocessed pictures.
        labels = annotated if settings.data.parent == annotated else preprocessed
        starts = {name: self._start(settings, setting) for name, setting in self.starts.items()}
        return (
            Artifact("data set", settings.data, f"{settings.data} is missing"),
            Artifact("pictures", preprocessed / "images"),
            Artifact("labels", labels / "labels"),
            *(Artifact(name, path, f"{path} is missing") for name, path in starts.items() if path is not None),
        )

    def _start(self, settings: Any, setting: str) -> Path | None:
        """The file that a setting names. Weights that a run looks for by a word are no input: what it found when it
        began stays, whichever files turn up or go."""
        path: Path | None = getattr(settings, setting)
        if setting != "weights" or path is None:
            return path
        return None if is_word(path) else present(settings, path)


class RunStep(TrainingStep):
    """A step that is one gated run: ``train`` does it, the rest follows from three names."""

    leaves: ClassVar[Mapping[str, str]]
    """What the step is done with: an artifact's name to its file in the folder."""

    @abstractmethod
    def train(self, context: StepContext) -> RunSummary:
        """Train, or continue; then measure and judge."""

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The files of ``leaves``."""
        return tuple(Artifact(name, workspace.model(self.folder) / file) for name, file in self.leaves.items())

    def run(self, context: StepContext) -> PlainMapping:
        """Train, or continue. A gate that failed fails the step: raises ``GateStop``."""
        from marauder.runs.gatekeeper import GateStop

        done = self.train(context)
        # A finished run with a failed gate ends the pipeline: later steps must not build on it.
        if done.exit_status:
            raise GateStop(f"gates failed: {'; '.join(done.failed)}. The report: {done.report}")
        return result_of(done, context.workspace)


def result_of(done: RunSummary, workspace: Workspace) -> PlainMapping:
    """What a step notes of a run: figures, verdict, length, report."""
    figures = {name: round(value, 4) for name, value in done.metrics.items() if isinstance(value, float)}
    return {
        **figures,
        "measured_on": f"the split {done.split}",
        "gates": done.verdict,
        "epochs": done.epochs,
        **({"note": done.longer_than_asked} if done.longer_than_asked else {}),
        "report": workspace.relative(done.report),
    }
