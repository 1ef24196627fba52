"""Detections over pictures and videos as a job: looked at once, counted, drawn, written for other tools; resumable.

    <output>/counts.csv maxn.csv set_aside.csv report.html predictions.json
             boxes.csv boxes.parquet annotated/ viame/ coco/ yolo/ label_studio/ cvat/ frames/     as asked for
             .predict/    what was found so far, and what it was made from

The same files, model and settings give the same bytes, however often the work was stopped or killed. Other formats
asked for later need no second look with the model.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.files import TEMPORARY_SUFFIX, fingerprint, hash_file
from marauder.core.locks import exclusive
from marauder.core.plain import Plain
from marauder.core.settings import Decides
from marauder.core.wording import counted
from marauder.core.work import Work, claim
from marauder.data.media_files import MediaFile, find_media
from marauder.data.video_files import Video, VideoError
from marauder.prediction.folder_description import stands_for
from marauder.prediction.settings import CONFIDENCE
from marauder.reporting.judged import Judged, judged, judged_folder
from marauder.survey.counts import Counts, clips_of, count
from marauder.survey.detecting import FORMAT as DETECTING_FORMAT
from marauder.survey.detecting import Detector, Looking, file_identity, wanted_classes
from marauder.survey.drawing import FORMAT as DRAWING_FORMAT
from marauder.survey.drawing import Drawing
from marauder.survey.finished import Finished, refuse_edited
from marauder.survey.packages import FRAMES_FOLDER, write_packages
from marauder.survey.page import PAGE_FILE, Shown, write_page
from marauder.survey.seen import SeenFolder, Survey
from marauder.survey.settings import ANNOTATED, BOXES, FORMATS, PACKAGES, PARQUET, VIAME, PredictSettings
from marauder.survey.tables import (
    BOXES_FILE,
    COUNTS_FILE,
    MAX_N_FILE,
    PARQUET_FILE,
    SET_ASIDE_FILE,
    write_boxes,
    write_counts,
    write_max_n,
    write_parquet,
    write_set_aside,
)
from marauder.survey.viame import write_viame
from marauder.survey.written import Written

log = logging.getLogger("marauder")
STATE = ".predict"
SUMMARY_FILE = "predictions.json"
FORMAT = 4
"""Raised whenever the same boxes would give other files."""
MOST_SPECIES = 12


class NothingReadableError(UserError):
    """No picture and no frame of all files can be read."""


@dataclass(frozen=True, eq=False)
class PredictSummary:
    """What came out. ``totals``: detections of each class, most first. ``max_n``: clip, species and MaxN, highest
    first. ``set_aside``: file and what is wrong with it, or a part of it. ``already_done``: nothing had to be done.
    ``kept``: formats that only earlier calls asked for. ``threshold``: from which score boxes count; ``doubt``: why the
    model may be of no use, empty where nothing says so."""

    output: Path
    pictures: int
    frames: int
    totals: dict[str, int]
    max_n: tuple[tuple[str, str, int], ...]
    set_aside: tuple[tuple[str, str], ...]
    already_done: bool = False
    kept: tuple[str, ...] = ()
    threshold: str = ""
    doubt: str = ""

    @property
    def page(self) -> Path:
        """The page to look at."""
        return self.output / PAGE_FILE

    def message(self) -> str:
        """What happened, in a few lines."""
        looked = [counted(self.pictures, "picture")] if self.pictures or not self.frames else []
        looked += [counted(self.frames, "frame")] if self.frames else []
        state = "nothing to do, already predicted" if self.already_done else "done"
        lines = [f"{state}: {' and '.join(looked)}, {counted(sum(self.totals.values()), 'detection')}"]
        some = list(self.totals.items())[:MOST_SPECIES]
        if some:
            lines.append(
                ", ".join(f"{name} {boxes:,}" for name, boxes in some) + (" …" if len(self.totals) > 12 else "")
            )
        for clip, species, most in self.max_n[:MOST_SPECIES]:
            lines.append(f"MaxN {most} {species}: {clip}")
        if self.totals and not self.max_n:
            # A table with a heading alone looks like a failure.
            why = "MaxN is counted in clips, and nothing was seen in one: pictures are a clip if their names say so"
            lines.append(f"{MAX_N_FILE} has no rows: {why} (--group-pattern)")
        if self.set_aside:
            first = ": ".join(self.set_aside[0])
            lines.append(f"set aside: {len(self.set_aside):,}, see {SET_ASIDE_FILE}; first: {first}")
        lines += [self.threshold] if self.threshold else []
        lines += [f"doubtful: {self.doubt}"] if self.doubt else []
        if self.kept:
            lines.append(f"kept, since earlier calls requested them: {', '.join(self.kept)} (--fresh drops them)")
        return "\n".join([*lines, f"page: {self.page}"])


def predict_files(
    settings: PredictSettings, clock: Clock | None = None, detector: Detector | None = None
) -> PredictSummary:
    """Look at ``settings.inputs`` with ``settings.model`` and write what was found to ``settings.output``.

    ``detector``: instead of opening the model, which is then read for its checksum alone. Broken pictures, videos and
    frames are set aside. Formats that finished calls with the same model and settings asked for are written too. Raises
    ``Interrupted`` when the clock says stop (the same call goes on), and ``UserError`` for a model that cannot be
    opened, inputs that name nothing, an output folder with other content, or nothing readable; without ``fresh`` also
    where files were edited by hand, or results of other inputs would be replaced.
    """
    clock = clock or Clock()
    output, state = settings.output, settings.output / STATE
    digest = model_digest(settings.model)
    # Before the inputs are looked for: the output may lie among them, and must be ours to be passed over.
    claim(output, output / SUMMARY_FILE, "predictions")
    files = find_media(settings.inputs, output)
    with exclusive(state / "lock", f"the folder {output}"):
        before = Finished.read(state)
        now = Finished.of(output, _key(settings, digest), settings.formats, settings.inputs, files)
        # A folder's digest is that of all files in it, and reports know those of models.
        said = judged_folder(settings.model) if settings.model.is_dir() else judged(settings.model, digest)
        work = _work(settings, digest, files, said)
        kept: tuple[str, ...] = ()
        if not settings.fresh:
            refuse_edited(output, before.sealed if before else work.sealed())
            if before:
                before.refuse_other_inputs(output, now)
                kept = before.formats_to_keep(now)
                formats = tuple(name for name in FORMATS if name in (*settings.formats, *kept))
                settings, now = settings.changed({"formats": formats}), replace(now, formats=formats)
                work = _work(settings, digest, files, said)
            if (known := work.done()) and Written(output, state).all_there():
                return replace(_told_before(output, known), kept=kept)
        # A model that cannot be opened, or does not know the classes, leaves all as it was.
        detector = detector or _open(settings)
        wanted_classes(settings, detector.names)
        if settings.fresh:
            # Under the lock: another process may be reading them.
            SeenFolder(state / "seen").forget(set())
        untouched = not state.joinpath("seen").exists() and not work.marker.exists()
        work.begin()
        if before:
            before.give_way(state, None if settings.fresh else now)
        try:
            told = _told(settings, detector, said)
            return replace(_predict(settings, files, digest, work, now, detector, told, clock), kept=kept)
        except NothingReadableError:
            if untouched:
                work.marker.unlink()
                shutil.rmtree(state / "seen")
            raise


def _key(settings: PredictSettings, digest: str) -> str:
    """Of the model and all settings but the formats."""
    deciding = decided(settings, Decides.RESULT, by_content=False) | {"model": digest}
    return fingerprint({name: value for name, value in deciding.items() if name != "formats"})


def _work(settings: PredictSettings, digest: str, files: Sequence[MediaFile], said: Judged | None) -> Work:
    # The digest stands for the model: ``by_content`` would hash it a second time.
    deciding = decided(settings, Decides.RESULT, by_content=False) | {"model": digest}
    versions = [FORMAT, DETECTING_FORMAT, DRAWING_FORMAT]
    stamps = [file_identity(media) for media in files]
    page = [settings.model.name, [said.confidence, said.doubt] if said is not None else None]
    return Work(settings.output / SUMMARY_FILE, [versions, page, deciding, stamps])


def model_digest(model: Path) -> str:
    """SHA-256 of a model file, or of names and contents of a folder's files, hidden ones left out, which are no part of
    the model, be it named by the file that stands for it. Raises ``UserError`` where there is none."""
    model = stands_for(model)
    if model.is_dir():
        files = sorted(
            path
            for path in model.rglob("*")
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(model).parts)
        )
        return fingerprint([[path.relative_to(model).as_posix(), hash_file(path)] for path in files])
    if not model.is_file():
        raise UserError(f"{model}: no such model; check the path after --model")
    return hash_file(model)


def _predict(
    settings: PredictSettings,
    files: Sequence[MediaFile],
    digest: str,
    work: Work,
    now: Finished,
    detector: Detector,
    words: dict[str, str],
    clock: Clock,
) -> PredictSummary:
    output, state = settings.output, settings.output / STATE
    # The lock is held, so nobody else's are among them.
    for leftover in output.rglob(f".*{TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)
    stored = SeenFolder(state / "seen")
    looking = Looking.of(settings, detector, digest, stored, clock)
    survey = Survey(stored, looking.at_all(files), tuple(detector.names))
    problems = survey.problems()
    clip_of = clips_of(files, settings.group_pattern)
    counts = count(survey, clip_of, frozenset(media.key for media in files if media.video))
    if not counts.pictures + counts.frames:
        # Before anything is written: an empty report would look like an empty sea.
        key, problem = problems[0]
        raise NothingReadableError(f"nothing can be read in {counted(len(files), 'file')}; first: {key}: {problem}")
    shown = Shown.of(counts, settings.page_pictures)
    written = Written(output, state)
    packages = [name for name in PACKAGES if name in settings.formats]
    # Small pictures for the page, too, so that the page is chosen before anything is drawn.
    drawn = Drawing(
        output,
        state,
        survey.names,
        settings.sampling,
        annotated=ANNOTATED in settings.formats,
        frames=bool(packages),
        small=shown.places(),
        written=written,
    )
    drawn.draw_all(survey, files, clock)
    _write_tables(settings, survey, counts, clip_of, problems, written)
    if VIAME in settings.formats:
        write_viame(output, survey, files, _rates(files), written)
    write_packages(output, packages, survey, files, clock, written)
    told = {"model": settings.model.name, "beside": _beside(settings), **words}
    written.announce([output / PAGE_FILE])
    write_page(output, state, counts, shown, survey.names, problems, told)
    summary = _summary(output, counts, survey.names, problems, words)
    # Before the summary says "done": what is left from other settings would pass for a result of these.
    written.forget_others()
    about = {"model": {"file": settings.model.name, "sha256": digest, "names": survey.names}, **_plain(summary)}
    # Before the work counts as finished: from then on people may edit the files.
    now.with_sealed(output, written.current).write(state)
    # Links lead to the user's own pictures, which are not ours to seal.
    work.finish(sorted(path for path in written.current if not path.is_symlink()), about)
    # Last: until the work is finished, a kill may need them.
    stored.forget({stored.path(part, number) for part, many in survey.parts for number in range(many)})
    drawn.forget_others()
    return summary


def _open(settings: PredictSettings) -> Detector:
    from marauder.prediction.opening import open_predictor

    predictor = open_predictor(settings.model, device=settings.device, image_size=settings.image_size, fuse=True)
    size = predictor.input_size(settings.image_size)
    if settings.image_size not in (None, size):
        words = "--imgsz %d: rounded up to %d pixels, a multiple of the model's stride of %d"
        log.warning(words, settings.image_size, size, predictor.stride)
    return predictor


def _rates(files: Sequence[MediaFile]) -> dict[str, float]:
    """Frames a second of each video that can be opened, by key."""
    rates = {}
    for media in files:
        if media.video:
            # Its problem has been reported.
            with suppress(VideoError), Video(media.path) as video:
                rates[media.key] = video.rate
    return rates


def _write_tables(
    settings: PredictSettings,
    survey: Survey,
    counts: Counts,
    clip_of: dict[str, str],
    problems: list[tuple[str, str]],
    written: Written,
) -> None:
    output = settings.output
    names = [COUNTS_FILE, MAX_N_FILE, SET_ASIDE_FILE]
    names += [file for name, file in ((BOXES, BOXES_FILE), (PARQUET, PARQUET_FILE)) if name in settings.formats]
    written.announce(output / name for name in names)
    write_counts(output, survey, clip_of)
    write_max_n(output, counts, survey.names)
    write_set_aside(output, problems)
    if BOXES in settings.formats:
        write_boxes(output, survey, clip_of)
    if PARQUET in settings.formats:
        write_parquet(output, survey, clip_of)


def _told(settings: PredictSettings, detector: Detector, said: Judged | None) -> dict[str, str]:
    """``threshold``, ``doubt``: what to say of the model beside its boxes."""
    threshold, applied = _threshold(settings, detector)
    figures = said.confidence if said is not None else None
    if figures is not None and said is not None and said.calibrated:
        # No --conf: that counts on the calibrated scale.
        threshold += f" The figures in the model's report apply from {figures:.3g} on the scale before calibration."
    elif figures is not None and applied is not None and round(figures, 3) != round(applied, 3):
        threshold += f" The figures in the model's report apply from {figures:.3g}: --conf {figures:.3g}."
    doubt = ""
    if said is not None and said.doubt:
        doubt = f"the model's report does not show that it is of use ({said.doubt}); check what it finds before use"
    return {"threshold": threshold, "doubt": doubt}


def _threshold(settings: PredictSettings, detector: Detector) -> tuple[str, float | None]:
    """From which score boxes count, in words, and as one number where all classes have the same."""
    own = detector.thresholds
    if settings.confidence is not None:
        return f"Detections with a score of at least {settings.confidence:g} are counted.", settings.confidence
    if own is None:
        words = f"Detections with a score of at least {CONFIDENCE:g} are counted; the model names no score of its own."
        return words, CONFIDENCE
    if len(set(own.tolist())) == 1:
        words = "the model's own operating point; --conf sets another."
        return f"Detections with a score of at least {own[0]:.3g} are counted, {words}", float(own[0])
    some = [f"{name} {least:.3g}" for name, least in zip(detector.names, own.tolist(), strict=True)][:MOST_SPECIES]
    more = " …" if len(own) > MOST_SPECIES else ""
    return f"Detections that reach the model's own thresholds are counted: {', '.join(some)}{more}.", None


def _beside(settings: PredictSettings) -> str:
    names = [COUNTS_FILE, MAX_N_FILE, SET_ASIDE_FILE]
    names += [BOXES_FILE] if BOXES in settings.formats else []
    names += [PARQUET_FILE] if PARQUET in settings.formats else []
    names += [f"{name}/" for name in settings.formats if name not in (BOXES, PARQUET)]
    names += [f"{FRAMES_FOLDER}/"] if set(PACKAGES) & set(settings.formats) else []
    return ", ".join(names)


def _summary(
    output: Path, counts: Counts, names: Sequence[str], problems: list[tuple[str, str]], words: dict[str, str]
) -> PredictSummary:
    totals = {names[index]: int(counts.totals[index]) for index in counts.species}
    found = [
        (clip.clip, names[index], clip.max_n(index).most)
        for clip in counts.clips
        for index in counts.species
        if clip.counts[:, index].any()
    ]
    return PredictSummary(
        output,
        counts.pictures,
        counts.frames,
        dict(sorted(totals.items(), key=lambda item: (-item[1], item[0]))),
        tuple(sorted(found, key=lambda one: (-one[2], one[0], one[1]))),
        tuple(problems),
        threshold=words["threshold"],
        doubt=words["doubt"],
    )


def _plain(summary: PredictSummary) -> Plain:
    return {
        "pictures": summary.pictures,
        "frames": summary.frames,
        "totals": summary.totals,
        "max_n": [list(row) for row in summary.max_n],
        "set_aside": [list(row) for row in summary.set_aside],
        "threshold": summary.threshold,
        "doubt": summary.doubt,
    }


def _told_before(output: Path, about: Plain) -> PredictSummary:
    rows = {name: tuple(tuple(row) for row in about[name]) for name in ("max_n", "set_aside")}
    words = {name: about[name] for name in ("threshold", "doubt")}
    known = (about["pictures"], about["frames"], about["totals"], rows["max_n"], rows["set_aside"])
    return PredictSummary(output, *known, already_done=True, **words)
