"""Step 6 as a job: the members of an ensemble as a series of gated runs, then the ensemble, then what it costs.

Every member is a gated run in a folder of its own, which goes on where it was and is recognised when it is finished, so
that the same command continues after any interruption; members that were not in the list before are added.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.files import hash_file, write_json, write_text
from marauder.core.locks import LOCK_FILE, exclusive
from marauder.core.plain import Plain
from marauder.core.settings import Decides, Places
from marauder.core.work import Work, claim
from marauder.data.manifests.pinning import pin
from marauder.data.reading import read_dataset
from marauder.deployment.job import profile_of
from marauder.deployment.profile import Profile
from marauder.ensembles.member_assembly import Assembled, assemble_members, refuse_data_without
from marauder.ensembles.member_runs import MemberRun, members_of
from marauder.ensembles.side_by_side import FOLDER as PROCESSES
from marauder.ensembles.side_by_side import make_at_once, places
from marauder.ensembles.training_settings import EnsembleTrainingSettings
from marauder.gates.energy import EnergyEvidence
from marauder.gates.outcome import decide
from marauder.gates.plan import GatePlan, gates_in, load_gates
from marauder.gates.verdict import Verdict
from marauder.runs.gated import RunSummary, run_gated
from marauder.runs.gatekeeper import GateStop
from marauder.runs.mirroring import mirrors_of
from marauder.runs.recipes import as_yaml
from marauder.runs.series import former_of, set_aside
from marauder.runs.training_processes import is_one_of_several
from marauder.runs.training_stage import MIRROR_SECONDS

SETTINGS_FILE = "ensemble_settings.yaml"
"""The settings as they were used, every default written out; it says whose the folder is."""
MEMBERS_FILE = "members.json"
"""The members: architecture, role, what picked their weights, figures, and the files with their hashes."""
DEPLOYMENT_FILE = "deployment.json"
"""The deployment profile and the verdict on it."""
ENERGY = "energy"
log = logging.getLogger("marauder")


@dataclass(frozen=True)
class EnsembleSummary:
    """What step 6 leaves in ``folder``. ``members``: the run of each, by name. ``assembled``: the ensemble (``None``:
    it is not wanted). ``profile``: on its device (``None``: no device is named); ``energy``: the verdict on it."""

    folder: Path
    members: Mapping[str, RunSummary]
    assembled: Assembled | None
    profile: Profile | None
    energy: Verdict

    @property
    def exit_status(self) -> int:
        """0, or that of a gate that failed."""
        return decide([self.energy]).exit_status


def train_ensemble(
    settings: EnsembleTrainingSettings,
    clock: Clock,
    resume: Path | None = None,
    fresh: bool = False,
    begun: Callable[[], None] | None = None,
    asked_to_resume: bool = False,
    renew: bool = False,
) -> EnsembleSummary:
    """Make all members that are not made yet, and the ensemble.

    ``resume``: a checkpoint of one of the members to continue it from. ``fresh``: all members start over; ``renew``:
    those whose settings, data or start have changed, where they would otherwise be refused. ``begun`` is called once
    nothing of an earlier attempt can be taken up any more. Raises ``Interrupted`` when stopped in time, ``GateStop``
    where a gate of a member failed, ``UserError`` for bad input, ``TrainingFailure`` when a member cannot continue.
    """
    if is_one_of_several():
        raise UserError("this step starts the processes of its members itself: call it without torchrun")
    members = members_of(settings)
    named = _named(resume, members)
    folder = settings.folder
    claim(folder, folder / SETTINGS_FILE, "ensemble", ours=[member.name for member in members])
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / LOCK_FILE, f"{folder}"):
        write_text(folder / SETTINGS_FILE, as_yaml(settings))
        _look_ahead(settings, members)
        if asked_to_resume and not any((member.settings.folder).exists() for member in members):
            log.warning("nothing to resume in %s: starts from the beginning", folder)
        if fresh:
            _start_over(members)
        if renew:
            _renew(settings, members, clock)
        for name in left_over(folder, members):
            log.warning("%s is no member any more; it stays where it is", folder / name)
        if begun is not None:
            begun()
        summaries = _make(settings, members, clock, named)
        _write_members(folder, members, summaries)
        clock.check()
        summary = _finish(settings, members, summaries, assemble_members(settings, members, clock))
        # Also those of an attempt to start over that was interrupted.
        for former in (path for member in members for path in _formers(member)):
            shutil.rmtree(former, ignore_errors=True)
        return summary


def _named(resume: Path | None, members: Sequence[MemberRun]) -> dict[str, Path]:
    """The member that a checkpoint belongs to, by name."""
    if resume is None:
        return {}
    for member in members:
        if resume.resolve().is_relative_to(member.settings.checkpoint_folder.resolve()):
            return {member.name: resume}
    known = ", ".join(str(member.settings.checkpoint_folder) for member in members)
    raise UserError(f"{resume}: is not a checkpoint of a member; these have theirs in {known}")


def start_over(settings: EnsembleTrainingSettings) -> None:
    """Move away what the members have, so that the next call makes them anew."""
    _start_over(members_of(settings))


def _renew(settings: EnsembleTrainingSettings, members: Sequence[MemberRun], clock: Clock) -> None:
    """Start those members over that were made of something else, as far as that was noted, and note it for all."""
    data = pin(settings.data, clock).fingerprint
    for member in members:
        made_of = {"settings": decided(member.settings, Decides.RESULT), "data": data}
        work = Work(settings.folder / f"{member.name}.json", made_of)
        if work.done() is not None:
            continue
        if work.marker.is_file():
            # The member goes before the note, so that a kill in between cannot leave old results under a new one.
            _start_over([member])
        work.finish()


def _start_over(members: Sequence[MemberRun]) -> None:
    """Move away what the members have, until they are made anew."""
    for member in members:
        for folder in (member.settings.folder, member.settings.checkpoint_folder):
            set_aside(folder)
        for mirror in mirrors_of(member.settings):
            # Else it would bring the former member's checkpoints back.
            mirror.clear()
            mirror.finish(MIRROR_SECONDS)


def _formers(member: MemberRun) -> list[Path]:
    return [former_of(folder) for folder in (member.settings.folder, member.settings.checkpoint_folder)]


def _make(
    settings: EnsembleTrainingSettings, members: Sequence[MemberRun], clock: Clock, resume: Mapping[str, Path]
) -> dict[str, RunSummary]:
    """The run of each member, in order. Where several are made at once, they are done by the time they come here."""
    devices = places(settings)
    if len(devices) > 1:
        make_at_once(members, devices, settings.folder, clock, dict(resume))
        resume = {}
    found = {}
    for number, member in enumerate(members, 1):
        # A member takes hours: not one is begun after a stop.
        clock.check()
        role = member.named.role
        print(
            f"member {number} of {len(members)}: {member.name} ({role.title}; weights by "
            f"{member.settings.training.best_metric})",
            file=sys.stderr,
            flush=True,
        )
        done = run_gated(member.settings, clock, resume.get(member.name))
        if done.exit_status:
            raise GateStop(
                f"the member {member.name}: gates failed: {'; '.join(done.failed)}. The report: {done.report}"
            )
        found[member.name] = done
    return found


def _write_members(folder: Path, members: Sequence[MemberRun], summaries: Mapping[str, RunSummary]) -> None:
    """``members.json``, with paths from its folder."""
    content = [_described(folder, member, summaries[member.name]) for member in members]
    write_json(folder / MEMBERS_FILE, {"format": 1, "members": content})


def _described(folder: Path, member: MemberRun, done: RunSummary) -> Plain:
    weights = done.folder / "best.safetensors"
    training = member.settings.training
    return {
        "name": member.name,
        "architecture": member.named.architecture,
        "role": member.named.role.name,
        "best_metric": training.best_metric,
        "seed": training.seed,
        "image_size": member.settings.image_size,
        "weights": weights.relative_to(folder).as_posix(),
        "sha256": hash_file(weights),
        "epochs": done.epochs,
        "best_epoch": done.best_epoch,
        "split": done.split,
        "metrics": done.metrics,
        "verdict": done.verdict,
        "report": done.report.relative_to(folder).as_posix(),
    }


def _finish(
    settings: EnsembleTrainingSettings,
    members: Sequence[MemberRun],
    summaries: Mapping[str, RunSummary],
    assembled: Assembled | None,
) -> EnsembleSummary:
    """The profile of the members that the ensemble has, and what the energy gate says of it."""
    kept = [member for member in members if assembled is None or member.name in assembled.kept]
    profile = _profile(settings, kept)
    verdict = _judged(settings, profile, assembled.adds if assembled is not None else {})
    content = {"profile": profile.to_json() if profile is not None else None, "energy": verdict.to_json()}
    write_json(settings.folder / DEPLOYMENT_FILE, content)
    return EnsembleSummary(settings.folder, summaries, assembled, profile, verdict)


def _profile(settings: EnsembleTrainingSettings, members: Sequence[MemberRun]) -> Profile | None:
    if settings.deployment.device is None:
        return None
    architectures = {member.name: member.named.architecture for member in members}
    return profile_of(settings.deployment, architectures, settings.image_size)


def _judged(settings: EnsembleTrainingSettings, profile: Profile | None, contributions: Mapping[str, float]) -> Verdict:
    plan = _plan(settings)
    gate = plan.gate(ENERGY)
    if gate is not None and profile is None:
        return gate.off("no device is named (deployment.device)")
    return plan.judge(ENERGY, EnergyEvidence(profile, contributions) if profile is not None else None)


def _plan(settings: EnsembleTrainingSettings) -> GatePlan:
    return load_gates(settings.gates, given=gates_in(settings.gate, Places()))


def _look_ahead(settings: EnsembleTrainingSettings, members: Sequence[MemberRun]) -> None:
    """Find before hours of training what would end them in vain. What the energy gate will say is only told: it needs
    nothing of what is trained, but which members the ensemble keeps is not known yet."""
    refuse_data_without(read_dataset(settings.data), settings)
    verdict = _judged(settings, _profile(settings, members), {})
    if verdict.answer in ("fail", "warn"):
        log.warning("gate %s, once the members are trained: %s, %s", ENERGY, verdict.answer, verdict.why)


def left_over(folder: Path, members: Sequence[MemberRun]) -> list[str]:
    """Folders of members that are no longer in the list."""
    known = {*(member.name for member in members), PROCESSES}
    return sorted(path.parent.name for path in folder.glob("*/run.json") if path.parent.name not in known)
