"""Step 7 of the pipeline: train the detectors so far on at changing picture sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marauder.core.plain import Plain, PlainMapping
from marauder.core.settings import Settings
from marauder.pipeline.run_step import TrainingStep, result_of
from marauder.pipeline.step import Artifact, StepContext
from marauder.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from marauder.multiscale.sources import Source


class MultiScale(TrainingStep):
    """The newest data set and a detector, or several, to ``training/models/multiscale/<name>.pt``."""

    number, name, title, optional = 7, "multiscale", "training at changing sizes", True
    folder = "multiscale"

    def settings_model(self) -> type[Settings]:
        """``MultiScaleStepSettings``."""
        from marauder.multiscale.settings import MultiScaleStepSettings

        return MultiScaleStepSettings

    def placed(self, workspace: Workspace) -> PlainMapping:
        """As for every run, but for the data set, which may be the one with what was annotated."""
        return {name: value for name, value in super().placed(workspace).items() if name != "data"}

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> PlainMapping:
        """The data set with what the provider labelled, where there is one; the critical model, else the baseline."""
        merged = workspace.datasets / "annotated" / "data.yaml"
        earlier = "critical" if "critical" in configured else "baseline"
        return {
            "data": merged if "annotation" in configured else workspace.data_yaml,
            "weights": workspace.model(earlier) / "best.pt",
        }

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The data set with its pictures and labels, and the detectors to go on from."""
        starts = [
            Artifact(f"detector to go on from: {one.name}", one.path, f"{one.path} is missing")
            for one in self._sources(settings)
        ]
        return (*super().inputs(workspace, settings), *starts)

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """Of each detector its model and what changed."""
        from marauder.multiscale.settings import REPORT_JSON, REPORT_PAGE

        found = []
        for one in self._sources(settings):
            found += [
                Artifact(f"{one.name}, trained on", one.folder.parent / f"{one.name}.pt"),
                Artifact(f"{one.name}, weights", one.folder / "best.safetensors"),
                Artifact(f"{one.name}, figures", one.folder / REPORT_JSON),
                Artifact(f"{one.name}, report", one.folder / REPORT_PAGE),
            ]
        return tuple(found)

    def detectors(self, workspace: Workspace, settings: Any) -> Mapping[str, Path]:
        """Those that were trained on, each by the name of what it was before."""
        return {f"{self.name}-{one.name}": one.folder.parent / f"{one.name}.pt" for one in self._sources(settings)}

    def run(self, context: StepContext) -> PlainMapping:
        """Every detector in turn, each continuing where it was. Raises ``GateStop`` for gates that failed."""
        from marauder.multiscale.training import run_multiscale
        from marauder.runs.gatekeeper import GateStop

        done = run_multiscale(context.settings, context.clock, fresh=context.fresh, begun=context.begun)
        failed = [
            f"{name}: {'; '.join(one.failed)} ({one.report})" for name, one in done.runs.items() if one.exit_status
        ]
        if failed:
            raise GateStop(f"gates failed: {'. '.join(failed)}")
        result: Plain = {}
        for name, one in done.runs.items():
            shown = done.reports[name]["verdict"]
            figures = {
                **result_of(one, context.workspace),
                "small_animals": shown["small"],
                "all_at_the_size_of_use": shown["native"],
            }
            result |= figures if len(done.runs) == 1 else {f"{name} {key}": value for key, value in figures.items()}
        return result

    def _sources(self, settings: Any) -> list[Source]:
        """The detectors of the settings; none where they are not there yet."""
        from marauder.core.errors import UserError
        from marauder.multiscale.sources import sources_of

        try:
            return sources_of(settings.ensemble_models, settings.weights, settings.output, lambda _: True)
        except UserError:
            return []


STEP = MultiScale()
