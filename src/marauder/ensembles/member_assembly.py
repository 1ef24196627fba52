"""From trained members to one predictor: how they are fused by default, and what each was found to add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.data.records import Dataset
from marauder.ensembles.assembly import assemble
from marauder.ensembles.member_runs import MemberRun
from marauder.ensembles.report import AssemblySummary
from marauder.ensembles.settings import EnsembleSettings
from marauder.ensembles.training_settings import FITTED_ON, MEASURED_ON, EnsembleTrainingSettings

FOLDER = "ensemble"
"""Below the output: the predictor folder that `marauder predict` and `evaluate` take."""


@dataclass(frozen=True)
class Assembled:
    """The ensemble of the members. ``kept``: names of those that it has; ``adds``: what each of all adds to the metric
    on the pictures that it was fitted on, by name."""

    summary: AssemblySummary
    kept: tuple[str, ...]
    adds: Mapping[str, float]


def assemble_members(
    settings: EnsembleTrainingSettings, members: Sequence[MemberRun], clock: Clock
) -> Assembled | None:
    """Fuse the trained ``members``, or find it done; ``None``: it is not wanted. Raises ``Interrupted``."""
    if settings.assembly.is_off:
        return None
    asked = settings.assembly
    summary = assemble(
        EnsembleSettings(
            members=tuple(member.settings.folder / "best.safetensors" for member in members),
            data=settings.data,
            output=settings.folder / FOLDER,
            fusion=asked.fusion,
            options=asked.options,
            fit=FITTED_ON,
            split=MEASURED_ON,
            metric=asked.metric,
            prune=asked.prune,
            draws=asked.draws,
            seed=settings.training.seed,
            device=settings.training.device,
        ),
        clock,
    )
    # In the order of the members: their names there are those of folders, which may be shortened.
    rows = dict(zip((member.name for member in members), summary.report["members"], strict=True))
    return Assembled(
        summary,
        tuple(name for name, row in rows.items() if row["kept"]),
        {name: float(row["adds_on_fit"]["delta"] or 0.0) for name, row in rows.items()},
    )


def refuse_data_without(dataset: Dataset, settings: EnsembleTrainingSettings) -> None:
    """Refuse, before anything is trained, data on which the ensemble could not be measured."""
    if settings.assembly.is_off or MEASURED_ON in dataset.splits():
        return
    raise UserError(
        f"{settings.data}: has no split {MEASURED_ON}, and what is fitted on {FITTED_ON} must be "
        f"measured elsewhere; divide the data anew (`marauder data organize --fractions`), or train the members alone: "
        f"assembly.enabled=false"
    )
