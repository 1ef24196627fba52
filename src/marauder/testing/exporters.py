"""The contract of exporters."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ultralytics import YOLO

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.core.plugins import make
from marauder.data.pictures import decode_picture
from marauder.exporting.base import Exporter, GraphOptions, run_of
from marauder.exporting.graph import describe_graph
from marauder.exporting.inputs import make_batches, pattern
from marauder.exporting.parity import pairs_by_overlap
from marauder.imaging.letterbox import fit_rectangle
from marauder.models.files import LoadedDetector
from marauder.models.ultralytics_adapter import suppress
from marauder.prediction.opening import open_predictor
from marauder.testing.lively_detectors import NAMES, SIZE, save_lively, write_pictures

HEIGHT, WIDTH = 128, 160
CONFIDENCE, OVERLAP = 0.3, 0.6


class ExporterContract:
    """What every format promises: the model's numbers and metadata, the same bytes, and words for a bad file.

    A subclass is parametrized over ``name``. What is exported is opened by its suffix, so that there is a predictor of
    this suffix, too.
    """

    @pytest.fixture(scope="class", params=["yolov8t", "yolo11t"])
    @classmethod
    def detector(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedDetector:
        """What is exported."""
        return save_lively(tmp_path_factory.mktemp(request.param) / "best", request.param)

    @pytest.fixture
    def pictures(self, tmp_path: Path) -> list[Path]:
        """What it looks at."""
        return sorted(write_pictures(tmp_path / "pictures").iterdir())

    @pytest.fixture
    def exporter(self, name: str) -> Exporter:
        """One of this name."""
        made: Exporter = make("exporter", name)
        assert made.name == name and made.suffix.startswith(".")
        return made

    def export(
        self, exporter: Exporter, detector: LoadedDetector, folder: Path, options: GraphOptions
    ) -> tuple[Path, Plain]:
        """The exported file and the metadata that it was given."""
        target = folder / f"model{exporter.suffix}"
        exporter.export(detector, options, describe_graph(detector, options, "abc"), target)
        return target, describe_graph(detector, options, "abc")

    def test_a_static_file(
        self, exporter: Exporter, detector: LoadedDetector, pictures: list[Path], tmp_path: Path
    ) -> None:
        """Numbers, metadata, Ultralytics' boxes and repeatable bytes, of one export."""
        options = GraphOptions(HEIGHT, WIDTH)
        path, metadata = self.export(exporter, detector, tmp_path / "first", options)
        run = run_of(open_predictor(path, "cpu", threads=1))
        batches = make_batches([decode_picture(picture) for picture in pictures], options, 32)
        assert {batch.shape for batch in batches} == {(1, 3, HEIGHT, WIDTH)}
        for batch in batches:
            with torch.inference_mode():
                expected = detector.model(torch.from_numpy(batch))[0].numpy()
            answer = run(batch)
            assert answer.shape == expected.shape and answer.dtype == np.float32
            np.testing.assert_allclose(answer[:, :4], expected[:, :4], atol=2e-3)
            np.testing.assert_allclose(answer[:, 4:], expected[:, 4:], atol=1e-4)
        self.check_metadata(path, metadata)
        self.check_ultralytics(detector, path, pictures)
        self.check_bytes(exporter, detector, path, tmp_path, options)

    def check_metadata(self, path: Path, metadata: Plain) -> None:
        """The file says what it was given."""
        predictor = open_predictor(path, "cpu")
        assert predictor.names == NAMES and predictor.image_size == WIDTH
        stored = {key: str(value) for key, value in predictor.metadata.items()}
        assert set(stored) == set(metadata)
        assert stored["task"] == "detect" and stored["stride"] == "32" and stored["weights_sha256"] == "abc"
        assert ast.literal_eval(stored["imgsz"]) == [HEIGHT, WIDTH]
        assert {int(key): value for key, value in ast.literal_eval(stored["names"]).items()} == dict(enumerate(NAMES))
        assert not any("date" in key for key in stored)

    def check_ultralytics(self, detector: LoadedDetector, path: Path, pictures: list[Path]) -> None:
        """Ultralytics finds in the file the boxes of the detector."""
        model: Any = YOLO(path, task="detect")
        found = alone = 0
        for picture in pictures:
            options = {"conf": CONFIDENCE, "iou": OVERLAP, "device": "cpu", "verbose": False}
            result = model.predict(str(picture), **options)[0]
            assert result.names == dict(enumerate(NAMES))
            expected = result.boxes.data.numpy()
            rows = boxes_of(detector, picture)
            pairs, overlaps = pairs_by_overlap(rows, expected)
            assert all(overlaps[pair] > 0.99 for pair in pairs)
            assert max((abs(rows[ours, 4] - expected[theirs, 4]) for ours, theirs in pairs), default=0) < 1e-4
            found += len(rows)
            alone += len(rows) + len(expected) - 2 * len(pairs)
        assert found > 10, "too few boxes to compare anything"
        assert alone <= 0.02 * found

    def check_bytes(
        self, exporter: Exporter, detector: LoadedDetector, path: Path, folder: Path, options: GraphOptions
    ) -> None:
        """Another export gives the same bytes, and leaves nothing beside them."""
        again, _ = self.export(exporter, detector, folder / "second", options)
        content = path.read_bytes()
        assert again.read_bytes() == content
        assert path.parent.is_dir() and [item.name for item in path.parent.iterdir()] == [path.name]
        assert str(Path(torch.__file__).parents[1]).encode() not in content, "holds a path of this machine"

    def test_a_dynamic_file_takes_any_batch_and_size(
        self, exporter: Exporter, detector: LoadedDetector, tmp_path: Path
    ) -> None:
        path, _ = self.export(exporter, detector, tmp_path, GraphOptions(SIZE, SIZE, dynamic=True))
        run = run_of(open_predictor(path, "cpu"))
        for count, height, width in [(1, SIZE, SIZE), (2, 64, 96), (3, 192, 128)]:
            images = [pattern(2, index) for index in range(count)]
            (batch,) = make_batches(images, GraphOptions(height, width, batch=count), 32)
            with torch.inference_mode():
                expected = detector.model(torch.from_numpy(batch))[0].numpy()
            np.testing.assert_allclose(run(batch), expected, atol=2e-3)

    def test_a_damaged_or_missing_file_is_named(self, exporter: Exporter, tmp_path: Path) -> None:
        path = tmp_path / f"model{exporter.suffix}"
        with pytest.raises(UserError, match=r"model\..*no such file"):
            open_predictor(path, "cpu")
        path.write_bytes(b"PK\x03\x04 no model at all")
        with pytest.raises(UserError, match=r"model\..*is not a readable"):
            open_predictor(path, "cpu")


def boxes_of(detector: LoadedDetector, path: Path) -> np.ndarray:
    """The detector's boxes in pixels of the picture."""
    picture = decode_picture(path)
    letterbox = fit_rectangle(picture.shape[1], picture.shape[0], WIDTH, HEIGHT)
    batch = make_batches([picture], GraphOptions(HEIGHT, WIDTH), 32)[0]
    with torch.inference_mode():
        decoded = detector.model(torch.from_numpy(batch))[0]
    rows = suppress(decoded.clone(), CONFIDENCE, OVERLAP, multi_label=False)[0].numpy()
    rows[:, :4] = letterbox.restore(rows[:, :4])
    return rows
