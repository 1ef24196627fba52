"""What a run, and a run made of runs, recognises as its own: data behind a YAML, checkpoints, damaged files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
from small_reef import write_small_reef

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import read_json
from marauder.core.work import Work
from marauder.critical import specialisation as critical_run
from marauder.critical.report import REPORT_JSON, REPORT_PAGE
from marauder.critical.runtime import CriticalRuntime
from marauder.critical.settings import CriticalSettings
from marauder.critical.specialisation import Stages
from marauder.data.manifests.pinning import pin
from marauder.data.reading import read_dataset
from marauder.gates.plan import load_gates
from marauder.mining.job import declared
from marauder.runs.gated import GatedRun
from marauder.runs.recipes import load_run_settings
from marauder.runs.series import PartMaker
from marauder.runs.start_weights import Start
from marauder.runs.task_runtime import Findings
from marauder.runs.training_stage import SingleTraining
from marauder.tasks.detection.exporting import export_run
from marauder.tasks.detection.settings import DetectionSettings
from marauder.tasks.pretraining.runtime import PretrainingRuntime
from marauder.tasks.pretraining.settings import PretrainingSettings


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def repaint(data: Path) -> None:
    """Another picture under the same name, behind a data.yaml that stays as it is."""
    path = sorted(data.parent.glob("images/train/*.png"))[0]
    cv2.imwrite(str(path), 255 - cv2.imread(str(path)))


def test_a_part_that_would_begin_anew_keeps_the_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    settings = DetectionSettings(
        data=tmp_path, output=tmp_path / "stages" / "mined", checkpoints=tmp_path / "checkpoints" / "mined", id="mined"
    )
    Work(tmp_path / "stages" / "mined.json", {"weights": "former"}).finish()
    kept = [settings.checkpoint_folder / "checkpoint_000000003.pt", settings.folder / "best.safetensors"]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    marker = read_json(tmp_path / "stages" / "mined.json")
    with pytest.raises(UserError, match=r"the part mined is made of has changed.*omit --resume"):
        PartMaker(tmp_path / "stages", Clock(), kept[0]).make("mined", settings, {"weights": "other"})
    assert all(path.is_file() for path in kept) and read_json(tmp_path / "stages" / "mined.json") == marker


def test_a_damaged_report_is_not_a_finished_run(tmp_path: Path) -> None:
    assert not Stages().has_left(tmp_path)
    (tmp_path / REPORT_JSON).write_text("{}", encoding="utf-8")
    (tmp_path / REPORT_PAGE).write_text("page", encoding="utf-8")
    assert Stages().has_left(tmp_path)
    (tmp_path / REPORT_JSON).write_text('{"format": 1, "cri', encoding="utf-8")
    assert not Stages().has_left(tmp_path)


def critical(data: Path, output: Path, *words: str) -> CriticalSettings:
    words = ("id=x", "critical=[disc]", "model=yolov8t", *words)
    found = load_run_settings(CriticalSettings, None, list(words), data=data, output=output)
    assert isinstance(found, CriticalSettings)
    return found


def test_other_unlabelled_pictures_behind_the_same_yaml_are_other_data(tmp_path: Path) -> None:
    data, more = write_small_reef(tmp_path / "reef"), write_small_reef(tmp_path / "more", train=3, val=1)

    def identity(*words: str) -> str:
        return CriticalRuntime(critical(data, tmp_path / "out", "image_size=64", *words), None).open()

    mined, unmined = f"mining.unlabelled={more}", "mining.count=0"
    before, without = identity(mined), identity(mined, unmined)
    assert identity(mined) == before != identity()
    repaint(more)
    assert identity(mined) != before
    assert identity(mined, unmined) == without, "where nothing is mined they decide nothing"


def test_a_clip_or_an_empty_picture_declared_later_is_mined_again(tmp_path: Path) -> None:
    dataset = read_dataset(write_small_reef(tmp_path / "reef", train=2, val=1))
    first, *others = dataset.records
    for changed in (replace(first, group="another"), replace(first, attributes={"empty": True})):
        assert declared(dataset.with_records((changed, *others))) != declared(dataset)


def test_the_floor_is_measured_at_the_size_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def evaluate(weights: Path, dataset: Any, split: str, device: Any, clock: Clock, size: int) -> Any:
        sizes.append(size)
        return SimpleNamespace(result=SimpleNamespace(overall=None))

    monkeypatch.setattr(critical_run, "evaluate_split", evaluate)
    monkeypatch.setattr(critical_run, "tier_metrics", lambda *rest: {"others/map50": 0.5})
    monkeypatch.setattr(critical_run, "weights_hash", lambda path: "weights")
    for size in (64, 64, 96):
        kind: Any = SimpleNamespace(
            settings=critical(tmp_path, tmp_path / "out", f"image_size={size}"),
            critical=("disc",),
            data=SimpleNamespace(dataset=None),
        )
        run: Any = SimpleNamespace(identity="data", device=None, clock=Clock())
        done: Any = [SimpleNamespace(weights=tmp_path / "best.safetensors")]
        parts = PartMaker(tmp_path / "stages", Clock())
        assert critical_run._Specialising(kind, run, parts)._floor(done) == pytest.approx(0.495)
    assert sizes == [64, 96]


def test_other_labels_to_probe_on_are_measured_again_and_not_trained_again(tmp_path: Path) -> None:
    data, probe = write_small_reef(tmp_path / "reef", train=40), write_small_reef(tmp_path / "probe", train=4, val=1)
    settings = load_run_settings(
        PretrainingSettings, None, [f"probe.data={probe}", "tracking.trackers=[]", "training.device=cpu"],
        data=data, output=tmp_path / "out", id="x", weights="none",
    )  # fmt: skip
    pinned = pin(data)

    def begun() -> GatedRun:
        runtime = PretrainingRuntime(settings)
        runtime.clock = Clock()
        plan = load_gates(None, {})
        return GatedRun(settings, Start(), runtime, runtime.open(), pinned, plan, Clock(), SingleTraining())

    before = begun()
    assert begun().key == before.key
    label = sorted(probe.parent.glob("labels/train/*.txt"))[0]
    label.write_text("", encoding="utf-8")
    after = begun()
    assert after.key != before.key and after.identity == before.identity


def test_what_is_not_exported_says_why(tmp_path: Path) -> None:
    findings = Findings(outcome=None)  # type: ignore[arg-type]
    assert "empty" not in findings.why_none_exported
    settings = load_run_settings(DetectionSettings, None, ["export.formats=[]"], data=tmp_path)
    export_run(settings, [], Clock(), findings)
    assert findings.exported == [] and findings.why_none_exported == "export.formats is empty"
