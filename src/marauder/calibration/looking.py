"""What a detector sees in each view of labelled pictures, kept in shards: a view is looked at once, whatever is made of
it afterwards, and a kill costs one shard."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from marauder.core.clock import Clock, Interrupted
from marauder.core.files import fingerprint, write_bytes
from marauder.core.progress import Progress
from marauder.data.pictures import picture_identity
from marauder.data.records import Detections, Record
from marauder.imaging.letterbox import Letterbox
from marauder.prediction.picture_views import look_in_views, whole
from marauder.prediction.predictor import Predictor
from marauder.prediction.records import DecodedPictures, over_records
from marauder.prediction.settings import MEASURING
from marauder.prediction.view_names import PictureView

SHARD = 64
FORMAT = 1
"""Raised whenever the same model and pictures would give other boxes."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What one view showed: ``detections`` of each record with the model's own scores, ``None`` for a picture that
    cannot be read, which ``set_aside`` explains by key. ``seconds``: of looking, decoding left out."""

    detections: tuple[Detections | None, ...]
    set_aside: dict[str, str]
    seconds: float


def look_at(
    predictor: Predictor, view: PictureView, records: Sequence[Record], folder: Path, batch: int | None, clock: Clock
) -> Seen:
    """Look at ``records`` in one view, or take up what is in ``folder``. Raises ``Interrupted``."""
    parts = []
    with Progress(f"looking: {view.name}", len(records)) as progress:
        for number, start in enumerate(range(0, len(records), SHARD)):
            part = records[start : start + SHARD]
            path = folder / f"{view.name}-{number:04d}.npz"
            made_from = [FORMAT, predictor.digest, predictor.names, predictor.image_size, view.name]
            identity = fingerprint([made_from, MEASURING.iou, picture_identity(part)])
            found = _read(path, identity, len(part))
            if found is None:
                found = _look(predictor, view, part, batch, clock, progress)
                _write(path, identity, found)
            else:
                progress.already_done += len(part)
                progress.advance(len(part))
            parts.append(found)
    return Seen(
        tuple(one for part in parts for one in part.detections),
        {key: why for part in parts for key, why in part.set_aside.items()},
        sum(part.seconds for part in parts),
    )


def _look(
    predictor: Predictor,
    view: PictureView,
    records: Sequence[Record],
    batch: int | None,
    clock: Clock,
    progress: Progress,
) -> Seen:
    settings = replace(MEASURING, batch=batch)
    rules, seconds = predictor.rules(settings), 0.0

    def work(pictures: Sequence[np.ndarray], _frames: Sequence[Letterbox], _indices: Sequence[int]) -> list[Detections]:
        nonlocal seconds
        started = time.perf_counter()
        seen = look_in_views((view,), pictures, predictor, rules)
        seconds += time.perf_counter() - started
        return [views[0] for views in seen]

    found = over_records(
        predictor,
        records,
        DecodedPictures(records),
        range(len(records)),
        settings,
        work,
        lambda: clock.stop_reason() is not None,
        progress,
        lambda width, height, _size: whole(width, height),
    )
    if found is None:
        raise Interrupted(clock.stop_reason() or "stopped while looking at pictures")
    told = {place: str(one) for place, one in found.items() if isinstance(one, Exception)}
    detections = tuple(one if isinstance(one, Detections) else None for _, one in sorted(found.items()))
    return Seen(detections, {records[place].key: why for place, why in told.items()}, seconds)


def _write(path: Path, identity: str, seen: Seen) -> None:
    known = [one for one in seen.detections if one is not None]
    joined = {
        name: np.concatenate([getattr(one, name) for one in known]) if known else np.zeros(0)
        for name in ("boxes", "scores", "classes")
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        identity=np.array(identity),
        counts=np.array([-1 if one is None else len(one) for one in seen.detections], np.int64),
        set_aside=np.array(json.dumps(seen.set_aside)),
        seconds=np.array(seen.seconds),
        boxes=joined["boxes"],
        scores=joined["scores"],
        classes=joined["classes"],
    )
    write_bytes(path, buffer.getvalue())


def _read(path: Path, identity: str, records: int) -> Seen | None:
    """The shard at ``path``; ``None`` where there is none, it is damaged, or was made from something else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["identity"]) != identity or len(stored["counts"]) != records:
                return None
            counts = stored["counts"]
            ends = np.cumsum(np.maximum(counts, 0))
            boxes, scores, classes = (stored[name] for name in ("boxes", "scores", "classes"))
            detections = tuple(
                None
                if count < 0
                else Detections(boxes[end - count : end], scores[end - count : end], classes[end - count : end])
                for count, end in zip(counts.tolist(), ends.tolist(), strict=True)
            )
            return Seen(detections, json.loads(str(stored["set_aside"])), float(stored["seconds"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
