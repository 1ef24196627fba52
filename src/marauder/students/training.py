"""A student, trained: its teacher looks at all pictures once, lessons are made of what it found, and it is trained.

One gated run, whose training stage is a series: the lessons, sealed with their hashes, then one part, a plain detection
run with ``teaching.file``. So several processes, changing sizes, focal loss and all else work as in every training.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.files import hash_file, portable_path, read_json, write_json
from marauder.core.plain import Plain
from marauder.core.settings import Decides
from marauder.core.wording import counted
from marauder.core.work import Work
from marauder.data.manifests.pinning import hash_pinned
from marauder.data.reading import read_dataset
from marauder.engine.state import Outcome
from marauder.runs.gated import RunSummary, run_gated
from marauder.runs.series import PartMaker, Series, former_of, judged_as_whole, leave_weights, outcome_of, set_aside
from marauder.runs.training_processes import is_one_of_several
from marauder.runs.training_stage import RunInHand
from marauder.students.deciding import LABELLED, UNLABELLED, Account, Decided, decide, totals
from marauder.students.examples import examples, write_examples
from marauder.students.runtime import StudentRuntime
from marauder.students.settings import NO_TEACHER, REPORT_JSON, REPORT_PAGE, StudentSettings
from marauder.students.teacher import describe, look, open_teacher
from marauder.students.unlabelled import Unlabelled, without_leaks
from marauder.tasks.detection.data import labelled
from marauder.tasks.detection.lessons import LESSONS_FILE, write_lessons
from marauder.tasks.detection.settings import DetectionSettings

log = logging.getLogger("marauder")

PART = "taught"


@dataclass(frozen=True)
class StudentSummary:
    """What a student's run leaves: its summary, the report (``student_report.json``), and the report's page."""

    run: RunSummary
    report: Path
    content: Plain

    @property
    def exit_status(self) -> int:
        """Of the run."""
        return self.run.exit_status


def run_student(
    settings: StudentSettings,
    clock: Clock,
    resume: Path | None = None,
    fresh: bool = False,
    begun: Callable[[], None] | None = None,
    asked_to_resume: bool = False,
    renew: bool = False,
) -> StudentSummary:
    """Let the teacher look and train the student, or go on with it; other arguments as ``runs.gated.run_gated`` has.

    The teacher is opened and compared with the data set's classes before anything else. ``resume``: a checkpoint of the
    training. ``renew``: start over where settings, teacher or pictures have changed, which would otherwise be refused;
    without ``begun``.
    Raises ``Interrupted`` when stopped in time, ``GateStop``, ``UserError``, ``TrainingFailure``.
    """
    if is_one_of_several():
        raise UserError("a student's run starts its training processes itself: call it without torchrun, processes=N")
    if settings.teacher is None:
        raise UserError(f"teacher: {NO_TEACHER}")
    teacher = describe(settings.teacher, read_dataset(settings.data).names)
    if not teacher.calibrated:
        log.warning(
            "%s: its scores are not calibrated, and are taken for what they say; a calibrated teacher teaches better: "
            "marauder calibrate, or marauder ensemble",
            settings.teacher,
        )

    def open_runtime(identified: StudentSettings) -> StudentRuntime:
        return StudentRuntime(identified, teacher)

    if renew:
        note = _note(settings, open_runtime(settings), clock)
        # What the teacher found stays, for it says itself what it was made from.
        fresh = fresh or (note.done() is None and note.marker.is_file())
        # Only once nothing of the former can be taken up: killed before that, it starts over again.
        begun = note.finish
    summary = run_gated(settings, clock, resume, fresh, begun, open_runtime, Taught(), asked_to_resume)
    if renew:
        note.finish()  # of a run that was finished before, too
    for folder in (settings.folder, settings.checkpoint_folder):
        # Also that of an attempt to start over that was interrupted.
        shutil.rmtree(former_of(folder), ignore_errors=True)
    return StudentSummary(summary, summary.folder / REPORT_PAGE, read_json(summary.folder / REPORT_JSON))


def start_student_over(settings: StudentSettings) -> None:
    """Move away what the student has, so that the next call makes it anew."""
    for folder in (settings.folder, settings.checkpoint_folder):
        set_aside(folder)


def _note(settings: StudentSettings, runtime: StudentRuntime, clock: Clock) -> Work:
    """The note beside the run's folder of what it was made of."""
    runtime.clock = clock
    made_of = {"settings": decided(settings, Decides.RESULT), "identity": runtime.open()}
    return Work(settings.folder.parent / f"{settings.folder.name}.json", made_of)


class Taught(Series):
    """The lessons, then one training with them."""

    folder_name = "training"
    leaves = (REPORT_JSON, REPORT_PAGE)

    def make(self, run: RunInHand, parts: PartMaker) -> Outcome:
        """Let the teacher look, then train; the training's weights are the run's."""
        assert isinstance(run.runtime, StudentRuntime)
        settings = run.runtime.settings
        lessons = _Teaching(run.runtime, run).lessons()
        # A training takes hours: it is not begun after a stop.
        run.clock.check()
        start = settings.weights
        made_of = {
            "lessons": hash_file(lessons),
            "data": run.identity,
            "weights": hash_file(start) if start is not None else None,
        }
        gates = run.runtime.description.answerable()
        part = parts.make(PART, part_settings(settings, lessons, gates), made_of)
        outcome = outcome_of([part], part, float(part.best_row[f"val/{settings.training.best_metric}"]))
        leave_weights(part, part, outcome, settings.folder)
        return outcome


def part_settings(settings: StudentSettings, lessons: Path, gates: tuple[str, ...]) -> DetectionSettings:
    """The training as a gated run of its own below the whole's folder. ``gates``: those that a run of this kind can be
    asked, of which it is asked its health only."""
    changes: Plain = {
        "output": settings.folder / Taught.folder_name / PART,
        # Ids end at 63 characters; the suffix must fit.
        "id": f"{(settings.id or settings.folder.name)[:50]}-{PART}",
        "checkpoints": settings.checkpoint_folder / PART,
        **judged_as_whole(gates),
        "teaching": {**settings.teaching.model_dump(), "file": lessons},
    }
    # Without what only the whole knows (teacher, lessons): a plain detection run.
    known = set(DetectionSettings.model_fields) - {"teaching"}
    return DetectionSettings.model_validate(settings.model_dump(include=known)).changed(changes)


@dataclass(frozen=True)
class _Teaching:
    """The lessons of one run in hand, in its folder ``lessons``."""

    runtime: StudentRuntime
    run: RunInHand

    def lessons(self) -> Path:
        """``lessons.json``, made once for the same teacher, pictures and rules."""
        folder = self.runtime.lessons_folder
        rules = decided(self.runtime.settings, Decides.RESULT)["lessons"]
        # Lessons name their pictures: where these lie elsewhere, training would not find them.
        pictures = [portable_path(record.picture, folder) for record in self.runtime.candidates.records]
        made_from = {"made_of": self.run.identity, "rules": rules, "pictures": pictures}
        work = Work(folder / "made.json", made_from)
        if work.done() is None:
            work.begin()
            work.finish(self._make(folder))
        return folder / LESSONS_FILE

    def _make(self, folder: Path) -> list[Path]:
        runtime, clock = self.runtime, self.run.clock
        settings, dataset = runtime.settings, runtime.data.dataset
        assert settings.teacher is not None
        clock.doing = "comparing pictures with those of val and test"
        unlabelled = without_leaks(runtime.candidates, dataset, settings.data, folder / "hashes.jsonl", clock)
        training = labelled(dataset.split("train"))
        hashes = hash_pinned([record.picture for record in training], settings.data, clock)
        contents = [hashes[record.picture] or "" for record in training] + list(unlabelled.contents)
        records = [*training, *unlabelled.records]
        clock.doing = "letting the teacher look"
        teacher = open_teacher(settings.teacher, dataset.names, self.run.device)
        looked = look(teacher, records, folder / "looked", clock, settings.lessons.batch)
        clock.doing = ""
        made = [
            (decide(record, found, settings.lessons), content)
            for record, found, content in zip(records, looked.found, contents, strict=True)
            if found is not None
        ]
        account = Account(dataset.names, settings.lessons.doubt)
        for one, _ in made:
            account.add(one)
        set_aside = {str(records[place].picture): why for place, why in looked.reasons.items()}
        told = self._tell(account, unlabelled, set_aside)
        lessons = [one.lesson(content, settings.lessons.trust) for one, content in made if _says_something(one)]
        write_lessons(folder / LESSONS_FILE, lessons, dataset.names, {"teacher": runtime.teacher.digest})
        write_json(folder / "account.json", told)
        shown = write_examples(folder, examples([one for one, _ in made], settings.training.seed), dataset.names)
        return [folder / LESSONS_FILE, folder / "account.json", *shown]

    def _tell(self, account: Account, unlabelled: Unlabelled, set_aside: dict[str, str]) -> Plain:
        """What the report says of the lessons; in short on the screen."""
        told = account.to_json()
        for kind in (LABELLED, UNLABELLED):
            found = totals(told["boxes"], [kind])
            log.info(
                "%s: the teacher found %s; learned %d, ignored %d, of labels %d",
                counted(told["pictures"][kind], f"{kind} picture"),
                counted(found["given"], "box", "boxes"),
                found["learned"],
                found["ignored"],
                found["labelled"],
            )
        for reason, count in unlabelled.counts().items():
            log.info("left out: %s %s", counted(count, "unlabelled picture"), reason)
        unreadable = {**self.runtime.candidates.problems, **set_aside}
        for path, why in sorted(unreadable.items())[:10]:
            log.warning("set aside: %s", why if path in why else f"{path}: {why}")
        if len(unreadable) > 10:
            log.warning("and %d more; see student_report.json", len(unreadable) - 10)
        left_out = {"left_out": unlabelled.counts(), "left_out_pictures": dict(unlabelled.left_out)}
        return {**told, **left_out, "set_aside": unreadable}


def _says_something(one: Decided) -> bool:
    """Whether a picture has anything to teach: one without labels does, even without a box."""
    return not one.record.labelled or bool(((one.fates == "learned") | (one.fates == "ignored")).any())
