"""Step 3 as a job: read the pool, score it, choose, and write what people and step 4 need. The same command
continues."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.clock import Clock
from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_json, remove_leftovers
from marauder.core.locks import exclusive
from marauder.core.plain import Plain
from marauder.core.randomness import stream
from marauder.core.settings import Decides
from marauder.core.work import Work, claim
from marauder.data.reading import refuse_output_among_pictures
from marauder.data.records import Detections, Record
from marauder.selection.basket import Pool
from marauder.selection.choosing import choose, combined_scores
from marauder.selection.estimate_reliability import expected_boxes, why_distrust
from marauder.selection.features import detector_features, picture_stamp, plain_features, why_alike
from marauder.selection.outputs import (
    MAP,
    PAGE,
    SELECTION,
    SHEET,
    Selected,
    SelectionSummary,
    place_pictures,
    summarise,
    write_selection,
)
from marauder.selection.pool_reading import PoolRecords, read_pool
from marauder.selection.pool_scores import PoolScores
from marauder.selection.price import boxes_of_a_picture, estimate_price
from marauder.selection.settings import MODEL_FREE, SelectionSettings

STATE, WORK = "selection_state.json", "work"
VERSION = 5
"""Raised whenever the same settings choose otherwise, so that finished choices are made again."""
NO_BOXES = (
    "--budget-boxes: nothing says how many boxes a picture holds; name a detector that sees something with --model, or "
    "labelled pictures with --labeled, or give a number of pictures with --num-samples"
)
MOST_CENTRES = 10_000
"""Labelled pictures that count as fixed centres; of more, a random part."""


def select_pictures(settings: SelectionSettings, clock: Clock) -> SelectionSummary:
    """Choose pictures of ``settings.pool`` and write the folder ``settings.output``.

    It holds ``images/``, ``selection.json``, ``contact_sheet.jpg``, ``pool_map.png`` and ``report.html``, and ``work/``
    with scores and features, so that nothing is computed twice. Nothing is done where an earlier run finished with the
    same pictures, models and settings. Raises ``Interrupted`` when the clock says so, ``UserError`` for what the user
    must mend.
    """
    refuse_output_among_pictures(settings.output, settings.pool)
    claim(settings.output, settings.output / STATE, "selection", (WORK,))
    with exclusive(settings.output / ".lock", f"the selection in {settings.output}"):
        remove_leftovers(settings.output)
        if settings.fresh:
            shutil.rmtree(settings.output / WORK, ignore_errors=True)
            (settings.output / STATE).unlink(missing_ok=True)
        models = _model_files(settings)
        records = read_pool(settings, clock)
        work = Work(settings.output / STATE, _made_from(settings, records, models))
        done = _finished(settings.output, work)
        if done is not None:
            return done
        work.begin()
        selected = _choose(settings, records, clock)
        clock.check()
        return _write(selected, work, clock)


def next_command(settings: SelectionSettings) -> str:
    """The command of step 4 that continues from here: the labels join the labelled data set, else the pool."""
    data = settings.labelled or settings.pool
    words = ["marauder", "annotation", "export", "--data", str(data), "--selection", str(settings.output)]
    if settings.models:
        words += ["--model", str(settings.models[0])]
    return shlex.join(words)


def _model_files(settings: SelectionSettings) -> list[Path]:
    """The files behind ``settings.models``. Raises ``UserError`` with what is missing, and without any where one is
    needed."""
    from marauder.exporting.folders import weight_files

    if not settings.models:
        if settings.strategy not in (*MODEL_FREE, "hybrid"):
            raise UserError(
                f"strategy {settings.strategy!r} needs a detector: name one with --model, or choose from "
                f"{', '.join(MODEL_FREE)}"
            )
        return []
    return weight_files(settings.models)


def _made_from(settings: SelectionSettings, records: PoolRecords, models: Sequence[Path]) -> list[Any]:
    """Equal for equal pictures, labels, models and settings that decide."""
    decides = decided(settings, Decides.RESULT)
    # Models count by their content, below, not by where they lie.
    del decides["models"]
    decides["place"] = settings.place  # where pictures lie decides nothing, but links and copies are other files
    labelled = [
        [*picture_stamp(record), record.split, record.group, record.classes.tolist(), record.boxes.round(2).tolist()]
        for record in (*records.centres, *records.validation)
    ]
    pool = [[*picture_stamp(record), record.group, str(sorted(record.attributes.items()))] for record in records.pool]
    return [VERSION, decides, [hash_file(path) for path in models], pool, labelled, records.left_out, records.names]


def _finished(output: Path, work: Work) -> SelectionSummary | None:
    """The summary of an earlier run of the same work whose outputs still stand."""
    summary = work.done()
    # A picture may have been deleted, or its link lead nowhere since.
    if summary is None or not all((output / pick["file"]).is_file() for pick in read_json(output / SELECTION)["picks"]):
        return None
    told = {name: tuple(summary[name]) for name in ("changes", "notes")}
    return SelectionSummary(**{**summary, **told, "output": output, "reused": True})


def _choose(settings: SelectionSettings, records: PoolRecords, clock: Clock) -> Selected:
    work = settings.output / WORK
    notes: list[str] = []
    aside = dict(records.set_aside)
    if settings.models:
        if len(settings.models) > 1 and not settings.use_ensemble:
            notes.append(
                f"only the first model, {settings.models[0]}, was used; with --use-ensemble all "
                f"{len(settings.models)} are, and their disagreement counts"
            )
        pool, candidates, measures, boxes_known = _scored_pool(settings, records, work, clock, notes, aside)
    else:
        pool, candidates = _plain_pool(settings, records, work, clock, notes, aside)
        if not records.names:
            notes.append("annotation needs the names of the classes: give them here, as 'names=[fish,shark]'")
        measures, boxes_known = {}, boxes_of_a_picture(records.centres, settings.price) is not None
    choice = choose(pool, settings)
    boxes = float(pool.boxes[choice.indices()].sum()) if boxes_known else None
    return Selected(
        settings=settings,
        records=candidates,
        names=pool.names or records.names,
        pool=pool,
        picks=choice.picks,
        strategy=choice.strategy,
        measures=measures,
        price=estimate_price(len(choice.picks), boxes, settings.price),
        boxes_known=boxes_known,
        changes=choice.changes,
        notes=(*notes, *(note for note in choice.notes if note not in choice.changes)),
        left_out=records.left_out,
        set_aside=aside,
    )


def _scored_pool(
    settings: SelectionSettings, records: PoolRecords, work: Path, clock: Clock, notes: list[str], aside: dict[str, str]
) -> tuple[Pool, list[Record], dict[str, np.ndarray], bool]:
    """The pool as the detectors see it, and whether anything says how many boxes it holds."""
    # Imported here, since choosing without a detector does not need torch.
    from marauder.models.files import load_detector
    from marauder.selection.scoring import score_pool

    names = records.names or load_detector(settings.models[0]).names
    scored: PoolScores = score_pool(records.pool, settings, names, clock, work / "scores", records.validation)
    aside.update(scored.set_aside)
    notes.extend(scored.notes)
    candidates = [records.pool[int(index)] for index in scored.indices]
    boxes = expected_boxes(scored, (*records.centres, *records.validation), settings, notes)
    if boxes is None and settings.budget_boxes is not None:
        raise UserError(NO_BOXES)
    centres = _centre_records(records.centres, settings, notes)
    seen, by_look = np.ascontiguousarray(scored.features, np.float32), why_alike(scored.features)
    if by_look:
        # Those of the pool were decoded for scoring, so that none of them is missing here.
        seen = plain_features(candidates, clock, work)
        features = plain_features(centres, clock, work) if centres else np.zeros((0, seen.shape[1]), np.float32)
    else:
        features = detector_features(centres, settings.models[0], settings, clock, work)
    readable = np.isfinite(features).all(axis=1) if len(features) else np.zeros(len(centres), bool)
    counts = np.array([np.bincount(r.classes[~r.ignored], minlength=len(names)) for r in centres]).reshape(
        -1, len(names)
    )
    pool = Pool(
        features=seen,
        scores=combined_scores(scored.measures, settings.weights),
        class_counts=scored.class_counts,
        boxes=np.zeros(len(candidates)) if boxes is None else boxes,
        groups=_group_numbers(candidates),
        centres=features[readable].reshape(-1, seen.shape[1]),
        centre_counts=counts[readable],
        names=tuple(names),
        slices=_slices(candidates, settings),
        labelled_share=records.labelled_share,
        doubtful=_any_doubt(scored.measures, settings),
        distrust=why_distrust(scored, settings),
        by_look=by_look,
    )
    return pool, candidates, scored.measures, boxes is not None


def _any_doubt(measures: Mapping[str, np.ndarray], settings: SelectionSettings) -> np.ndarray:
    """Pictures of which some measure that weighs anything is above 0: bool (N,)."""
    values = [found > 0 for name, found in measures.items() if settings.weights.get(name, 1.0) > 0]
    return np.asarray(np.any(values, axis=0))


def _plain_pool(
    settings: SelectionSettings, records: PoolRecords, work: Path, clock: Clock, notes: list[str], aside: dict[str, str]
) -> tuple[Pool, list[Record]]:
    """The pool by how its pictures look, for a start without a detector."""
    if settings.class_quotas:
        raise UserError("class_quotas: only a detector knows where a class may be; name one with --model")
    looks = plain_features(records.pool, clock, work)
    readable = np.isfinite(looks).all(axis=1)
    for record, fine in zip(records.pool, readable, strict=True):
        if not fine:
            aside[record.key] = "no readable picture"
    candidates = [record for record, fine in zip(records.pool, readable, strict=True) if fine]
    if not candidates:
        raise UserError(f"{settings.pool}: no picture of the pool can be read")
    centres = _centre_records(records.centres, settings, notes)
    known = plain_features(centres, clock, work) if centres else np.zeros((0, looks.shape[1]), np.float32)
    known = known[np.isfinite(known).all(axis=1)]
    held = boxes_of_a_picture(records.centres, settings.price)
    if settings.budget_boxes is not None and held is None:
        raise UserError(NO_BOXES)
    pool = Pool(
        features=looks[readable],
        scores=None,
        class_counts=np.zeros((len(candidates), 0)),
        boxes=np.full(len(candidates), held or 0.0),
        groups=_group_numbers(candidates),
        centres=known,
        centre_counts=np.zeros((len(known), 0)),
        slices=_slices(candidates, settings),
        labelled_share=records.labelled_share,
    )
    return pool, candidates


def _centre_records(centres: Sequence[Record], settings: SelectionSettings, notes: list[str]) -> list[Record]:
    if len(centres) <= MOST_CENTRES:
        return list(centres)
    notes.append(f"of {len(centres):,} labelled pictures {MOST_CENTRES:,} drawn at random represent them all")
    chosen = stream(settings.seed, "selection", "centres").permutation(len(centres))[:MOST_CENTRES]
    return [centres[int(index)] for index in np.sort(chosen)]


def _group_numbers(records: Sequence[Record]) -> np.ndarray:
    return np.unique([record.group for record in records], return_inverse=True)[1].reshape(-1)


def _slices(records: Sequence[Record], settings: SelectionSettings) -> dict[str, np.ndarray]:
    """The pictures of each slice with a quota, where the attribute has the value as text; empty ones are left out."""
    found: dict[str, np.ndarray] = {}
    for slice_name in settings.slice_quotas:
        name, _, value = slice_name.partition("=")
        mask = np.array([str(record.attributes.get(name.strip(), "")) == value.strip() for record in records], bool)
        if mask.any():
            found[slice_name] = mask
    return found


def _write(selected: Selected, work: Work, clock: Clock) -> SelectionSummary:
    from marauder.selection.page import write_page
    from marauder.selection.pick_sheet import draw_sheet, shown_ranks
    from marauder.selection.pool_map import draw_map

    settings = selected.settings
    place_pictures(selected)
    shown = [selected.picks[rank - 1].index for ranks in shown_ranks(selected).values() for rank in ranks]
    draw_sheet(selected, _seen(selected, shown), settings.output / SHEET)
    clock.check()
    draw_map(selected.records, selected.pool, selected.picks, settings.map_points, settings.seed, settings.output / MAP)
    clock.check()
    command = next_command(settings)
    write_selection(selected)
    write_page(selected, command)
    summary = summarise(selected, command)
    plain: Plain = {name: value for name, value in asdict(summary).items() if name not in ("output", "reused")}
    # Last: from now on the same command finds the choice made.
    work.finish([settings.output / name for name in (SELECTION, SHEET, MAP, PAGE)], plain)
    return summary


def _seen(selected: Selected, indices: Sequence[int]) -> dict[int, Detections]:
    """What the first detector sees in the pictures of the sheet."""
    if not selected.settings.models:
        return {}
    from marauder.prediction.opening import open_predictor
    from marauder.prediction.records import DecodedPictures, detect
    from marauder.prediction.settings import MEASURING
    from marauder.selection.pick_sheet import SHOWN_CONFIDENCE

    settings = replace(MEASURING, confidence=SHOWN_CONFIDENCE)
    predictor = open_predictor(selected.settings.models[0], selected.settings.device, selected.settings.image_size)
    found = detect(predictor, selected.records, DecodedPictures(selected.records), list(indices), settings) or []
    # The detector may number the same classes in another order.
    columns = np.array([selected.pool.names.index(name) for name in predictor.names], np.int64)
    return {
        one.index: replace(one.detections, classes=columns[one.detections.classes])
        for one in found
        if one.detections is not None
    }
