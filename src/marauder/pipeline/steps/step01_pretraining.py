"""Step 1 of the pipeline: pretrain the detector's backbone on all pictures, labelled or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marauder.core.plain import PlainMapping
from marauder.core.settings import Settings
from marauder.pipeline.run_step import RunStep
from marauder.pipeline.step import StepContext

if TYPE_CHECKING:
    from marauder.runs.gated import RunSummary


class Pretraining(RunStep):
    """``training/datasets/data.yaml`` to ``training/models/ssl/backbone.safetensors`` with the report of its probe."""

    number, name, title, optional = 1, "pretraining", "self-supervised backbone", True
    folder = "ssl"
    starts = {"weights to start from": "weights"}
    leaves = {"backbone": "backbone.safetensors", "probe": "probe.json", "report": "report.html"}

    def settings_model(self) -> type[Settings]:
        """``PretrainingSettings``."""
        from marauder.tasks.pretraining.settings import PretrainingSettings

        return PretrainingSettings

    def train(self, context: StepContext) -> RunSummary:
        """Pretrain, or continue; then ask the probe about its features. Collapse fails the step."""
        from marauder.runs.gated import run_gated

        return run_gated(context.settings, context.clock, fresh=context.fresh, begun=context.begun)

    def run(self, context: StepContext) -> PlainMapping:
        """The summary begins with the probe's answer."""
        from marauder.core.files import read_json

        summary = super().run(context)
        return {"helped": read_json(context.settings.folder / "probe.json")["verdict"], **summary}


STEP = Pretraining()
