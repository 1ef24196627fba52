"""A predictor over the records of a data set: batches of equal shape, decoding ahead, broken pictures set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from marauder.core.clock import Clock, Interrupted
from marauder.core.progress import Progress
from marauder.data.pictures import UnreadablePictureError, decode_record
from marauder.data.records import Detections, Record
from marauder.imaging.letterbox import Letterbox
from marauder.prediction.batching import chunks_of_one_shape, one_chunk_ahead
from marauder.prediction.predictor import Predictor
from marauder.prediction.settings import PredictionSettings

Result = TypeVar("Result")


class Pictures(Protocol):
    """Where the pixels of records come from, such as ``data.pictures.PictureStore``."""

    def get(self, index: int) -> np.ndarray:
        """The picture of record ``index``, uint8 (H, W, 3), red first, as it is or scaled for the input.

        Raises ``UnreadablePictureError``. Called from several threads.
        """


class DecodedPictures:
    """Pictures of records, decoded at every use."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    def get(self, index: int) -> np.ndarray:
        """See ``Pictures.get``."""
        return decode_record(self.records[index])


@dataclass(frozen=True)
class Prediction:
    """What one record gave: detections, or why its picture could not be used."""

    index: int
    detections: Detections | None
    set_aside: str | None = None


Work = Callable[[Sequence[np.ndarray], Sequence[Letterbox], Sequence[int]], Sequence[Result]]
"""What is done with a batch: letterboxed pictures uint8 (H, W, 3) of one shape, where each lies in its input, their
indices; a result for each."""


def over_records(
    predictor: Predictor,
    records: Sequence[Record],
    pictures: Pictures,
    indices: Sequence[int],
    settings: PredictionSettings,
    work: Work[Result],
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
    frame: Callable[[int, int, int | None], Letterbox] | None = None,
) -> dict[int, Result | UnreadablePictureError] | None:
    """The result of ``work`` for each of ``indices``, or why its picture could not be used. ``frame``: how pictures are
    fitted; default: letterboxed.

    Batches hold ``settings.batch`` pictures (default: ``best_batch``) of equal shape and depend on nothing but the
    records. ``None`` when ``should_stop``, asked before each batch, said so.
    """
    fit = frame or predictor.letterbox
    frames = {index: fit(records[index].width, records[index].height, settings.image_size) for index in indices}

    def fitted(index: int) -> np.ndarray | UnreadablePictureError:
        try:
            return frames[index].apply(pictures.get(index))
        except UnreadablePictureError as error:
            # Returned, not raised: read from its thread, an error would end the work on all pictures.
            return error

    chunks = chunks_of_one_shape(indices, lambda index: frames[index].shape, settings.batch or predictor.best_batch)
    found: dict[int, Result | UnreadablePictureError] = {}
    for chunk, inputs in zip(chunks, one_chunk_ahead(chunks, fitted), strict=True):
        if should_stop():
            return None
        broken = {index: one for index, one in zip(chunk, inputs, strict=True) if isinstance(one, Exception)}
        readable = {index: one for index, one in zip(chunk, inputs, strict=True) if not isinstance(one, Exception)}
        found |= broken
        if readable:
            places = [frames[index] for index in readable]
            found |= zip(readable, work(list(readable.values()), places, list(readable)), strict=True)
        if progress is not None:
            progress.advance(len(chunk))
    return found


def detect(
    predictor: Predictor,
    records: Sequence[Record],
    pictures: Pictures,
    indices: Sequence[int],
    settings: PredictionSettings,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> list[Prediction] | None:
    """Predictions for ``records[i]``, i in ``indices``, in the order of ``indices``.

    ``None`` when ``should_stop``, asked before each batch, said so. Raises ``UserError`` for settings that the
    predictor cannot follow.
    """
    rules = predictor.rules(settings)

    def work(inputs: Sequence[np.ndarray], frames: Sequence[Letterbox], _indices: Sequence[int]) -> list[Detections]:
        return predictor.find(inputs, frames, rules)

    frame = predictor.frame
    found = over_records(predictor, records, pictures, indices, settings, work, should_stop, progress, frame)
    return None if found is None else [_prediction(index, found[index]) for index in indices]


def _prediction(index: int, found: Detections | UnreadablePictureError) -> Prediction:
    return Prediction(index, None, str(found)) if isinstance(found, Exception) else Prediction(index, found)


def predict_records(
    predictor: Predictor, records: Sequence[Record], settings: PredictionSettings, clock: Clock | None, label: str
) -> list[Prediction]:
    """Predictions for all ``records``, with progress under ``label``. Raises ``Interrupted`` when the clock says so."""

    def stops() -> bool:
        return clock is not None and clock.stop_reason() is not None

    with Progress(label, len(records)) as progress:
        found = detect(predictor, records, DecodedPictures(records), range(len(records)), settings, stops, progress)
    if found is None:
        raise Interrupted((clock.stop_reason() if clock is not None else None) or f"stopped while {label}")
    return found
