"""How good a delivery is: agreement of the two annotators, disagreement with the model, and which boxes look wrong.

The two annotators label the overlap independently: the second package goes out without pre-labels. The model's boxes
are those of ``settings.model``, run again here, else the pre-labels that went out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from marauder.annotation.agreement import Agreement, View, agree, pair_boxes
from marauder.annotation.batch import Batch, BatchItem
from marauder.annotation.checking import Taken
from marauder.annotation.settings import AnnotationSettings, QualitySettings
from marauder.annotation.suspects import KINDS, Suspect, find_suspects, ranked_pictures
from marauder.core.clock import Clock
from marauder.core.files import to_plain
from marauder.core.plain import Plain
from marauder.data.records import Detections, Record

LOWEST_CONFIDENCE = 0.05
"""Scores below say nothing about labels."""
LEAST_FOUND_BY_BOTH = 0.8
"""Share of objects that both annotators found; a lower one is reported."""
UNTOUCHED_IOU = 0.995
"""A box that overlaps a pre-label this well was left as it was suggested."""


@dataclass(frozen=True, eq=False)
class Quality:
    """``overlap``: the two annotators (``None`` without pictures that both answered); ``model``: answers against the
    model's boxes (``None`` without any); ``untouched``: share of pre-labels left exactly as suggested (NaN without
    any); ``suspects``: most suspect first; ``source``: where the model's boxes come from, in words; ``warnings``: in
    words."""

    overlap: Agreement | None
    model: Agreement | None
    untouched: float
    suspects: tuple[Suspect, ...]
    source: str
    warnings: tuple[str, ...]

    def to_json(self, names: Sequence[str]) -> Plain:
        """All of it as what JSON knows; suspects with class names."""
        content: Plain = to_plain(
            {
                "format": 1,
                "annotators": _agreement_json(self.overlap),
                "model": _agreement_json(self.model),
                "prelabels_left_untouched": self.untouched,
                "boxes_of_the_model": self.source,
                "warnings": self.warnings,
                "suspects_by_kind": {kind: sum(one.kind == kind for one in self.suspects) for kind in KINDS},
                "pictures": ranked_pictures(self.suspects),
                "suspects": [suspect_json(one, names) for one in self.suspects],
            }
        )
        return content


def judge_quality(
    batch: Batch,
    answers: Mapping[str, Taken],
    detections: Mapping[str, Detections] | None,
    settings: QualitySettings,
    source: str = "",
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Quality:
    """Judge ``answers`` (by file name in the package; both packages).

    ``detections``: the model's boxes by record key, ``None`` for the pre-labels of the batch. ``groups``: group of each
    record key, drawn whole for the intervals (default: each picture its own).
    """
    groups = groups or {}
    prelabels = {item.key: _prelabels(item) for item in batch.items}
    boxes = detections if detections is not None else prelabels
    first = {item.key: _view(answers[item.file]) for item in batch.items if item.file in answers}
    second = {item.key: _view(answers[item.second_file]) for item in batch.items if item.second_file in answers}

    def compare(one: Mapping[str, View], other: Mapping[str, View]) -> Agreement | None:
        keys = [item.key for item in batch.items if item.key in one and item.key in other]
        if not keys:
            return None
        return agree(
            keys,
            [one[key] for key in keys],
            [other[key] for key in keys],
            len(batch.names),
            settings.match_iou,
            settings.well_located_iou,
            [groups.get(key, key) for key in keys],
            seed,
        )

    overlap = compare(first, second)
    # The first annotator's answer where both gave one, as the merge takes it.
    seen = second | first
    keys = [item.key for item in batch.items if item.key in seen and item.key in boxes]
    known = any(len(boxes[key]) for key in keys)
    # Agreement is measured against what the model would show; the search for suspects needs its faint boxes, too.
    sure = {key: boxes[key].above(settings.sure_confidence) for key in keys}
    model = compare(seen, {key: View(one.boxes, one.classes) for key, one in sure.items()}) if known else None
    suspects = find_suspects(
        keys,
        [seen[key] for key in keys],
        [boxes[key] for key in keys],
        settings.match_iou,
        settings.well_located_iou,
        settings.sure_confidence,
    )
    untouched = _untouched(first, prelabels)
    if not known:
        source = "none: no model was given and no pre-labels went out, so that no box can be suspected"
    return Quality(overlap, model, untouched, tuple(suspects), source, _warnings(overlap, untouched, settings))


def model_boxes(
    settings: AnnotationSettings, batch: Batch, folder: Path, clock: Clock
) -> tuple[dict[str, Detections] | None, str]:
    """(boxes by record key, where they come from in words); ``None`` where the batch's pre-labels are to be used.

    ``settings.model`` looks at every picture of the batch; what it found is kept in ``folder``.
    Raises ``Interrupted``, and ``UserError`` for a file that is no detector or has other classes.
    """
    if settings.model is None:
        return None, "the pre-labels that went out with the pictures"
    from marauder.annotation.prelabels import prelabel
    from marauder.models.naming import weights_hash

    # Under the name of the weights' hash: what another model said before is not taken for this one's.
    journal = folder / f"predictions-{weights_hash(settings.model)[:16]}.jsonl"
    records = [Record(item.key, item.picture, *item.size) for item in batch.items]
    # Lower than for pre-labels: a faint box on a label's place still speaks for the label.
    lower = settings.prelabels.changed({"confidence": LOWEST_CONFIDENCE})
    found = prelabel(settings.model, records, batch.names, lower, journal, clock)
    return found.boxes, f"{settings.model.name}, run again"


def suspect_json(one: Suspect, names: Sequence[str]) -> Plain:
    """One suspect with its classes by name."""
    content = asdict(one)
    content["label_class"] = names[one.label_class] if one.label_class is not None else None
    content["suggested_class"] = names[one.suggested_class]
    return content


def _prelabels(item: BatchItem) -> Detections:
    # ``Detections`` are sorted by score; records of batches keep the order in which boxes went out.
    order = np.argsort(-item.scores, kind="stable")
    return Detections(item.boxes[order], item.scores[order], item.classes[order])


def _view(taken: Taken) -> View:
    # Of a crowd nobody says how many boxes it takes.
    keep = ~taken.ignored
    return View(taken.boxes[keep], taken.classes[keep])


def _untouched(answers: Mapping[str, View], prelabels: Mapping[str, Detections]) -> float:
    """Share of the pre-labels of answered pictures that came back as they went out."""
    sent = kept = 0
    for key, view in answers.items():
        one = prelabels[key]
        # Boxes went out rounded and come back through other tools' decimals: equal means very nearly equal.
        pairing = pair_boxes(view, View(one.boxes, one.classes), UNTOUCHED_IOU)
        sent += len(one)
        kept += int((view.classes[pairing.first] == one.classes[pairing.second]).sum())
    return kept / sent if sent else float("nan")


def _warnings(overlap: Agreement | None, untouched: float, settings: QualitySettings) -> tuple[str, ...]:
    words = []
    if overlap is not None and overlap.mean_iou.value < settings.least_agreement_iou:
        words.append(
            f"the two annotators' boxes overlap by {overlap.mean_iou.value:.2f} on average (at least "
            f"{settings.least_agreement_iou:g}): the guidelines do not say clearly enough where a box ends"
        )
    if overlap is not None and overlap.class_kappa.value < settings.least_kappa:
        words.append(
            f"of objects that both found, the two annotators agree on the class with kappa "
            f"{overlap.class_kappa.value:.2f} (at least {settings.least_kappa:g}): see the table for the classes they "
            "confuse, and say in the guidelines how to tell them apart"
        )
    if overlap is not None and overlap.found_by_both.value < LEAST_FOUND_BY_BOTH:
        words.append(
            f"only {overlap.found_by_both.value:.0%} of objects were found by both annotators (at least "
            f"{LEAST_FOUND_BY_BOTH:.0%}): objects are missed, or the guidelines do not say which are too small to draw"
        )
    # NaN, where no pre-labels went out, compares as false.
    if untouched > 0.98:
        words.append(
            f"{untouched:.0%} of the model's suggestions came back unchanged: they may not have been checked; "
            "compare the second package, which was sent without any"
        )
    return tuple(words)


def _agreement_json(agreement: Agreement | None) -> Plain | None:
    if agreement is None:
        return None
    content = asdict(agreement)
    content["boxes"] = agreement.boxes
    return content
