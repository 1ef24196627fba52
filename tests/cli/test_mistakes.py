"""A mistake is told before anything is touched: all of all files and of the command line in one list."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from marauder.core.file_identity import identify

CONFIGS = Path(__file__).parents[2] / "configs"
TRAIN = """\
data: reef
recipe: recipes/own.yaml
gates: gates.yaml
slices: slices.yaml
model: yolo9
weights: yolov8q.pt
critical: [Starfish, Sharc]
tracking:
  options:
    mlflow:
      adress: http://localhost
"""
RECIPE = "training:\n  optimizer:\n    lr0: 0.001\n"
GATES = "drfit: off\nlimits:\n  metrics:\n    mAP: {minimum: 0.5}\n    ap50/Starfich: {minimum: 0.1}\n"
SLICES = "slices:\n  big:\n    boxes: class = 'Starfisch'\n    protected: true\n"
TYPED = ["training.best_metric=map", "training.epochs=1e-3", "batch=8", "gate.regression.metric=mAP"]
TOLD = """\
override 'training.best_metric=map': training.best_metric: no metric named 'map' is measured after an epoch
override 'training.epochs=1e-3': training.epochs: Input should be a valid integer
override 'batch=8': batch: no such setting here: it is called training.batch_size
override 'gate.regression.metric=mAP': regression.metric: 'mAP' cannot be compared here; choose one of: map50
recipes/own.yaml:3: training.optimizer.lr0: no such setting here: it is called training.optimizer.learning_rate
train.yaml:5: model: no detector named 'yolo9'; did you mean
train.yaml:6: weights: yolov8q.pt: no such file; check the path, or name released weights; did you mean yolov8
train.yaml:7: critical: no class named 'Sharc'; there are: Starfish, 7
train.yaml:11: tracking.options.mlflow.adress: no such setting
gates.yaml:1: drfit: no such setting; did you mean drift?
gates.yaml:4: limits.metrics.mAP: no metric named 'mAP'; did you mean map
gates.yaml:5: limits.metrics.ap50/Starfich: no class named 'Starfich'; did you mean Starfish?
slices.yaml:2: big: boxes: no class named 'Starfisch'; did you mean Starfish?"""


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small data set with the classes Starfish and 7."""
    reef = tmp_path / "reef"
    for split in ("train", "val"):
        for number in range(2):
            picture = np.full((48, 64, 3), 40 * number + 20, np.uint8)
            (reef / split / "images").mkdir(parents=True, exist_ok=True)
            (reef / split / "labels").mkdir(exist_ok=True)
            Image.fromarray(picture).save(reef / split / "images" / f"{split}{number}.png")
            (reef / split / "labels" / f"{split}{number}.txt").write_text(f"{number} 0.5 0.5 0.4 0.4\n")
    (reef / "data.yaml").write_text("train: train/images\nval: val/images\nnames: [Starfish, 7]\n")
    return tmp_path


def marauder(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "marauder.cli.main", *words], cwd=folder, capture_output=True, text=True, timeout=120
    )


def looks(folder: Path) -> str:
    return str(identify(folder, with_content=True))


def test_mistakes_of_six_places_are_told_in_one_list(folder: Path) -> None:
    write(folder, train=TRAIN, recipes__own=RECIPE, gates=GATES, slices=SLICES)
    before = looks(folder)
    done = marauder(folder, "train", "train.yaml", *TYPED)
    assert done.returncode == 2, done.stderr
    for line in TOLD.splitlines():
        assert line in done.stderr
    assert done.stderr.startswith(f"error: {len(TOLD.splitlines())} mistakes:\n"), done.stderr
    assert looks(folder) == before, "nothing was moved, nothing was left behind"


PIPELINE = """\
preprocessing:
  organize: {taxonomy: species.yaml}
baseline:
  model: yolo9
  critical: [Lionfich]
  gate:
    limits: {metrics: {recal: {minimum: 0.5}}}
  hsv_h: 0.1
annotation:
  taxonomy: other.yaml
export:
  formats: [onyx]
"""
SPECIES = """\
species:
- {id: 0, common: Lionfish, scientific: Pterois, tier: critical}
- {id: 0, common: Starfish, scientific: Asteroidea, tier: general}
"""
PIPELINE_TOLD = """\
species.yaml:3: id 0 is that of 'Lionfish'; give 'Starfish' another
pipeline.yaml:4: baseline.model: no detector named 'yolo9'
pipeline.yaml:7: limits.metrics.recal: no metric named 'recal'; did you mean recall?
pipeline.yaml:8: baseline.hsv_h: no such setting here: it is called baseline.augmentation.hue
pipeline.yaml:10: annotation.taxonomy: other.yaml: no such file
pipeline.yaml:12: export.formats: no format named 'onyx'
override 'baseline.data=x': baseline.data: the workspace decides this; choose the workspace with --root instead
override 'imgsz=320': imgsz: no such setting here: it is called baseline.image_size
no step named 'bassline'"""


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_mistakes_of_all_steps_are_told_in_one_list(folder: Path, dry: list[str]) -> None:
    write(folder, pipeline=PIPELINE, species=SPECIES)
    before = looks(folder)
    words = ["pipeline", "run", "--config", "pipeline.yaml", "--only", "bassline", *dry]
    done = marauder(folder, *words, "baseline.data=x", "imgsz=320")
    assert done.returncode == 2
    for line in PIPELINE_TOLD.splitlines():
        assert line in done.stderr, done.stderr
    assert done.stderr.startswith(f"error: {len(PIPELINE_TOLD.splitlines())} mistakes:\n"), done.stderr
    assert looks(folder) == before


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_what_earlier_steps_make_is_not_missing(folder: Path, config: str) -> None:
    """Among them the folder of step 3, of which only what lies in it is named as made."""
    done = marauder(folder, "pipeline", "run", "--config", str(CONFIGS / config), "--dry-run")
    assert done.returncode == 0, done.stderr


def test_every_step_and_gate_is_explained(tmp_path: Path) -> None:
    for key, words in (
        ("annotation.price.per_box", "annotation.price.per_box: "),
        ("gate.drift.severity", "one of fail, warn, off"),
        ("preprocessing.organize.taxonomy", "default: default"),
    ):
        done = marauder(tmp_path, "config", "explain", key)
        assert done.returncode == 0 and words in done.stdout, done.stdout + done.stderr
    done = marauder(tmp_path, "config", "explain", "trainin.epochs")
    assert done.returncode == 2 and "did you mean training.epochs" in done.stderr


def test_annotation_looks_into_the_workspace_and_names_commands_that_work(tmp_path: Path) -> None:
    done = marauder(tmp_path, "annotation", "status")
    assert "No batch went out yet: annotation/outbox holds none" in done.stdout, done.stderr
    outbox = tmp_path / "workspace" / "annotation" / "outbox"
    outbox.mkdir(parents=True)
    done = marauder(tmp_path, "annotation", "status")
    assert f"{outbox} holds none. Make one: marauder annotation export --outbox {outbox}" in done.stdout, done.stderr
