"""Finished parts of a pool's scores on disk: one file a shard, trusted only if it says what it was made from."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.files import fingerprint, write_bytes
from marauder.data.pictures import picture_identity
from marauder.data.records import Record

SHARD = 256
"""Pictures of a shard: what a kill costs at most."""
FORMAT = 4


@dataclass(frozen=True, eq=False)
class Shard:
    """Scores of some pictures. ``indices`` int64 (m,), ``measures`` float32 (m, measures), ``features`` float32 (m, D),
    ``class_counts`` float32 (m, C), ``box_counts`` int64 (m,): candidate boxes; ``set_aside`` by record key."""

    indices: np.ndarray
    measures: np.ndarray
    features: np.ndarray
    class_counts: np.ndarray
    box_counts: np.ndarray
    set_aside: dict[str, str]


def shard_path(folder: Path, number: int) -> Path:
    """Where shard ``number`` lies."""
    return folder / f"scores-{number:05d}.npz"


def shard_identity(made_from: Any, records: Sequence[Record]) -> str:
    """Identity of a shard of ``records`` scored with ``made_from`` (weights, settings, calibration)."""
    return fingerprint([FORMAT, made_from, picture_identity(records)])


def write_shard(path: Path, shard: Shard, identity: str) -> None:
    """Write a shard atomically; the same shard gives the same bytes."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        # In the file and not in its name: a shard of other settings is overwritten instead of left to lie.
        identity=np.array(identity),
        indices=shard.indices,
        measures=shard.measures,
        features=shard.features,
        class_counts=shard.class_counts,
        box_counts=shard.box_counts,
        set_aside=np.array(json.dumps(shard.set_aside)),
    )
    write_bytes(path, buffer.getvalue())


def read_shard(path: Path, identity: str) -> Shard | None:
    """The shard at ``path``; ``None`` where there is none, it is damaged, or was made from something else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["identity"]) != identity:
                return None
            return Shard(
                stored["indices"],
                stored["measures"],
                stored["features"],
                stored["class_counts"],
                stored["box_counts"],
                json.loads(str(stored["set_aside"])),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
