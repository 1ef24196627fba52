"""Step 6 of the pipeline: the ensembles, three medium detectors for the field and six large ones for ashore, and the
student that one of them teaches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marauder.core.mistakes import Mistake
from marauder.core.plain import Plain, PlainMapping
from marauder.core.settings import Places, Settings
from marauder.pipeline.run_step import result_of
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from marauder.ensembles.training_settings import EnsembleTrainingSettings

KINDS, STUDENT = ("nano", "shore"), "student"
FOLDER = "ensembles"


class Ensembles(Step):
    """The newest data set and the best detector so far to ``training/models/ensembles/<nano|shore|student>/``."""

    number, name, title, optional = 6, "ensembles", "ensembles", True

    def settings_model(self) -> type[Settings]:
        """``EnsemblesSettings``."""
        from marauder.pipeline.ensembles_section import EnsemblesSettings

        return EnsemblesSettings

    def placed(self, workspace: Workspace) -> PlainMapping:
        """The output and the checkpoints of each, and the folder of the runs' common store."""
        found: Plain = {}
        for kind in (*KINDS, STUDENT):
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
        bases = {f"{kind}.base_model": base for kind in KINDS}
        return {**bases, **{f"{kind}.data": data for kind in (*KINDS, STUDENT)}}

    def mistakes(self, settings: Any, places: Places) -> Iterator[Mistake]:
        """Those of a run of each that is made."""
        from marauder.runs.task_description import describe_task

        for kind in (*KINDS, STUDENT):
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
        if settings.student.enabled:
            found += self._inputs_of_student(workspace, settings.student)
        return (Artifact("pictures", preprocessed / "images"), *found)

    def _inputs_of_student(self, workspace: Workspace, one: Any) -> list[Artifact]:
        """Data set and labels, further pictures, and the teacher where it is not an ensemble of this step."""
        labels = workspace.datasets / ("annotated" if one.data.parent.name == "annotated" else "preprocessed")
        named = [("data set", one.data), *(("unlabelled pictures", folder) for folder in one.unlabelled)]
        named += [("teacher", one.teacher)] if one.teacher is not None else []
        found = [Artifact(f"{STUDENT}: {name}", path, f"{path} is missing") for name, path in named]
        return [*found, Artifact(f"{STUDENT}: labels", labels / "labels")]

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
        if settings.student.enabled:
            folder = workspace.model(FOLDER) / STUDENT
            files = {"model": "best.pt", "weights": "best.safetensors", "report": "student_report.json"}
            found += [Artifact(f"{STUDENT}: {name}", folder / file) for name, file in files.items()]
        return tuple(found)

    def detectors(self, workspace: Workspace, settings: Any) -> Mapping[str, Path]:
        """The fused ensembles, and the student that one of them taught."""
        found = {
            f"ensemble-{kind}": workspace.model(FOLDER) / kind / "ensemble"
            for kind, one in settings.made.items()
            if one.assembly.enabled
        }
        return found | ({STUDENT: workspace.model(FOLDER) / STUDENT / "best.pt"} if settings.student.enabled else {})

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
            if context.settings.student.enabled:
                from marauder.students.training import start_student_over

                start_student_over(context.settings.student)
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
        if context.settings.student.enabled:
            told[STUDENT] = self._train_student(context)
        return told

    def _train_student(self, context: StepContext) -> PlainMapping:
        """After the ensembles, of which one teaches it. Raises ``GateStop`` for a gate that failed."""
        from marauder.runs.gatekeeper import GateStop
        from marauder.students.training import run_student

        done = run_student(context.settings.taught, context.clock, renew=True)
        if done.exit_status:
            raise GateStop(f"{STUDENT}: gates failed: {'; '.join(done.run.failed)}. The report: {done.run.report}")
        return result_of(done.run, context.workspace)


STEP = Ensembles()
