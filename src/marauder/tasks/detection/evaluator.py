"""The detector's evaluator: predictions by process, then mAP, classes, slices and calibration from one matching."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import torch

from marauder.data.pictures import PictureStore
from marauder.data.records import Detections, Record
from marauder.data.slices.mask import SliceMask
from marauder.evaluation.critical_metrics import TIER_METRICS, tier_metrics
from marauder.evaluation.curves import LEAST_CONFIDENCE
from marauder.evaluation.evaluate import evaluate
from marauder.evaluation.floor_metrics import metrics_at_floors
from marauder.models.ultralytics_adapter import DetectionModel
from marauder.prediction.detector import DetectorPredictor, evaluating
from marauder.prediction.records import Prediction, detect
from marauder.prediction.settings import PredictionSettings
from marauder.runs.task_runtime import Evaluator
from marauder.tasks.detection.settings import EPOCH_METRICS, FLOOR_METRICS

log = logging.getLogger("marauder")


class DetectionEvaluator(Evaluator):
    """Evaluates a detector on ``records``. ``book(records, names)`` gives the slices of the records that were readable;
    ``None``: the whole only. With ``critical`` classes it measures ``evaluation.critical_metrics`` too. The
    operating point is ``least_confidence`` at least. ``floors``: of precision and of recall, for
    ``evaluation.floor_metrics``."""

    def __init__(
        self,
        records: Sequence[Record],
        names: tuple[str, ...],
        store: PictureStore,
        inference: PredictionSettings,
        book: Callable[[Sequence[Record], tuple[str, ...]], Sequence[SliceMask]] | None = None,
        critical: tuple[str, ...] = (),
        others_floor: float | None = None,
        least_confidence: float = LEAST_CONFIDENCE,
        floors: tuple[float, float] = (0.5, 0.5),
    ) -> None:
        self.records, self.names, self.store, self.inference, self.book = records, names, store, inference, book
        self.floors = floors
        self.set_aside: set[str] = set()
        # Names are fixed before training, since one of them may be ``best_metric``.
        slices = [mask.name for mask in book(records, names)] if book is not None else []
        self.critical, self.others_floor, self.least_confidence = critical, others_floor, least_confidence
        tiers = TIER_METRICS if critical else ()
        self.metric_names = (*EPOCH_METRICS, *FLOOR_METRICS, *tiers, *(f"slice/{name}/map50" for name in slices))

    def predict(
        self, model: torch.nn.Module, rank: int, size: int, should_stop: Callable[[], bool]
    ) -> list[Prediction] | None:
        """This rank's share of the pictures."""
        assert isinstance(model, DetectionModel)
        predictor = DetectorPredictor.of_model(model, self.names, self.store.long_side)
        # In turns: neighbours in the list are frames of one clip, alike in size and cost.
        indices = range(rank, len(self.records), size)
        with evaluating(model):
            return detect(predictor, self.records, self.store, indices, self.inference, should_stop)

    def score(self, shares: list[list[Prediction]]) -> dict[str, float]:
        """``metric_names`` (0 where undefined), ``confidence``, and what ``evaluation.epoch`` adds where defined."""
        # All on one rank: average precision cannot be put together from parts.
        predictions = [prediction for share in shares for prediction in share]
        records, detections = pair_up(self.records, predictions, self.set_aside)
        masks = self.book(records, self.names) if self.book is not None else None
        result = evaluate(records, detections, self.names, masks, least_confidence=self.least_confidence)
        # Where precision, recall and F1 were counted goes into the weights: it is the model's operating point.
        values = {name: getattr(result.overall, name) for name in (*EPOCH_METRICS, "confidence")}
        values |= metrics_at_floors(result.matches, *self.floors)
        if masks is not None:
            from marauder.evaluation.epoch import epoch_metrics

            values |= epoch_metrics(result)
        if self.critical:
            values |= tier_metrics(result.overall, self.critical, self.others_floor)
        # 0 for what must be there, nothing for the rest: NaN is neither better nor worse than any number.
        finite = {name: float(value) for name, value in values.items() if not math.isnan(value)}
        return {**{name: finite.get(name, 0.0) for name in self.metric_names}, **finite}


def pair_up(
    records: Sequence[Record], predictions: Sequence[Prediction], set_aside: set[str]
) -> tuple[list[Record], list[Detections]]:
    """Records and their detections in the order of the records; unreadable pictures are reported once and left out."""
    kept: list[Record] = []
    detections: list[Detections] = []
    # Back into the order of the records, so that no number depends on how many ranks there were.
    for prediction in sorted(predictions, key=lambda prediction: prediction.index):
        if prediction.detections is None:
            # Every epoch meets the same broken file.
            if prediction.set_aside and prediction.set_aside not in set_aside:
                log.warning("set aside: %s", prediction.set_aside)
                set_aside.add(prediction.set_aside)
            continue
        kept.append(records[prediction.index])
        detections.append(prediction.detections)
    return kept, detections
