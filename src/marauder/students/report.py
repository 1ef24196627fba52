"""What a student was taught and what came of it: the teacher's boxes and their fates, student beside teacher on the
measured split, sizes and times of both, what to do next; JSON and a page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.files import read_json, write_json, write_text
from marauder.core.plain import Plain
from marauder.core.wording import counted
from marauder.deployment.device_table import device_table
from marauder.deployment.profile import DutyCycle, MemberCost, profile
from marauder.ensembles.cost import ENSEMBLE, Cost
from marauder.evaluation.comparison import SliceDelta, compare
from marauder.pages.rendering import embed_picture, render_page
from marauder.pages.showing import show_signed
from marauder.students.deciding import FATES, LABELLED, UNLABELLED, totals
from marauder.students.examples import sheet_name
from marauder.students.settings import REPORT_JSON, REPORT_PAGE, StudentSettings
from marauder.students.teacher import TeacherIs
from marauder.tasks.detection.evaluate_split import Measured

STUDENT, TEACHER = "student", "teacher"
METRICS = {"map50": "mAP50", "map50_95": "mAP50-95", "precision": "precision", "recall": "recall"}
LEAST_GROUPS, LEAST_BOXES = 8, 30
"""Clips and boxes from which an interval says something (as in ``evaluation.comparison``)."""
WEIGHTS = (".safetensors", ".pt", ".onnx", ".torchscript")


@dataclass(frozen=True, eq=False)
class Compared:
    """A student and its teacher, measured on the same pictures. ``cost``: ``None`` where it was not measured."""

    student: Measured
    teacher: Measured
    teacher_is: TeacherIs
    cost: Cost | None


def write_student_report(settings: StudentSettings, split: str, found: Compared, lessons: Path, clock: Clock) -> Path:
    """Write ``student_report.json`` and ``student_report.html``; returns the page's path. Raises ``Interrupted``.

    ``lessons``: the folder with what the teacher found.
    """
    folder = settings.folder
    content = {
        "format": 1,
        "title": f"{settings.project}: the student and its teacher",
        "split": split,
        "model": settings.model,
        "teacher": _about_teacher(found.teacher_is),
        "rules": settings.lessons.model_dump(exclude={"batch"}),
        "lessons": read_json(lessons / "account.json"),
        "compared": _compared(found, settings.evaluation.draws, clock),
        "sizes": {STUDENT: _size(folder / "best.safetensors"), TEACHER: _size(found.teacher_is.path)},
        "cost": None if found.cost is None else _cost(found.cost),
        "boards": boards(settings.model, settings.image_size, found.teacher_is),
    }
    content["words"] = words_of(content)
    content["next"] = [{"what": what, "command": command} for what, command in _next(settings)]
    write_json(folder / REPORT_JSON, content)
    sheets = [lessons / sheet_name(kind) for kind in (UNLABELLED, LABELLED)]
    page = render_page(
        "students/report.html",
        content=content,
        metrics=METRICS,
        kinds=(LABELLED, UNLABELLED),
        fates=FATES,
        totals={kind: totals(content["lessons"]["boxes"], [kind]) for kind in (LABELLED, UNLABELLED)},
        sheets=[embed_picture(path.read_bytes()) for path in sheets if path.is_file()],
        least=(LEAST_GROUPS, LEAST_BOXES),
    )
    write_text(folder / REPORT_PAGE, page)
    return folder / REPORT_PAGE


def _about_teacher(one: TeacherIs) -> Plain:
    return {
        "path": str(one.path),
        # The end of the path, not all of it: pages are passed on, and most models are called best.pt.
        "name": "/".join(one.path.absolute().parts[-2:]),
        "digest": one.digest,
        "members": len(one.members),
        "architectures": list(one.members),
        "calibrated": one.calibrated,
        "image_size": one.image_size,
    }


def _compared(found: Compared, draws: int, clock: Clock) -> Plain:
    """Student less teacher, paired by picture, with intervals over groups."""
    student, teacher = found.student.result, found.teacher.result
    by_picture = {record.key: place for place, record in enumerate(found.teacher.records)}
    # Both looked at the same files; what one could not read the other could not either.
    assert list(by_picture) == [record.key for record in found.student.records]
    confidences = (student.overall.confidence, teacher.overall.confidence)
    rows = {}
    for metric in METRICS:
        clock.check()
        delta = compare(
            student.matches,
            teacher.matches,
            found.student.records,
            [],
            metric,
            draws=draws,
            least_groups=2,
            least_boxes=1,
            confidences=confidences,
        ).overall
        rows[metric] = _delta(delta)
    first = next(iter(rows.values()))
    return {"pictures": len(found.student.records), "groups": first["groups"], "boxes": first["boxes"], "metrics": rows}


def _delta(one: SliceDelta) -> Plain:
    telling = one.groups >= LEAST_GROUPS and one.boxes >= LEAST_BOXES and one.low == one.low and one.high == one.high
    return {
        STUDENT: one.candidate,
        TEACHER: one.production,
        "delta": one.delta,
        "low": one.low,
        "high": one.high,
        "groups": one.groups,
        "boxes": one.boxes,
        "telling": telling,
        "interval": f"{show_signed(one.low)} to {show_signed(one.high)}" if telling else "too few to say",
    }


def _size(path: Path) -> int:
    """Bytes of the weights in a model's file or folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.suffix in WEIGHTS)


def _cost(cost: Cost) -> Plain:
    times = {STUDENT: cost.timings[STUDENT], TEACHER: cost.timings[ENSEMBLE]}
    return {
        "milliseconds": {name: {"p50": one.p50, "p95": one.p95} for name, one in times.items()},
        "times_faster": times[TEACHER].p50 / times[STUDENT].p50,
        "machine": cost.machine,
        "device": cost.device,
        "rounds": cost.rounds,
        "unsteady": cost.unsteady,
    }


def boards(model: str, image_size: int, teacher: TeacherIs) -> list[Plain]:
    """What a picture takes on the boards of the device table, in milliseconds; ``None``: it does not run there, or
    nothing is known. Published figures and estimates from them; nothing is measured."""
    members = {f"{place}": name or "" for place, name in enumerate(teacher.members)}
    rows = []
    for device in device_table().devices.values():
        ours = profile({STUDENT: model}, device, DutyCycle(), device_table(), image_size).members
        theirs = profile(members, device, DutyCycle(), device_table(), teacher.image_size).members
        rows.append({"board": device.title, STUDENT: _together(ours), TEACHER: _together(theirs)})
    return rows


def _together(members: Sequence[MemberCost]) -> Plain:
    known = [one.milliseconds for one in members if one.milliseconds is not None]
    whole = sum(known) if len(known) == len(members) else None
    return {"milliseconds": whole, "estimated": any(one.estimated for one in members)}


def words_of(content: Plain) -> list[str]:
    """The result in sentences."""
    row, sizes, cost = content["compared"]["metrics"]["map50"], content["sizes"], content["cost"]
    smaller = sizes[TEACHER] / max(sizes[STUDENT], 1)
    faster = f" and takes {1 / cost['times_faster']:.0%} of the time" if cost is not None else ""
    first = (
        f"The student has mAP50 {row[STUDENT]:.3f}, its teacher {row[TEACHER]:.3f} (difference: {row['interval']}); it "
        f"is {1 / smaller:.0%} as large{faster}."
    )
    lessons = content["lessons"]
    of_unlabelled, of_labelled = (totals(lessons["boxes"], [kind]) for kind in (UNLABELLED, LABELLED))
    second = (
        f"It learned {counted(of_unlabelled['learned'], 'box', 'boxes')} of the teacher in "
        f"{counted(lessons['pictures'][UNLABELLED], 'picture')} without labels; {of_unlabelled['ignored']:,} places "
        f"there were ignored, and {of_labelled['ignored']:,} in labelled pictures."
    )
    found = [first, second]
    if left_out := sum(lessons["left_out"].values()):
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in lessons["left_out"].items())
        found.append(f"{counted(left_out, 'picture')} without labels had to be left out: {reasons}.")
    if not content["teacher"]["calibrated"]:
        found.append("The teacher's scores are not calibrated: how far its boxes were trusted is what it says itself.")
    if not lessons["pictures"][UNLABELLED]:
        found.append("There were no pictures without labels: name some with --unlabelled.")
    return found


def _next(settings: StudentSettings) -> Sequence[tuple[str, str]]:
    """What to do next, and the command for it."""
    best, folder = settings.folder / "best.safetensors", settings.folder
    quoted, data = shlex.quote(str(best)), shlex.quote(str(settings.data))
    calibrated, exported = shlex.quote(str(folder / "calibrated")), shlex.quote(str(folder / "exported"))
    return (
        (
            "calibrate the student's scores, so that a threshold means the same on every board",
            f"marauder calibrate --models {quoted} --data {data} --output {calibrated}",
        ),
        ("write the files that a board runs", f"marauder export --models {quoted} --output {exported}"),
    )
