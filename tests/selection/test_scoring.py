"""Scoring a pool of real pictures: the same numbers however they are cut, stopped or killed, one decoding a picture."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from marauder.core.clock import Clock, Interrupted
from marauder.core.decides import names as setting_names
from marauder.core.errors import UserError
from marauder.core.plugins import make, names
from marauder.core.settings import Decides
from marauder.data.pictures import decode_picture
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.writers import write_yolo
from marauder.models import ultralytics_adapter
from marauder.models.files import save_detector
from marauder.models.ultralytics_adapter import DetectionModel
from marauder.prediction import candidates
from marauder.prediction.embeddings import embed
from marauder.prediction.opening import open_predictor
from marauder.prediction.records import DecodedPictures, detect
from marauder.prediction.settings import MEASURING
from marauder.prediction.views import VIEWS, find_views
from marauder.selection import scoring
from marauder.selection.pool_scores import PoolScores
from marauder.selection.scoring import DECISIVE, score_pool
from marauder.selection.settings import SelectionSettings
from marauder.testing.lively_detectors import lively_detector

NAMES = ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray")
ALL = tuple(names("uncertainty"))
COUNT, SIZE = 20, 96


@pytest.fixture(scope="module", autouse=True)
def few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def records(shared_data: Path) -> list[Record]:
    whole = list(read_dataset(shared_data / "aquarium", names=NAMES).records)
    return [replace(record, labelled=False) for record in whole[::25][:COUNT]]


@pytest.fixture(scope="module")
def detectors(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("detectors")
    inputs = [cv2.resize(decode_picture(record.picture), (SIZE, 64)) for record in records[:8]]
    batch = np.stack(inputs).transpose(0, 3, 1, 2).astype(np.float32) / 255
    made: dict[str, Path] = {}
    for name, architecture, size in (("first", "yolov8t", SIZE), ("second", "yolo11t", 128)):
        save_detector(lively_detector(architecture, NAMES, batch, seed=len(made)), folder / name, size, {})
        made[name] = folder / f"{name}.safetensors"
    return made


def settings_of(detectors: dict[str, Path], *chosen: str, **values: object) -> SelectionSettings:
    content = {
        "pool": "unused",
        "models": tuple(detectors[name] for name in chosen or ("first",)),
        "measures": ALL,
        "calibration": "off",
        "class_difficulty": "off",
        "dropout_passes": 3,
        "device": "cpu",
        **values,
    }
    return SelectionSettings.model_validate(content)


def same(first: PoolScores, second: PoolScores, tolerance: float = 0.0) -> bool:
    pairs = [(first.measures[name], second.measures[name]) for name in first.measures]
    pairs += [(first.features, second.features), (first.class_counts, second.class_counts)]
    return np.array_equal(first.indices, second.indices) and all(
        np.allclose(one, other, rtol=tolerance, atol=tolerance) for one, other in pairs
    )


@pytest.fixture(scope="module")
def scored(records: list[Record], detectors: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> PoolScores:
    return score_pool(records, settings_of(detectors), NAMES, Clock(), tmp_path_factory.mktemp("scored"), [])


def test_every_picture_has_every_number(scored: PoolScores, records: list[Record], detectors: dict[str, Path]) -> None:
    assert scored.indices.tolist() == list(range(COUNT))
    assert tuple(scored.measures) == ALL
    for name, values in scored.measures.items():
        assert values.dtype == np.float32 and values.shape == (COUNT,)
        assert 0 <= values.min() < values.max() <= make("uncertainty", name).upper_limit(len(NAMES), 3)
        assert len(np.unique(values)) > COUNT // 2
    assert scored.class_counts.shape == (COUNT, len(NAMES))
    assert np.all(scored.class_counts >= 0)
    assert scored.estimated_boxes == pytest.approx(scored.class_counts.sum(axis=1))
    assert np.linalg.norm(scored.features, axis=1) == pytest.approx(np.ones(COUNT), abs=1e-5)
    predictor = open_predictor(detectors["first"], "cpu")
    embeddings = embed(predictor, records, DecodedPictures(records), range(COUNT))
    assert embeddings is not None
    assert np.allclose(scored.features, embeddings, atol=1e-4)


def test_batches_and_neighbours_do_not_matter(
    scored: PoolScores, records: list[Record], detectors: dict[str, Path], tmp_path: Path
) -> None:
    for batch in (1, 7):
        again = score_pool(records, settings_of(detectors, batch=batch), NAMES, Clock(), tmp_path / str(batch), [])
        assert same(scored, again, 2e-4)
    part = score_pool(records[::-3], settings_of(detectors), NAMES, Clock(), tmp_path / "part", [])
    for name in ALL:
        assert np.allclose(part.measures[name], scored.measures[name][::-3], atol=2e-4)


def test_an_ensemble_looks_once_with_each_model_and_decodes_once(
    records: list[Record], detectors: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[Path] = Counter()

    def counting(path: Path) -> np.ndarray:
        decoded[path] += 1
        return decode_picture(path)

    looks: Counter[str] = Counter()
    run_to_head = candidates.run_to_head

    def looking(model: DetectionModel, images: torch.Tensor) -> object:
        looks[str(model.marauder_architecture)] += len(images)
        return run_to_head(model, images)

    monkeypatch.setattr(candidates, "decode_picture", counting)
    monkeypatch.setattr(candidates, "run_to_head", looking)
    settings = settings_of(detectors, "first", "second", use_ensemble=True, measures=("variation_ratio", "entropy"))
    found = score_pool(records, settings, NAMES, Clock(), tmp_path / "both", [])
    assert set(decoded.values()) == {1} and len(decoded) == COUNT
    assert looks == {"yolov8t": COUNT, "yolo11t": COUNT}
    assert {"mutual_information", "predictive_entropy"} < set(found.measures)
    assert found.measures["mutual_information"].max() > 0.01
    assert any("2 models" in note for note in found.notes)
    turned = settings_of(detectors, "second", "first", use_ensemble=True, measures=("variation_ratio", "entropy"))
    other = score_pool(records, turned, NAMES, Clock(), tmp_path / "turned", [])
    for name in found.measures:
        assert np.allclose(found.measures[name], other.measures[name], atol=2e-4)


def test_one_model_twice_is_of_one_mind(records: list[Record], detectors: dict[str, Path], tmp_path: Path) -> None:
    twin = tmp_path / "twin.safetensors"
    twin.write_bytes(detectors["first"].read_bytes())
    settings = settings_of({**detectors, "twin": twin}, "first", "twin", use_ensemble=True)
    found = score_pool(records[:6], settings, NAMES, Clock(), tmp_path, [])
    assert np.allclose(found.measures["mutual_information"], 0, atol=1e-6)
    assert np.allclose(found.measures["variation_ratio"], 0, atol=1e-6)
    alone = score_pool(records[:6], settings_of(detectors), NAMES, Clock(), tmp_path / "alone", [])
    assert np.median(found.measures["entropy"] / alone.measures["entropy"]) == pytest.approx(1, abs=0.2)


def test_class_names_decide_not_their_order(
    scored: PoolScores, records: list[Record], detectors: dict[str, Path], tmp_path: Path
) -> None:
    order = [3, 1, 0, 2, 6, 5, 4]
    turned = [NAMES[place] for place in order]
    found = score_pool(records, settings_of(detectors), turned, Clock(), tmp_path / "turned", [])
    assert np.allclose(found.class_counts, scored.class_counts[:, order], atol=1e-5)
    assert np.allclose(found.measures["entropy"], scored.measures["entropy"], atol=1e-5)
    with pytest.raises(UserError, match=r"first\.safetensors.*lacks whale.*has stingray besides"):
        score_pool(records, settings_of(detectors), [*NAMES[:-1], "whale"], Clock(), tmp_path, [])
    other = tmp_path / "other"
    save_detector(ultralytics_adapter.build_detector("yolov8t", ("fish", "whale")), other, SIZE, {})
    models = settings_of(detectors).model_copy(
        update={"models": (detectors["first"], other.with_suffix(".safetensors")), "use_ensemble": True}
    )
    with pytest.raises(UserError, match=r"other\.safetensors.*not those of .*first"):
        score_pool(records, models, (), Clock(), tmp_path, [])
    with pytest.raises(UserError, match="needs a detector"):
        score_pool(records, models.model_copy(update={"models": ()}), (), Clock(), tmp_path, [])


def test_bad_pictures_are_set_aside(
    scored: PoolScores, records: list[Record], detectors: dict[str, Path], tmp_path: Path
) -> None:
    broken, missing = tmp_path / "broken.jpg", tmp_path / "missing.jpg"
    broken.write_bytes(records[0].picture.read_bytes()[:200])
    pool = [Record("broken", broken, 10, 10), *records[:3], Record("missing", missing, 10, 10)]
    found = score_pool(pool, settings_of(detectors), NAMES, Clock(), tmp_path / "scores", [])
    assert found.indices.tolist() == [1, 2, 3]
    assert set(found.set_aside) == {"broken", "missing"}
    assert str(missing) in found.set_aside["missing"]
    assert np.allclose(found.measures["entropy"], scored.measures["entropy"][:3], atol=2e-4)
    again = score_pool(pool, settings_of(detectors), NAMES, Clock(), tmp_path / "scores", [])
    assert same(found, again) and again.set_aside == found.set_aside
    with pytest.raises(UserError, match=r"none of the 1 pictures.*missing\.jpg"):
        score_pool(pool[-1:], settings_of(detectors), NAMES, Clock(), tmp_path / "none", [])


class TestGoingOn:
    """Finished shards stay, and are trusted only for what they were made from."""

    @pytest.fixture(autouse=True)
    def small_shards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scoring, "SHARD", 6)

    def test_after_a_stop(
        self, scored: PoolScores, records: list[Record], detectors: dict[str, Path], tmp_path: Path
    ) -> None:
        clock = Clock()
        asked = 0

        def stop_reason(_seconds: float = 0.0) -> str | None:
            nonlocal asked
            asked += 1
            return "enough" if asked > 5 else None

        clock.stop_reason = stop_reason  # type: ignore[method-assign, assignment]
        with pytest.raises(Interrupted, match="enough"):
            score_pool(records, settings_of(detectors, batch=2), NAMES, clock, tmp_path, [])
        finished = sorted(tmp_path.glob("scores-*.npz"))
        assert 0 < len(finished) < 4
        stamps = [path.stat().st_mtime_ns for path in finished]
        found = score_pool(records, settings_of(detectors, batch=2), NAMES, Clock(), tmp_path, [])
        assert [path.stat().st_mtime_ns for path in finished] == stamps
        assert same(found, scored, 2e-4)

    def test_after_a_kill(self, records: list[Record], detectors: dict[str, Path], tmp_path: Path) -> None:
        """SIGKILL with two shards written and the third scored, but not written."""
        source = (
            "import os, pathlib, pickle, signal, sys, torch\n"
            "from marauder.core.clock import Clock\n"
            "from marauder.selection import scoring\n"
            "torch.set_num_threads(1)\n"
            "scoring.SHARD = 6\n"
            "write = scoring.write_shard\n"
            "def writing(path, shard, identity):\n"
            "    if path.name == 'scores-00002.npz':\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    write(path, shard, identity)\n"
            "scoring.write_shard = writing\n"
            "records, settings, names, folder = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
            "scoring.score_pool(records, settings, names, Clock(), folder, [])\n"
        )
        folder, task = tmp_path / "killed", tmp_path / "task"
        settings = settings_of(detectors)
        task.write_bytes(pickle.dumps((records, settings, NAMES, folder)))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run([sys.executable, "-c", source, str(task)], env=environment, capture_output=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
        finished = sorted(folder.glob("scores-*.npz"))
        assert [path.name for path in finished] == ["scores-00000.npz", "scores-00001.npz"]
        stamps = [path.stat().st_mtime_ns for path in finished]
        found = score_pool(records, settings, NAMES, Clock(), folder, [])
        assert [path.stat().st_mtime_ns for path in finished] == stamps
        assert same(found, score_pool(records, settings, NAMES, Clock(), tmp_path / "whole", []))

    def test_what_was_made_otherwise_is_made_anew(
        self, records: list[Record], detectors: dict[str, Path], tmp_path: Path
    ) -> None:
        def score(**values: object) -> tuple[PoolScores, list[int]]:
            settings = settings_of(detectors, **values)
            found = score_pool(records, settings, NAMES, Clock(), tmp_path, [])
            return found, [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("scores-*.npz"))]

        first, stamps = score(measures=("entropy",))
        assert score(measures=("entropy",), batch=3)[1] == stamps
        (tmp_path / "scores-00001.npz").write_bytes(b"PK\x03\x04 no archive")
        (tmp_path / ".scores-00002.npz.1.aa.partial").write_bytes(b"left by a kill")
        mended, after = score(measures=("entropy",))
        assert same(mended, first)
        assert [one == other for one, other in zip(stamps, after, strict=True)] == [True, False, True, True]
        assert not list(tmp_path.glob(".*"))
        for change in ({"reduction": "max"}, {"critical": ("fish",)}, {"confidence": 0.2}, {"measures": ("margin",)}):
            before = after
            _, after = score(**{"measures": ("entropy",), **change})
            assert not set(before) & set(after)
        assert not set(score(measures=("margin",), fresh=True)[1]) & set(after)


class TestPassesThatAreNeeded:
    """Only what the asked measures need is computed."""

    def test_scores_alone_need_one_look(
        self, records: list[Record], detectors: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks: list[int] = []
        run_to_head = candidates.run_to_head

        def looking(model: DetectionModel, images: torch.Tensor) -> object:
            looks.append(len(images))
            return run_to_head(model, images)

        monkeypatch.setattr(candidates, "run_to_head", looking)
        monkeypatch.setattr(candidates, "head_dropout", None)
        settings = settings_of(detectors, measures=("entropy", "margin", "localisation_stability"))
        score_pool(records, settings, NAMES, Clock(), tmp_path / "plain", [])
        assert sum(looks) == COUNT
        settings = settings_of(detectors, measures=("augmentation_consistency",), views=("flip", "scale", "colour"))
        score_pool(records, settings, NAMES, Clock(), tmp_path / "views", [])
        assert sum(looks) == COUNT + 4 * COUNT
        with pytest.raises(TypeError):
            score_pool(records, settings_of(detectors), NAMES, Clock(), tmp_path / "dropout", [])

    def test_a_head_without_distributions_says_so(
        self, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(ultralytics_adapter.TINY, "reg_max", 1)
        save_detector(ultralytics_adapter.build_detector("yolov8t", NAMES), tmp_path / "plain", SIZE, {})
        plain = {"first": tmp_path / "plain.safetensors"}
        settings = settings_of(plain, measures=("localisation_stability",), confidence=1e-6)
        with pytest.raises(UserError, match=r"plain\.safetensors.*augmentation_consistency"):
            score_pool(records, settings, NAMES, Clock(), tmp_path / "scores", [])
        settings = settings_of(plain, measures=("augmentation_consistency", "entropy"), confidence=1e-6)
        assert len(score_pool(records[:2], settings, NAMES, Clock(), tmp_path / "scores", [])) == 2

    def test_every_model_of_an_ensemble_is_asked_for_its_sides_only_the_first_for_views(
        self, records: list[Record], detectors: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: set[tuple[str, bool, int, int]] = set()
        look = candidates.CandidateModel.look

        def looking(model: candidates.CandidateModel, pictures: Any, passes: Any, *rest: Any) -> Any:
            asked.add((model.path.stem, passes.sides, passes.dropout, len(passes.views)))
            return look(model, pictures, passes, *rest)

        monkeypatch.setattr(candidates.CandidateModel, "look", looking)
        score_pool(records[:3], settings_of(detectors, "first", "second", use_ensemble=True), NAMES, Clock(), tmp_path,
                   [])  # fmt: skip
        assert asked == {("first", True, 0, 2), ("second", True, 0, 0)}

    @pytest.mark.parametrize("name", list(VIEWS))
    def test_boxes_find_their_way_back_from_a_view(self, name: str) -> None:
        images = torch.zeros((1, 3, 64, 96))
        images[:, :, 20:40, 30:70] = 1.0
        seen = find_views((name,))[0].change(images)[0].sum(dim=0) > 1.5
        rows, columns = torch.where(seen)
        box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], float)
        assert VIEWS[name].back(box, (64, 96)) == pytest.approx(np.array([[30, 20, 70, 40]]), abs=1)

    def test_an_unknown_view_is_told(self) -> None:
        with pytest.raises(UserError, match="no view named 'rotate'"):
            find_views(("rotate",))


class TestValidation:
    """Calibration and class difficulty from labelled pictures."""

    def test_is_read_from_the_data_set_and_kept(
        self, records: list[Record], detectors: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The labels are what the detector itself is sure of, so that there is something to calibrate on."""
        predictor = open_predictor(detectors["first"], "cpu")
        options = replace(MEASURING, confidence=0.5)
        labelled = []
        for found in detect(predictor, records, DecodedPictures(records), range(COUNT), options) or []:
            assert found.detections is not None
            boxes, classes = found.detections.boxes, found.detections.classes
            record = replace(records[found.index], labelled=True, split="val", boxes=boxes, classes=classes,
                             ignored=np.zeros(len(boxes), bool), box_attributes={})  # fmt: skip
            labelled.append(record)
        data = write_yolo(Dataset(NAMES, tuple(labelled)), tmp_path / "data")
        auto = {"calibration": "auto", "class_difficulty": "auto", "measures": ("entropy",)}
        settings = settings_of(detectors, pool=data, **auto)
        calibrated = score_pool(records, settings, NAMES, Clock(), tmp_path / "scores")
        assert any("isotonic regression" in note for note in calibrated.notes)
        assert any("or more: fish" in note for note in calibrated.notes)
        plain = score_pool(records, settings_of(detectors, measures=("entropy",)), NAMES, Clock(), tmp_path / "p", [])
        assert not np.allclose(calibrated.measures["entropy"], plain.measures["entropy"], rtol=0.01)
        true = sum(len(record.boxes) for record in labelled)
        errors = [abs(one.estimated_boxes.sum() - true) for one in (calibrated, plain)]
        assert errors[0] < 0.5 * errors[1]
        assert plain.box_line is None, "nothing to learn it from"
        assert calibrated.box_line is not None
        intercept, slope = calibrated.box_line
        assert intercept * COUNT + slope * calibrated.estimated_boxes.sum() == pytest.approx(true, rel=1e-3)
        read = [record for record in read_dataset(data) if record.split == "val"]
        monkeypatch.setattr(candidates.CandidateModel, "look", None)
        again = score_pool(records, settings, NAMES, Clock(), tmp_path / "scores", read)
        assert same(calibrated, again)
        with pytest.raises(TypeError):
            score_pool(records, settings, NAMES, Clock(), tmp_path / "scores", read[1:])

    def test_without_labels_says_so(self, records: list[Record], detectors: dict[str, Path], tmp_path: Path) -> None:
        settings = settings_of(detectors, calibration="auto", class_difficulty="auto", measures=("entropy",))
        found = score_pool(records, settings, NAMES, Clock(), tmp_path / "scores", [])
        assert any("unchanged" in note for note in found.notes)
        assert any("All classes weigh the same" in note for note in found.notes)

    def test_labels_of_unknown_classes_are_told(self, detectors: dict[str, Path], tmp_path: Path) -> None:
        picture = tmp_path / "source.png"
        cv2.imwrite(str(picture), np.zeros((40, 60, 3), np.uint8))
        record = Record("a", picture, 60, 40, np.array([[1.0, 1, 9, 9]]), np.array([0]), split="val")
        data = write_yolo(Dataset(("whale",), (record,)), tmp_path / "data")
        settings = settings_of(detectors, pool=data, calibration="auto")
        with pytest.raises(UserError, match="labels of whale"):
            score_pool([record], settings, NAMES, Clock(), tmp_path / "scores")

    def test_critical_classes_weigh_more(
        self, scored: PoolScores, records: list[Record], detectors: dict[str, Path], tmp_path: Path
    ) -> None:
        settings = settings_of(detectors, critical=NAMES, critical_weight=3.0)
        found = score_pool(records, settings, NAMES, Clock(), tmp_path, [])
        assert np.allclose(found.measures["entropy"], 3 * scored.measures["entropy"], rtol=1e-4)


def test_every_setting_that_decides_a_selection_changes_scores_or_is_known_not_to() -> None:
    told_otherwise = {"pool", "models", "labelled", "names", "use_ensemble", "measures", "calibration"}
    told_otherwise |= {"class_difficulty"}  # it is in the weights of the classes
    only_choose = {"count", "budget_boxes", "strategy", "weights", "random_share", "candidate_factor", "cover"}
    only_choose |= {"category_share", "price_weight", "most_per_group", "class_quotas", "slice_quotas", "price"}
    only_choose |= {"min_labelled_share", "min_map50", "max_unseen_share", "sheet_pictures", "map_points"}
    deciding = {name.partition(".")[0] for name in setting_names(SelectionSettings, Decides.RESULT)}
    assert deciding == {*DECISIVE, *told_otherwise, *only_choose}
    assert len(deciding) == len(DECISIVE) + len(told_otherwise) + len(only_choose)
