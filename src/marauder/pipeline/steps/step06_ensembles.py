"""Step 6 of the pipeline: the ensembles, three medium detectors for the field and six large ones for ashore."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marauder.core.mistakes import Mistake
from marauder.core.plain import Plain, PlainMapping
from marauder.core.settings import Places, Settings
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from marauder.ensembles.training_settings import EnsembleTrainingSettings

KINDS = ("nano", "shore")
FOLDER = "ensembles"


class Ensembles(Step):
    """The newest data set and the best detector so far to ``training/models/ensembles/<nano|shore>/``."""

    number, name, title, optional = 6, "ensembles", "ensembles", True

    def settings_model(self) -> type[Settings]:
        """``EnsemblesSettings``."""
        from marauder.ensembles.training_settings import EnsemblesSettings

        return EnsemblesSettings

    def placed(self, workspace: Workspace) -> PlainMapping:
        """The output and the checkpoints of each, and the folder of the runs' common store."""
        found: Plain = {}
        for kind in KINDS:
            found |= {
                f"{kind}.output": workspace.model(FOLDER) / kind,
                f"{kind}.checkpoints": workspace.checkpoints(FOLDER) / kind,
                f"{kind}.runs": workspace.training / "runs",
                f"{kind}.step": self.name,
                f"{kind}.workspace": workspace.root,
            }
        return found

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> PlainMapping:
        """The data set with what the provider labelled, where there is one; the critical model, else the baseline."""
        merged = workspace.datasets / "annotated" / "data.yaml"
        data = merged if "annotation" in configured else workspace.data_yaml
        base = workspace.model("critical" if "critical" in configured else "baseline") / "best.pt"
        return {f"{kind}.{name}": value for kind in KINDS for name, value in (("data", data), ("base_model", base))}

    def mistakes(self, settings: Any, places: Places) -> Iterator[Mistake]:
        """Those of a run of each that is made."""
        from marauder.runs.task_description import describe_task

        for kind in KINDS:
            one, below = getattr(settings, kind), places.below(kind)
            if one is None or not one.enabled:
                continue
            yield from describe_task(one.task).mistakes(one, below)
            if one.recipe is not None:
                yield below.mistake("recipe", "is not read in this section; write out what it sets, or use the scripts")

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The data set with its pictures and labels, and the detector to start from."""
        preprocessed, annotated = workspace.datasets / "preprocessed", workspace.datasets / "annotated"
        found: list[Artifact] = []
        for kind, one in settings.made.items():
            labels = annotated if one.data.parent == annotated else preprocessed
            starts = [("detector to start from", one.base_model)] if one.base_model is not None else []
            found += [
                Artifact(f"{kind}: {name}", path, f"{path} is missing")
                for name, path in [("data set", one.data), *starts]
            ]
            found.append(Artifact(f"{kind}: labels", labels / "labels"))
        return (Artifact("pictures", preprocessed / "images"), *found)

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The weights of each member, the list of them, the deployment profile."""
        found = []
        for kind, one in settings.made.items():
            folder = workspace.model(FOLDER) / kind
            files = {"members": "members.json", "deployment profile": "deployment.json"}
            if one.assembly.enabled:
                files |= {"ensemble": "ensemble/predictor.json", "ensemble report": "ensemble/ensemble_report.json"}
            files |= {f"member {member.name}": f"{member.name}/best.safetensors" for member in one.named_members}
            found += [Artifact(f"{kind}: {name}", folder / file) for name, file in files.items()]
        return tuple(found)

    def detectors(self, workspace: Workspace, settings: Any) -> Mapping[str, Path]:
        """The fused ensembles."""
        return {
            f"ensemble-{kind}": workspace.model(FOLDER) / kind / "ensemble"
            for kind, one in settings.made.items()
            if one.assembly.enabled
        }

    def run(self, context: StepContext) -> PlainMapping:
        """Train the members of each, or continue. A gate that failed fails the step: raises ``GateStop``."""
        from marauder.ensembles.member_training import start_over, train_ensemble
        from marauder.runs.gatekeeper import GateStop

        told: Plain = {}
        made: dict[str, EnsembleTrainingSettings] = context.settings.made
        if context.asked:
            # Before the first begins: killed in the second, the first must not start over again.
            for settings in made.values():
                start_over(settings)
        # A change of one ensemble must not cost the other: each member knows what it was made of.
        context.begun()
        for kind, settings in made.items():
            done = train_ensemble(settings, context.clock, renew=True)
            if done.exit_status:
                raise GateStop(f"{kind}: gates failed: {done.energy.gate}: {done.energy.why}")
            told[kind] = {
                name: {"map50": summary.metrics.get("map50"), "gates": summary.verdict}
                for name, summary in done.members.items()
            } | {"energy": done.energy.answer}
            if done.assembled is not None:
                told[kind]["ensemble"] = done.assembled.summary.report["measured"]["ensemble"]["map50"]
                told[kind]["report"] = context.workspace.relative(done.assembled.summary.page)
        return told


STEP = Ensembles()
