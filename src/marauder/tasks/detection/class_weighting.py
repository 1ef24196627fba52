"""What a detection run puts weight on: critical classes by name, draws of records by factors, what is pasted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from marauder.core.errors import UserError
from marauder.core.mistakes import MistakesError
from marauder.core.settings import Places
from marauder.data.bagging import Bag, draw_bag
from marauder.data.balancing import Resampling, balance_factors
from marauder.data.boxes import iou_matrix
from marauder.data.pictures import UnreadablePictureError, decode_picture
from marauder.data.records import Record
from marauder.data.taxonomy import Taxonomy
from marauder.mining.hard_negatives import BACKGROUND, FOREGROUND, HardNegative
from marauder.mining.hard_negatives_file import read_negatives
from marauder.tasks.detection.checking import unknown_classes
from marauder.tasks.detection.loss_settings import FLOORED
from marauder.tasks.detection.pasting import UNLABELLED, Negative, PastePlan
from marauder.tasks.detection.settings import DetectionSettings

log = logging.getLogger("marauder")


def critical_classes(settings: DetectionSettings, names: Sequence[str]) -> tuple[str, ...]:
    """The critical classes of a run, in the order of ``names``; none where the taxonomy's tier has none of them.

    Raises ``UserError`` for a name, in ``critical`` or the focal loss's weights, that is no class.
    """
    # A mistyped name would otherwise do nothing, in silence.
    unknown = list(unknown_classes(settings, names, Places()))
    if unknown:
        raise MistakesError(unknown)
    if settings.critical:
        chosen = set(settings.critical)
    else:
        taxonomy = Taxonomy.load()
        found = {name: taxonomy.match(name) for name in names}
        chosen = {name for name, entry in found.items() if entry is not None and entry.tier == "critical"}
    return tuple(name for name in names if name in chosen)


def check_emphasis(
    settings: DetectionSettings, critical: Sequence[str], validation: Sequence[Record], names: Sequence[str]
) -> None:
    """Refuse what cannot have an effect: a metric or pasting of critical classes that there are not."""
    needing = {
        f"training.best_metric={FLOORED}": settings.training.best_metric == FLOORED,
        "copy_paste.probability": settings.copy_paste.probability > 0,
    }
    asked = [name for name, wanted in needing.items() if wanted]
    if asked and not critical:
        raise UserError(
            f"{asked[0]} needs critical classes, and none of {', '.join(names)} is in the taxonomy's tier critical; "
            "name them: critical=[...]"
        )
    if needing[f"training.best_metric={FLOORED}"]:
        shown = {names[number] for record in validation for number in record.classes[~record.ignored].tolist()}
        if not shown & set(critical):
            raise UserError(
                f"the split val shows none of the critical classes {', '.join(critical)}: the best weights could not "
                "be chosen; split the data again with `marauder data organize`"
            )


def check_critical_boxes(critical: Sequence[str], training: Sequence[Record], names: Sequence[str]) -> None:
    """Refuse critical classes of which no training picture shows a box: nothing could be learned of them; a single
    one without boxes is warned of."""
    shown = {names[number] for record in training for number in record.classes[~record.ignored].tolist()}
    absent = [name for name in critical if name not in shown]
    if not absent:
        return
    if len(absent) == len(critical):
        raise UserError(
            f"the split train shows no box of the critical classes {', '.join(critical)}: nothing can be learned of "
            "them; label some, or name other classes: --critical NAME,NAME"
        )
    for name in absent:
        log.warning(
            "THE CRITICAL CLASS %s HAS NO BOX IN THE SPLIT TRAIN: nothing will be learned of it; label some, or leave "
            "it out of --critical",
            name,
        )


def bagged(settings: DetectionSettings, records: Sequence[Record], names: Sequence[str]) -> Bag:
    """The training records of a run: all, or those of the groups that its bag holds."""
    bag = draw_bag(records, names, settings.bagging, settings.training.seed)
    if not settings.bagging.is_off:
        log.info("%s", bag.describe())
    return bag


def resampling_of(
    settings: DetectionSettings,
    records: Sequence[Record],
    names: Sequence[str],
    critical: Sequence[str],
    times: np.ndarray | None = None,
) -> tuple[Resampling | None, np.ndarray]:
    """Which record each sample is (``None``: each once), and how often each record is drawn: float64 (N,).

    ``times``: how often each is in the bag, int (N,); default: once.
    """
    indices = [list(names).index(name) for name in critical]
    factors = balance_factors(records, len(names), settings.balance, indices)
    if settings.hard_negatives.file is not None:
        keys = {one.key for one in sampled_negatives(settings)}
        holds = np.array([record.key in keys for record in records], bool)
        # Cut once more: two factors within the limit may multiply beyond it.
        factors = np.minimum(np.where(holds, factors * settings.hard_negatives.repeat, factors), settings.balance.limit)
    if times is not None:
        # Above the limit, which is for emphasis: how often a bag holds a record is chance.
        factors = factors * times
    if (factors == 1.0).all():
        return None, factors
    return Resampling(factors), factors


def sampled_negatives(settings: DetectionSettings) -> list[HardNegative]:
    """The hard negatives that a training uses."""
    return [one for one in read_negatives(settings.hard_negatives.file) if one.sampled]


def paste_plan(
    settings: DetectionSettings,
    records: Sequence[Record],
    names: Sequence[str],
    critical: Sequence[str],
    cut_from: int | None = None,
) -> tuple[PastePlan | None, tuple[Record, ...]]:
    """What is pasted, and the pictures beside ``records`` that it comes from; ``None`` where nothing is.

    ``cut_from``: animals are cut out of so many of ``records``, the first; ``None``: of all.
    """
    # Places, not pictures: they index the stores of decoded pictures, the donors' after the training's.
    animals: dict[int, tuple[int, ...]] = {}
    if settings.copy_paste.probability:
        for number in (list(names).index(name) for name in critical):
            places = tuple(i for i, one in enumerate(records[:cut_from]) if (one.classes[~one.ignored] == number).any())
            if places:
                animals[number] = places
    use = settings.hard_negatives
    negatives, extra = _negatives(settings, records, names) if use.file is not None and use.paste else ((), ())
    plan = PastePlan(
        settings.training.seed,
        animals,
        settings.copy_paste,
        negatives,
        settings.copy_paste.changed({"probability": use.paste, "most": use.most}),
    )
    return (plan, extra) if plan.active else (None, ())


def _negatives(
    settings: DetectionSettings, records: Sequence[Record], names: Sequence[str]
) -> tuple[tuple[Negative, ...], tuple[Record, ...]]:
    places = {record.key: place for place, record in enumerate(records)}
    extra: dict[str, Record] = {}
    found: list[Negative] = []
    for one in sampled_negatives(settings):
        place = places.get(one.key)
        if place is None:
            # A picture of no animals that training itself does not see.
            if one.picture not in extra:
                record = _record_of(one)
                if record is None:
                    continue
                extra[one.picture] = record
            place = len(records) + list(extra).index(one.picture)
        negative = _as_negative(one, place, records[place] if place < len(records) else None, names)
        if negative is not None:
            found.append(negative)
    return tuple(found), tuple(extra.values())


def _as_negative(one: HardNegative, place: int, record: Record | None, names: Sequence[str]) -> Negative | None:
    """The error as something to paste; ``None`` where the labels it was judged by have changed since."""
    box = np.array(one.box, np.float64)
    if not one.true:
        # Labelled since it was mined: it was no error, and pasted unlabelled it would teach the opposite.
        labelled = record is not None and (iou_matrix(box[None], record.boxes) > BACKGROUND).any()
        return None if labelled else Negative(place, box, UNLABELLED)
    if record is None or one.true not in names:
        return None
    number = list(names).index(one.true)
    candidates = np.flatnonzero((record.classes == number) & ~record.ignored)
    shared = iou_matrix(box[None], record.boxes[candidates])[0]
    # The label that it was confused with is gone or was moved away.
    if not len(shared) or shared.max() < FOREGROUND:
        return None
    # The label's own box: the detector's may cut the animal.
    return Negative(place, record.boxes[candidates[int(shared.argmax())]], number)


def _record_of(one: HardNegative) -> Record | None:
    try:
        height, width = decode_picture(Path(one.picture)).shape[:2]
    except UnreadablePictureError as error:
        log.warning("set aside: %s", error)
        return None
    return Record(one.key, Path(one.picture), width, height)
