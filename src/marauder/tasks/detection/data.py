"""The data of a detection run: records, splits, slices, and what they and the starting weights are identified by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import fingerprint, hash_file
from marauder.data.manifests.pinning import hash_pinned
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.repair import without_doubtful
from marauder.data.slices.check import check, refuse_mistakes
from marauder.data.slices.mask import SliceMask
from marauder.data.slices.resolve import SliceBook, automatic_slices, load_slices
from marauder.models.loss_gains import LossGains
from marauder.tasks.detection.checking import measured_split, slices_file
from marauder.tasks.detection.class_weighting import (
    bagged,
    check_emphasis,
    critical_classes,
    paste_plan,
    resampling_of,
)
from marauder.tasks.detection.lessons import mixed, read_lessons, taught
from marauder.tasks.detection.multi_scale import SizePlan
from marauder.tasks.detection.settings import DetectionSettings
from marauder.tasks.detection.training import DetectionPlan

log = logging.getLogger("marauder")


class DetectionData:
    """What a detection run is made of. Raises ``UserError`` where it cannot be trained on."""

    def __init__(self, settings: DetectionSettings) -> None:
        self.settings = settings
        read = read_dataset(settings.data)
        _check_splits(read, settings.data)
        # Their problems stay in the data set, where the contract gate counts them.
        self.dataset, _ = without_doubtful(read)
        self.slices_file = slices_file(settings)
        self.book: SliceBook | None = load_slices(self.slices_file) if self.slices_file is not None else None
        self.split = measured_split(settings, self.dataset)
        # Raises where there is no such split; the result is not needed yet.
        self.dataset.split(self.split)
        self.critical = critical_classes(settings, self.dataset.names)
        check_emphasis(settings, self.critical, labelled(self.dataset.split("val")), self.dataset.names)

    def masks(self, records: Sequence[Record], names: tuple[str, ...]) -> list[SliceMask]:
        """The slices of ``records``: those of slices.yaml, else those that attributes, sizes and classes make."""
        if self.book is None:
            return automatic_slices(records, names)
        return self.book.apply(records, names)

    def check_slices(self) -> None:
        """Tell what is wrong with slices.yaml for these data; raises ``UserError`` for what cannot be meant."""
        if self.book is None:
            return
        findings = check(self.book, self.dataset)
        refuse_mistakes(findings)
        for finding in findings:
            log.warning("%s", finding)

    def plan(self) -> DetectionPlan:
        """What is trained on what."""
        settings, loss = self.settings, self.settings.loss
        # A picture that nobody looked at is no negative.
        names = self.dataset.names
        bag = bagged(settings, labelled(self.dataset.split("train")), names)
        training, trusts, teaching = bag.records, None, settings.teaching
        resampling, factors = resampling_of(settings, training, names, self.critical, bag.times)
        if teaching.file is not None:
            training, trusts = taught(training, read_lessons(teaching.file, names))
            unlabelled = len(training) - len(bag.records)
            resampling = mixed(factors, unlabelled, teaching.unlabelled_share, teaching.epoch_length)
        pasting, donors = paste_plan(settings, training, names, self.critical, cut_from=len(bag.records))
        return DetectionPlan(
            architecture=settings.model,
            names=names,
            training=training,
            validation=labelled(self.dataset.split("val")),
            image_size=settings.image_size,
            seed=settings.training.seed,
            augmentation=settings.augmentation,
            weights=settings.weights,
            backbone=settings.ssl_backbone,
            loss=LossGains(loss.box, loss.cls, loss.dfl),
            focal=loss.focal,
            critical=self.critical,
            others_floor=settings.others_floor,
            least_confidence=settings.evaluation.least_confidence,
            floors=(settings.precision_floor, settings.recall_floor),
            resampling=resampling,
            close_mosaic_epochs=settings.training.close_mosaic_epochs,
            pasting=pasting,
            donors=donors,
            book=self.masks if settings.evaluation.slices_each_epoch else None,
            multi_scale=SizePlan.of(settings.multi_scale, settings.image_size, settings.training.seed),
            trusts=trusts,
        )

    def identity(self, clock: Clock | None = None) -> str:
        """Fingerprint of the data set, its pictures by content, and of the weights that training starts from."""
        hashes = hash_pinned([record.picture for record in self.dataset], self.settings.data, clock)
        records = [
            [
                record.key,
                record.split,
                hashes[record.picture],
                # Rounded: a label file written by another tool must not be other data for its last digit.
                record.boxes.round(4).tolist(),
                record.classes.tolist(),
                record.labelled,
                # Only where there are any, so that data without them keep the identity in older checkpoints.
                *([record.ignored.tolist()] if record.ignored.any() else []),
            ]
            for record in self.dataset
        ]
        starts = [
            # By content: the same weights elsewhere are the same start.
            hash_file(path) if path is not None and path.is_file() else None
            for path in (self.settings.weights, self.settings.ssl_backbone)
        ]
        return fingerprint([self.dataset.names, records, starts])


def labelled(dataset: Dataset) -> tuple[Record, ...]:
    """The records that somebody looked at."""
    return tuple(record for record in dataset if record.labelled)


def _check_splits(dataset: Dataset, path: Path) -> None:
    for problem in dataset.problems[:10]:
        log.warning("%s", problem)
    if len(dataset.problems) > 10:
        log.warning("and %d more; see `marauder data check --input %s`", len(dataset.problems) - 10, path)
    if len(dataset) and not any(record.labelled for record in dataset):
        raise UserError(
            f"{path}: none of its {len(dataset):,} pictures has labels, and a detector needs some; choose what to "
            "label first: ./scripts/run_active_learning.sh (docs/step3_active_learning.md)"
        )
    # Without a box in val no metric could choose the best weights.
    for split in ("train", "val"):
        records = labelled(dataset.split(split))
        if not any(len(record.boxes) for record in records):
            raise UserError(
                f"{path}: the split {split!r} has {len(records)} labelled pictures and not one box; "
                "make splits with `marauder data organize`, and look with `marauder data check`"
            )
