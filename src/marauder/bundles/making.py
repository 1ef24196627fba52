"""One model's bundle for a board: graphs by precision, each checked as the board will check its engine, and packed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path

import numpy as np
import onnx
import torch

from marauder.bundles.archive import write_archive
from marauder.bundles.boards import find_board
from marauder.bundles.contents import bundle_files
from marauder.bundles.device import runner, selftest
from marauder.bundles.fixtures import (
    Fixture,
    describe_rules,
    description_of,
    diverse_pictures,
    make_fixtures,
    reference_predictor,
)
from marauder.bundles.half_precision import to_half
from marauder.bundles.limits import LIMITS, PRECISIONS
from marauder.bundles.operators import check_operators
from marauder.bundles.parser_table import parser_table, stands_for_others, table_for
from marauder.bundles.quantising import quantise
from marauder.bundles.settings import EngineSettings
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.file_identity import identify
from marauder.core.files import hash_file, write_json
from marauder.core.plain import Plain
from marauder.core.work import Work
from marauder.data.reading import read_dataset
from marauder.exporting.base import GraphOptions
from marauder.exporting.inputs import make_batches
from marauder.prediction.predictor import Predictor
from marauder.tasks.detection.evaluate_split import evaluate_split

log = logging.getLogger("marauder")
CANDIDATES = 4
"""Times as many pictures are looked at for fixtures as are taken: a picture without animals tests little."""
STATE, REPORT = "bundle_state.json", "bundle_report.json"


@dataclass(frozen=True)
class BundleResult:
    """A bundle, or why there is none. ``report``: what was checked, in plain values (``bundle_report.json``).
    ``built``: words on the engine that was built of it on this machine."""

    name: str
    archive: Path | None
    report: Plain
    problems: tuple[str, ...] = ()
    built: str = ""

    @property
    def passed(self) -> bool:
        """The bundle holds every precision that was asked for."""
        return not self.problems


class BundleMaking:
    """Makes the bundle of ``source``, whose checked ONNX file is ``graph``; done work is not done again."""

    def __init__(self, source: Path, graph: Path, settings: EngineSettings, clock: Clock) -> None:
        assert settings.target is not None
        self.source, self.graph, self.settings, self.clock = source, graph, settings, clock
        self.board = find_board(settings.target)
        self.folder = graph.parent / self.board.name
        self.name = graph.parent.name

    def run(self) -> BundleResult:
        """The bundle. Raises ``UserError``, ``Interrupted``."""
        work = Work(self.folder / STATE, self._made_from())
        done = work.done()
        if done is not None and not self.settings.fresh:
            return self._result(done)
        work.begin()
        report = self._make()
        files = [self.folder / one for one in report["files"]]
        write_json(self.folder / REPORT, report)
        work.finish([*files, self.folder / REPORT], report)
        return self._result(report)

    def _made_from(self) -> Plain:
        settings = self.settings
        said = description_of(self.source)
        names = ("jetpack", "precision", "split", "fixture_count")
        # By what is in them: folders may be moved, and get other pictures.
        folders = (settings.pictures, settings.calibration_data)
        return {
            "graph": hash_file(self.graph),
            "folder": None if said is None else said.to_json(),
            "board": self.board.name,
            "data": None if settings.data is None else _labels(settings.data, settings.split),
            "pictures": [None if one is None else identify(one, with_content=True).content for one in folders],
            "settings": {name: str(getattr(settings, name)) for name in names},
            "quantisation": settings.quantisation.model_dump(),
            "packages": {name: packages.version(name) for name in ("marauder", "onnx", "onnxruntime")},
        }

    def _result(self, report: Plain) -> BundleResult:
        archive = self.folder / report["archive"] if report["archive"] else None
        return BundleResult(self.name, archive, report, tuple(report["problems"]))

    def _make(self) -> Plain:
        predictor = reference_predictor(self.graph, self.source)
        fixtures, scales, chosen = self._pictures(predictor)
        graphs = self._graphs(predictor, scales)
        report: Plain = {
            "name": self.name,
            "board": self.board.title,
            "tensorrt": list(self.board.versions(self.settings.jetpack)),
            "pictures": chosen,
            "animals_in_fixtures": sum(len(one.animals) for one in fixtures),
            "precisions": {},
            "remarks": self._remarks(fixtures),
            "problems": [],
        }
        measured = self._measure(graphs)
        good = {}
        for precision, path in graphs.items():
            self.clock.check()
            entry, problems = self._judge(precision, path, predictor, fixtures, measured)
            report["precisions"][precision] = entry
            report["problems"] += [f"{precision}: {one}" for one in problems]
            if not problems:
                good[precision] = path
        report["archive"] = None
        if "fp32" in good:
            target = self.folder / f"{self.name}_{self.board.name}.tar.gz"
            files = bundle_files(self.name, hash_file(self.source), predictor, good, fixtures)
            report["sha256"] = write_archive(target, f"{self.name}_{self.board.name}", files)
            report["archive"], report["megabytes"] = target.name, round(target.stat().st_size / 1e6, 1)
        report["files"] = [path.name for path in (*graphs.values(),) if path.parent == self.folder]
        report["files"] += [report["archive"]] if report["archive"] else []
        return report

    def _pictures(self, predictor: Predictor) -> tuple[list[Fixture], list[np.ndarray], Plain]:
        """Fixtures, pictures that set scales, and where both are from. No picture is both where there are enough."""
        settings = self.settings
        count, wanted = settings.fixture_count, settings.quantisation.picture_count
        quantised = "int8" in settings.precisions
        folder = settings.pictures or settings.calibration_data
        assert folder is not None
        both = settings.calibration_data in (None, folder)
        pictures, names, aside = diverse_pictures(folder, CANDIDATES * count + (wanted if quantised and both else 0))
        taken = _liveliest(predictor, pictures[: CANDIDATES * count], count)
        fixtures = [pictures[at] for at in taken]
        scales = [picture for at, picture in enumerate(pictures) if at not in taken][:wanted]
        chosen: Plain = {
            "fixtures": [names[at] for at in taken],
            "fixtures_from": str(folder),
            "set_aside": aside,
        }
        if quantised:
            assert settings.calibration_data is not None
            if not both:
                scales, names, more = diverse_pictures(settings.calibration_data, wanted)
                chosen["set_aside"] = [*aside, *more]
            if len(scales) < 8:
                raise UserError(
                    f"{settings.calibration_data}: {len(scales)} pictures beside those of the fixtures are too few to "
                    "set the scales of int8; give at least 8"
                )
            chosen |= {"scales": len(scales), "scales_from": str(settings.calibration_data)}
        return make_fixtures(predictor, fixtures), scales, chosen

    def _graphs(self, predictor: Predictor, scales: list[np.ndarray]) -> dict[str, Path]:
        assert predictor.accepts.size is not None
        height, width = predictor.accepts.size
        found: dict[str, Path] = {}
        for precision in PRECISIONS:
            if precision not in self.settings.precisions:
                continue
            self.clock.check()
            path = self.graph if precision == "fp32" else self.folder / f"model_{precision}.onnx"
            if precision == "int8":
                log.info("%s: scales for int8 from %d pictures", self.name, len(scales))
                batches = make_batches(scales, GraphOptions(height, width), predictor.stride)
                quantise(self.graph, path, batches, self.settings.quantisation.method)
            elif precision == "fp16":
                to_half(self.graph, path)
            found[precision] = path
        return found

    def _judge(
        self, precision: str, path: Path, predictor: Predictor, fixtures: list[Fixture], measured: dict[str, Plain]
    ) -> tuple[Plain, list[str]]:
        """What was found of one graph, and why it must not go into the bundle."""
        graph = onnx.load(path)
        tables = dict.fromkeys(table_for(one) for one in self.board.versions(self.settings.jetpack))
        findings = [str(one) for table in tables for one in check_operators(graph, parser_table(table))]
        bundle = {
            "input": list(predictor.accepts.size or ()),
            "names": list(predictor.names),
            "rules": describe_rules(predictor),
        }
        detector = runner.Detector(runner.open_engine(str(path)), bundle)
        verdict = selftest.test_engine(detector, [as_loaded(one) for one in fixtures], LIMITS[precision])
        problems = [*findings[:5], *([f"and {len(findings) - 5} more"] if len(findings) > 5 else [])]
        problems += verdict["reasons"]
        entry: Plain = {"parser_findings": len(findings), "figures": verdict["figures"], **measured.get(precision, {})}
        lost = entry.get("lost_map50_95")
        if precision == "int8" and lost is not None and lost > self.settings.quantisation.largest_loss:
            problems.append(
                f"costs {lost:.3f} mAP50-95 (limit {self.settings.quantisation.largest_loss:g}); more pictures in "
                "calibration_data, or fp16"
            )
        return {**entry, "problems": problems}, problems

    def _measure(self, graphs: dict[str, Path]) -> dict[str, Plain]:
        """Average precision of each graph on the labelled pictures, where there are some."""
        if self.settings.data is None:
            return {}
        dataset = read_dataset(self.settings.data)
        found: dict[str, Plain] = {}
        for precision in reversed(graphs):
            result = evaluate_split(
                graphs[precision], dataset, self.settings.split, torch.device("cpu"), self.clock, masks=_no_slices
            ).result
            whole = result.overall
            found[precision] = {"map50": float(whole.map50), "map50_95": float(whole.map50_95)}
            found[precision]["lost_map50_95"] = found["fp32"]["map50_95"] - found[precision]["map50_95"]
        return found

    def _remarks(self, fixtures: list[Fixture]) -> list[str]:
        remarks = []
        other = stands_for_others(self.board.versions(self.settings.jetpack))
        if other:
            table = table_for(other[-1])
            remarks.append(f"no table of TensorRT {', '.join(other)} is published: that of {table} stands for it")
        said = description_of(self.source)
        if said is not None and said.views is not None and len(said.views) > 1:
            remarks.append(f"a board looks once: the views {', '.join(said.views)} and their gain are left out")
        animals = sum(len(one.animals) for one in fixtures)
        if animals < 10:
            remarks.append(
                f"the detector finds {animals} animals in the pictures of the fixtures: the self-test shows little; "
                "give pictures with more"
            )
        return remarks


def _liveliest(predictor: Predictor, pictures: list[np.ndarray], count: int) -> list[int]:
    """The places of the ``count`` pictures in which most animals are found, in order; earlier ones where equal."""
    animals = [len(predictor.predict([picture])[0]) for picture in pictures]
    return sorted(sorted(range(len(pictures)), key=lambda at: -animals[at])[:count])


def as_loaded(fixture: Fixture) -> Plain:
    """A fixture as the board loads it: the picture blue first."""
    return {
        "name": fixture.name,
        "picture": np.ascontiguousarray(fixture.picture[:, :, ::-1]),
        "canvas": fixture.canvas,
        "raw": fixture.raw,
        "animals": list(fixture.animals),
    }


def _labels(data: Path, split: str) -> list[list[object]]:
    """What is measured on: each picture with its boxes."""
    return [
        [record.key, hash_file(record.picture), record.boxes.round(4).tolist(), record.classes.tolist()]
        for record in read_dataset(data).split(split)
    ]


def _no_slices(_records: object, _names: object) -> tuple[()]:
    return ()
