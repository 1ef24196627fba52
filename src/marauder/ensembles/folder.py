"""The folder of an ensemble: its members, its description, and the proof that it finds what was measured."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from marauder.data.pictures import decode_record
from marauder.ensembles.fitting import Fitted, class_weights_of
from marauder.ensembles.looking import LEAST, Looked
from marauder.ensembles.members import Member, write_member
from marauder.evaluation.likeness import disagreement
from marauder.prediction.ensemble_description import EnsembleDescription, MemberDescription
from marauder.prediction.folder_description import DESCRIPTION_FILE, FolderDescription, write_description
from marauder.prediction.opening import open_predictor
from marauder.prediction.settings import PredictionSettings

CHECKED = 8
"""Pictures on which the written ensemble is compared with what was measured."""
SURE = 0.05
"""Fused score from which boxes are compared."""
AT_LIMITS, MOST_DIFFERENT = 4, 0.02
"""So many boxes, or this share of them, may be at a limit, where rounding decides."""


def write_ensemble(
    folder: Path, members: Sequence[Member], fitted: Fitted, names: Sequence[str], threshold: float
) -> set[Path]:
    """Write the members and, last, what makes an ensemble of them; returns the files.

    ``threshold``: operating point of the fused scores, the same for all classes.
    """
    # Without it, what is there is no predictor: a kill in between leaves no mixture.
    (folder / DESCRIPTION_FILE).unlink(missing_ok=True)
    written: set[Path] = set()
    described = []
    weights = class_weights_of(fitted.recipe.weights, names)
    for member, curve, (weight, by_class) in zip(members, fitted.calibrations, weights, strict=True):
        shutil.rmtree(folder / member.name, ignore_errors=True)
        written |= set(write_member(member, member.own_calibration(curve), folder / member.name))
        described.append(MemberDescription(member.name, weight, by_class))
    recipe = fitted.recipe
    ensemble = EnsembleDescription(tuple(described), recipe.fusion, dict(recipe.options), recipe.least)
    thresholds = dict.fromkeys(names, float(threshold))
    write_description(folder, FolderDescription("", tuple(names), thresholds=thresholds, ensemble=ensemble))
    return written | {folder / DESCRIPTION_FILE}


def check_folder(folder: Path, fitted: Fitted, seen: Looked, device: str) -> None:
    """Open the ensemble and look at some pictures: it must find what was measured. Raises ``RuntimeError`` where it
    does not, which is a fault of this program."""
    places = np.unique(np.linspace(0, len(seen.records) - 1, min(CHECKED, len(seen.records))).round().astype(int))
    some = seen.take(places)
    predictor = open_predictor(folder, device)
    settings = PredictionSettings(confidence=LEAST, multi_label=True)
    found = [one.above(SURE) for one in predictor.predict([decode_record(one) for one in some.records], settings)]
    expected = [one.above(SURE) for one in fitted.fuse(some)]
    boxes = sum(map(len, found)) + sum(map(len, expected))
    differing = disagreement(some.records, expected, found, predictor.names) * boxes if boxes else 0.0
    if differing > max(AT_LIMITS, MOST_DIFFERENT * boxes):
        raise RuntimeError(f"{folder}: finds other boxes than were measured ({differing:.0f} of {boxes} differ)")
