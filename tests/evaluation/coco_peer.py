"""The peer that the metrics must equal: pycocotools, fed with the same records and detections."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from marauder.data.records import Detections, Record


def _xywh(box: np.ndarray) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


def to_coco(
    records: Sequence[Record], detections: Sequence[Detections], count: int
) -> tuple[dict[str, list], list[dict]]:
    """A COCO data set and a result list; ignored boxes become crowds."""
    annotations, results = [], []
    for number, (record, found) in enumerate(zip(records, detections, strict=True), start=1):
        for box, kind, ignored in zip(record.boxes, record.classes, record.ignored, strict=True):
            shape = _xywh(box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(kind) + 1,
                    "bbox": shape,
                    "area": shape[2] * shape[3],
                    "iscrowd": int(ignored),
                }
            )
        results.extend(
            {"image_id": number, "category_id": int(kind) + 1, "bbox": _xywh(box), "score": float(score)}
            for box, score, kind in zip(found.boxes, found.scores, found.classes, strict=True)
        )
    truth = {
        "images": [
            {"id": number, "width": record.width, "height": record.height}
            for number, record in enumerate(records, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": number + 1, "name": str(number)} for number in range(count)],
    }
    return truth, results


def coco_evaluation(records: Sequence[Record], detections: Sequence[Detections], count: int) -> COCOeval:
    """Run pycocotools silently: ``stats`` are its twelve numbers, ``eval`` its tables."""
    truth, results = to_coco(records, detections, count)
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truth
        known.createIndex()
        if results:
            found = known.loadRes(results)
        else:  # loadRes looks at the first result
            found = COCO()
            found.dataset = {**truth, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(known, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
