"""Assembling an ensemble as a job: members looked with once, everything else derived from that; resumable.

    <output>/predictor.json <member>/…       the ensemble, a predictor folder
             ensemble_report.json ensemble_report.html card.md
             ensemble.json                   that it is done, with the hashes of all files
             .ensemble/                      what members found, and what was fitted on parts of it

Nothing is decided by the pictures that are measured on.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.clock import Clock
from marauder.core.decides import decided
from marauder.core.errors import UserError, printable
from marauder.core.files import fingerprint, remove_leftovers
from marauder.core.locks import exclusive
from marauder.core.mistakes import Mistake, MistakesError
from marauder.core.plain import Plain
from marauder.core.settings import Decides
from marauder.core.work import Work, claim
from marauder.data.check import told
from marauder.data.pictures import decode_record, picture_identity
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.repair import without_doubtful
from marauder.ensembles.cost import Cost, measure_cost
from marauder.ensembles.fitting import EQUAL, CrossFitted, Fitted, cross_fit, fit, metric_of
from marauder.ensembles.folder import check_folder, write_ensemble
from marauder.ensembles.fusing import alone
from marauder.ensembles.judging import Contributions, Difference, Judge, Measured, contributions, measured
from marauder.ensembles.looking import Looked, look
from marauder.ensembles.members import Member, open_members
from marauder.ensembles.report import AssemblySummary, report_content, write_report
from marauder.ensembles.settings import EnsembleSettings
from marauder.evaluation.metrics import aggregate
from marauder.prediction.opening import open_predictor

log = logging.getLogger("marauder")
STATE, SUMMARY_FILE = ".ensemble", "ensemble.json"
FORMAT = 1
"""Raised whenever the same members, data and settings would give another ensemble or report."""
WHAT = "ensemble"


@dataclass(frozen=True, eq=False)
class _Chosen:
    """What was decided on the pictures for fitting. ``kept``: places of the members that stay; ``fitted``: on all of
    the pictures, of these; ``crossed``: of these, the same by parts; ``gain``: of fitted over equal weights, by parts;
    ``best``: which of ``kept`` is best by itself; ``threshold``: operating point of the fused scores."""

    kept: tuple[int, ...]
    fitted: Fitted
    crossed: CrossFitted
    adds: Contributions
    gain: Difference | None
    best: int
    threshold: float


def assemble(settings: EnsembleSettings, clock: Clock | None = None) -> AssemblySummary:
    """Fuse ``settings.members`` into one predictor folder, ``settings.output``, with a report on what each adds.

    Raises ``UserError`` for members that cannot be opened or do not fit the data set, all in one list, before anything
    is written; ``Interrupted`` when the clock says so, and the same call goes on.
    """
    clock = clock or Clock()
    output = settings.output
    claim(output, output / SUMMARY_FILE, WHAT)
    dataset = _read(settings, clock)
    fitting, measuring = (_labelled(dataset, split) for split in (settings.fit, settings.split))
    _refuse_shared_groups(fitting, measuring, settings)
    members = open_members(settings.members, dataset.names, settings.device, settings.image_size)
    _refuse_members_inside(settings)
    with exclusive(output / ".lock", f"the {WHAT} in {output}"):
        remove_leftovers(output)
        work = Work(output / SUMMARY_FILE, _made_from(settings, members, dataset, fitting, measuring))
        if settings.fresh:
            shutil.rmtree(output / STATE, ignore_errors=True)
        elif (known := work.done()) is not None:
            return AssemblySummary(output, known, already_done=True)
        before = {output / name for name in work.sealed()}
        work.begin()
        assembly = _Assembly(settings, members, dataset.names, clock)
        summary, written = assembly.run(
            fitting, measuring, fingerprint(_fitted_from(settings, members, dataset, fitting))
        )
        _forget(before - written)
        work.finish(sorted(written), summary.report)
        return summary


@dataclass(frozen=True, eq=False)
class _Assembly:
    settings: EnsembleSettings
    members: Sequence[Member]
    names: tuple[str, ...]
    clock: Clock

    def run(
        self, fitting: Sequence[Record], measuring: Sequence[Record], key: str
    ) -> tuple[AssemblySummary, set[Path]]:
        """Do all of it; returns the files that were written, too. ``key``: of all that fits by parts are made from."""
        settings, output = self.settings, self.settings.output
        looked = self._look(fitting, settings.fit)
        seen = self._look(measuring, settings.split)
        chosen = self._choose(looked, key)
        judged = self._measure(seen, chosen)
        kept = [self.members[place] for place in chosen.kept]
        written = write_ensemble(output, kept, chosen.fitted, self.names, chosen.threshold)
        check_folder(output, chosen.fitted, seen.of(chosen.kept), settings.device)
        cost = self._cost(seen.records)
        content = report_content(
            settings,
            self.members,
            self.names,
            chosen.kept,
            chosen.fitted,
            chosen.crossed,
            chosen.adds,
            chosen.gain,
            chosen.threshold,
            judged,
            cost,
            {**looked.set_aside, **seen.set_aside},
        )
        return AssemblySummary(output, content), written | write_report(output, content)

    def _look(self, records: Sequence[Record], split: str) -> Looked:
        folder = self.settings.output / STATE / "looked" / split
        looked = look(self.members, self.names, records, folder, self.clock, self.settings.batch, f"looking at {split}")
        for key, why in looked.set_aside.items():
            log.warning("set aside: %s: %s", key, why)
        if not looked.records:
            raise UserError(f"none of the {len(records)} pictures of the split {split} can be read; check the folder")
        return looked

    def _knows(self) -> np.ndarray:
        return np.stack([member.knows(self.names) for member in self.members])

    def _judge(self, records: Sequence[Record]) -> Judge:
        settings = self.settings
        return Judge(records, self.names, settings.metric, settings.draws, settings.seed)

    def _choose(self, looked: Looked, key: str) -> _Chosen:
        """All that is decided, on the pictures for fitting alone."""
        settings, knows = self.settings, self._knows()
        crossed = cross_fit(looked, knows, self.names, settings, self.clock, settings.output / STATE, key)
        judge = self._judge(looked.records)
        gain = None
        if any(one.weighing != EQUAL for one in crossed.fits):
            equal = crossed.equal()
            gain = judge.difference(judge.matches(crossed.fused()), judge.matches(equal.fused()))
            # Weights that are no better on groups they were not fitted on are noise.
            crossed = crossed if gain.delta > 0 else equal
        weighed = gain is not None and gain.delta > 0
        adds = contributions(crossed, judge, self.clock.check)
        left_out = {place for place, _ in adds.removed} if settings.prune else set()
        kept = tuple(place for place in range(len(self.members)) if place not in left_out)
        of_kept = crossed.of(kept)
        fitted = fit(looked.of(kept), knows[list(kept)], self.names, settings, self.clock, weighed)
        values = [
            metric_of(aggregate(judge.matches(of_kept.alone(place))), settings.metric) for place in range(len(kept))
        ]
        threshold = aggregate(judge.matches(of_kept.fused())).confidence
        return _Chosen(kept, fitted, of_kept, adds, gain, int(np.argmax(values)), threshold)

    def _measure(self, seen: Looked, chosen: _Chosen) -> Measured:
        """What comes of it on the pictures that are measured on."""
        self.clock.check()
        kept, fitted = seen.of(chosen.kept), chosen.fitted
        own = [alone(curve, one) for curve, one in zip(fitted.calibrations, kept.found, strict=True)]
        without = [replace(fitted, recipe=fitted.recipe.without(place)).fuse(kept) for place in range(len(chosen.kept))]
        equal = None
        if fitted.weighing != EQUAL:
            equal = replace(fitted, recipe=fitted.recipe.equal()).fuse(kept)
        return measured(self._judge(kept.records), fitted.fuse(kept), own, without, equal, chosen.best)

    def _cost(self, records: Sequence[Record]) -> Cost | None:
        settings = self.settings
        if settings.cost.is_off:
            return None
        ensemble = open_predictor(settings.output, settings.device)
        some = np.linspace(0, len(records) - 1, min(settings.cost.pictures, len(records))).round().astype(int)
        pictures = [decode_record(records[place]) for place in some]
        members = {member.name: member.predictor for member in self.members}
        return measure_cost(members, ensemble, pictures, settings.cost, self.clock)


def _forget(files: set[Path]) -> None:
    """Delete what earlier work left that is no part of this one: members that no longer take part."""
    for path in sorted(files):
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def _read(settings: EnsembleSettings, clock: Clock) -> Dataset:
    dataset = read_dataset(settings.data, pictures=settings.pictures, clock=clock)
    for line in told(dataset.problems):
        log.warning("%s", printable(line))
    dataset, set_aside = without_doubtful(dataset)
    if set_aside:
        log.warning("%s pictures set aside: their labels say too little to measure on", f"{len(set_aside):,}")
    return dataset


def _labelled(dataset: Dataset, split: str) -> list[Record]:
    records = [record for record in dataset.split(split) if record.labelled]
    if not any(len(record.boxes) for record in records):
        raise UserError(f"{dataset.source or 'data set'}: the split {split} has no labelled boxes; name another one")
    return records


def _refuse_shared_groups(fitting: Sequence[Record], measuring: Sequence[Record], settings: EnsembleSettings) -> None:
    shared = sorted({record.group for record in fitting} & {record.group for record in measuring})
    if shared:
        some = ", ".join(shared[:3])
        raise UserError(
            f"{settings.data}: {len(shared)} groups (clips) have pictures in {settings.fit} and {settings.split} both "
            f"({some}), so that what is fitted on one would be measured on the other; divide the data by clips: "
            "marauder data organize --fractions train=0.7,val=0.15,test=0.15"
        )


def _refuse_members_inside(settings: EnsembleSettings) -> None:
    output = settings.output.absolute()
    inside = [path for path in settings.members if path.absolute().is_relative_to(output)]
    if inside:
        words = f"lies in the folder that is written, {settings.output}; name another --output"
        raise MistakesError([Mistake(f"{path}: {words}") for path in inside])


def _made_from(
    settings: EnsembleSettings,
    members: Sequence[Member],
    dataset: Dataset,
    fitting: Sequence[Record],
    measuring: Sequence[Record],
) -> list[Any]:
    """Equal for equal members, pictures, labels and settings that decide."""
    deciding: Plain = decided(settings, Decides.RESULT, Decides.MEASUREMENT)
    # Members and data count by their content, below, not by where they lie.
    for name in ("members", "data", "pictures"):
        deciding.pop(name, None)
    return [FORMAT, deciding, _fitted_from(settings, members, dataset, fitting), _identity(measuring)]


def _fitted_from(
    settings: EnsembleSettings, members: Sequence[Member], dataset: Dataset, fitting: Sequence[Record]
) -> list[Any]:
    """Equal where fitting on parts gives the same."""
    opened = [[member.name, member.digest, member.predictor.names, member.predictor.image_size] for member in members]
    by = [settings.fusion, settings.options, settings.metric, settings.weights, settings.folds, settings.seed]
    return [FORMAT, by, opened, dataset.names, _identity(fitting)]


def _identity(records: Sequence[Record]) -> list[Any]:
    """Of pictures and labels."""
    labels = [
        [record.group, record.boxes.tolist(), record.classes.tolist(), record.ignored.tolist()] for record in records
    ]
    return [picture_identity(records), fingerprint(labels)]
