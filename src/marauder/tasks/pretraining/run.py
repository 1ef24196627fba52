"""Step 1: pretrain a detector's backbone without labels, as a gated run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from marauder.core.clock import Clock
from marauder.data.reading import refuse_output_among_pictures
from marauder.runs.gated import RunSummary, run_gated
from marauder.tasks.pretraining.settings import PretrainingSettings


def pretrain(
    settings: PretrainingSettings,
    clock: Clock,
    resume: Path | None = None,
    fresh: bool = False,
    begun: Callable[[], None] | None = None,
) -> RunSummary:
    """Pretrain, or go on with it: what an earlier call finished is not done again. See ``runs.gated.run_gated``.

    Leaves in ``settings.folder``: ``backbone.safetensors`` (tensors named as in the detector), ``probe.json`` (did it
    help), ``step2_account.txt`` (every tensor that step 2 takes or leaves), ``thinning.json``, ``report.html``, the
    model card and the run's record. Raises ``UserError`` for an output among the pictures, ``TrainingFailure`` (status
    3) when the features collapse.
    """
    refuse_output_among_pictures(settings.folder, settings.data)
    return run_gated(settings, clock, resume, fresh, begun)
