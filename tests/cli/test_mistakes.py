"""A mistake is told before anything is touched: all of all files and of the command line in one list."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from marauder.cli.main import load_command
from marauder.core.errors import UserError
from marauder.core.file_identity import identify
from marauder.core.mistakes import Mistake, mistakes_in
from marauder.core.sections import fields_at
from marauder.core.ultralytics_words import EVALUATING, EXPORTING, PREDICTING, TRAINING, documented
from marauder.exporting.settings import ExportSettings
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.workspace import Workspace
from marauder.runs.recipes import check_run, run_layer
from marauder.survey.settings import PredictSettings
from marauder.tasks.detection.evaluate_settings import EvaluateSettings
from marauder.tasks.detection.settings import DetectionSettings

CONFIGS = Path(__file__).parents[2] / "configs"
TRAIN_ALL = CONFIGS.parent / "training" / "train_all.py"
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
override 'training.epochs=1e-3': training.epochs: must be a whole number
override 'batch=8': batch: no such setting here: batch is called training.batch_size in Marauder
override 'gate.regression.metric=mAP': gate.regression.metric: 'mAP' cannot be compared here; choose one of: map50
recipes/own.yaml:3: training.optimizer.lr0: no such setting here: lr0 is called training.optimizer.learning_rate
train.yaml:5: model: no detector named 'yolo9'; did you mean
train.yaml:6: weights: yolov8q.pt: no such file; check the path, or name released weights; did you mean yolov8
train.yaml:7: critical: no class named 'Sharc'; there are: Starfish, 7
train.yaml:11: tracking.options.mlflow.adress: no such setting
gates.yaml:1: drfit: no such setting; did you mean drift?
gates.yaml:4: limits.metrics.mAP: no metric named 'mAP'; did you mean map
gates.yaml:5: limits.metrics.ap50/Starfich: no class named 'Starfich'; did you mean Starfish?
slices.yaml:3: slices.big.boxes: no class named 'Starfisch'; did you mean Starfish?"""


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
    return run_python(folder, "-m", "marauder.cli.main", *words)


def run_python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=120)


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
pipeline.yaml:7: baseline.gate.limits.metrics.recal: no metric named 'recal'; did you mean recall?
pipeline.yaml:8: baseline.hsv_h: no such setting here: hsv_h is called baseline.augmentation.hue in Marauder
pipeline.yaml:10: annotation.taxonomy: other.yaml: no such file
pipeline.yaml:12: export.formats: no format named 'onyx'
override 'baseline.data=x': baseline.data: the workspace decides this; choose the workspace with --root instead
override 'imgsz=320': imgsz: no such setting here: imgsz is called baseline.image_size in Marauder
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


ALL_OF_A_RUN = {
    "train": """\
data: reef
recipe: nonsuch
weights: broken.pt
gates: gates.yaml
slices: slices.yaml
critical: [Sharc]
evaluation:
  target: {small: 0.5, smal: 0.4}
trainig: {best_metric: mapp}
""",
    "gates": """\
drfit: {severty: warn}
limits:
  metrcs:
    mAP: {minimum: 0.5}
""",
    "slices": """\
slcies:
  small:
    boxes: class = 'Starfisch'
    protectd: true
    limits:
      mAP: {minimum: 0.5}
""",
}
ALL_TOLD = """\
override 'training.device=77': training.device: cuda:77: this machine has
override 'batch=8': batch: no such setting here: batch is called training.batch_size in Marauder
option --max-hours: must be a positive number of hours, not 0
option --resume: nowhere: no such checkpoint
train.yaml:2: recipe: no recipe named 'nonsuch'
train.yaml:3: weights: broken.pt: holds no weights
train.yaml:6: critical: no class named 'Sharc'
train.yaml:8: evaluation.target.smal: no slice named 'smal'
train.yaml:9: trainig: no such setting; did you mean training
train.yaml:9: training.best_metric: no metric named 'mapp' is measured after an epoch
slices.yaml:1: slcies: no such setting; did you mean slices?
slices.yaml:3: slices.small.boxes: no class named 'Starfisch'; did you mean Starfish?
slices.yaml:4: slices.small.protectd: no such setting; did you mean protected?
slices.yaml:6: slices.small.limits.mAP: no metric 'mAP'
gates.yaml:1: drfit: no such setting; did you mean drift?
gates.yaml:1: drift.severty: no such setting; did you mean severity?
gates.yaml:3: limits.metrcs: no such setting; did you mean metrics?
gates.yaml:4: limits.metrics.mAP: no metric named 'mAP'"""


def listed(told: str) -> list[str]:
    """The mistakes of a list, its headline left out; what goes with one in further lines is part of it."""
    return [line.strip() for line in told.splitlines() if line.startswith("  ") and not line.startswith("    ")]


def demand_list(told: str, wanted: str) -> None:
    """Each line of ``wanted`` begins a mistake of the list, in this order, and there are no others."""
    found = listed(told)
    for line, begins in zip(found, wanted.splitlines()):
        assert line.startswith(begins), told
    assert len(found) == len(wanted.splitlines()), told


def test_mistakes_of_every_kind_are_one_list_in_the_order_of_their_places(folder: Path) -> None:
    """What stands under a wrong name is looked at, too: trainig, drfit, metrcs, slcies."""
    write(folder, **ALL_OF_A_RUN)
    (folder / "broken.pt").write_text("version https://git-lfs.github.com/spec/v1")
    before = looks(folder)
    done = marauder(folder, "train", "train.yaml", "training.device=77", "batch=8", "--max-hours=0", "--resume=nowhere")
    assert done.returncode == 2
    demand_list(done.stderr, ALL_TOLD)
    assert looks(folder) == before


def test_a_section_typed_as_a_single_value_is_told_in_words_of_the_command_line(folder: Path) -> None:
    done = marauder(folder, "train", "data=reef", "training=3")
    words = "training: is a section of settings, not a single value (3); name one of them: training.epochs"
    assert f"override 'training=3': {words}" in done.stderr and "lines" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["gates.floor=off"],
            "gates: names a file (gates.yaml); single gates are set with gate, without an s: gate.floor",
        ),
        (["gates=gates.yaml", "gates.floor.level=0.3"], "without an s: gate.floor"),
        (["gate.contract.severty=warn"], "gate.contract.severty: no such setting; did you mean severity?"),
        (["gate.contract.attributes=3"], "name one of them: gate.contract.attributes.NAME"),
        (["training.lr=0.1"], "training.lr: no such setting; did you mean training.optimizer.learning_rate?"),
        (["gate.level=0.3"], "gate.level: no such setting; did you mean gate.floor.level?"),
        (["gate.representation.severity=warn"], "say `gate.representation=off`"),
    ],
)
def test_what_is_said_of_a_gate_can_be_typed(folder: Path, words: list[str], told: str) -> None:
    write(folder, gates="floor: {severity: warn}\n")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError) as caught:
        patch.chdir(folder)
        check_run(run_layer(None, ["data=reef", "recipe=trial", *words]))
    assert f"override {words[-1]!r}: " in str(caught.value) and told in str(caught.value)


@pytest.mark.parametrize(
    ("section", "line", "told"),
    [
        (
            "{gates: {floor: off}}",
            1,
            "baseline.gates: names a file (gates.yaml); single gates are set with gate, without",
        ),
        ("{gates: {floor: off}}", 1, "an s: baseline.gate.floor"),
        ("\n  recipe: nonsuch", 2, "baseline.recipe: no recipe named 'nonsuch'"),
    ],
)
def test_names_in_a_pipeline_begin_with_the_step(tmp_path: Path, section: str, line: int, told: str) -> None:
    write(tmp_path, pipeline=f"baseline: {section}\n")
    with pytest.raises(UserError) as caught:
        Pipeline(Workspace.at(tmp_path), tmp_path / "pipeline.yaml")
    assert f"pipeline.yaml:{line}: " in str(caught.value) and told in str(caught.value)


PLAN = """\
preprocessing:
  organize: {taxonomy: source}
baseline:
  recipe: nonsuch
  weights: nowhere.pt
  slices: slices.yaml
  gates: gates.yaml
  training: {best_metric: slice/foo/map50}
critical:
  model: yolo9
  critical: [Sharc]
  recipe: nonsuch
anotation:
  taxonomy: species.yaml
export:
  models: [gone.pt]
"""
PLAN_TOLD = """\
override 'baseline.training.device=77': baseline.training.device: cuda:77: this machine has
override 'lr0=1': lr0: no such setting here: lr0 is called baseline.training.optimizer.learning_rate in Marauder
pipeline.yaml:4: baseline.recipe: no recipe named 'nonsuch'
pipeline.yaml:5: baseline.weights: nowhere.pt: no such file
pipeline.yaml:8: baseline.training.best_metric: no slice named 'foo'
pipeline.yaml:10: critical.model: no detector named 'yolo9'
pipeline.yaml:11: critical.critical: no class named 'Sharc'; there are: Starfish, 7
pipeline.yaml:12: critical.recipe: no recipe named 'nonsuch'
pipeline.yaml:13: anotation: no such setting; did you mean annotation?
pipeline.yaml:16: export.models: gone.pt: no such file
slices.yaml:3: slices.big.boxes: no class named 'Starfisch'
slices.yaml:4: slices.big.protectd: no such setting; did you mean protected?
gates.yaml:1: gates: no such setting
gates.yaml:3: limits.metrics.ap50/Starfich: no class named 'Starfich'
gates.yaml:4: limits.metrics.mAP: no metric named 'mAP'
species.yaml:3: id 0 is that of 'Lionfish'"""


def test_the_plan_of_a_pipeline_and_its_run_tell_the_same_mistakes(folder: Path) -> None:
    """The data set is not made yet: its classes are those of the sources."""
    slices = SLICES.replace("protected", "protectd")
    gates = "gates:\n  limits: {metrics: {\n    ap50/Starfich: {minimum: 0.1},\n    mAP: {minimum: 0.5}}}\n"
    write(folder, pipeline=PLAN, species=SPECIES, slices=slices, gates=gates)
    images = folder / "workspace" / "images"
    images.mkdir(parents=True)
    (folder / "reef").rename(images / "reef")
    before = looks(folder)
    typed = [str(TRAIN_ALL), "--config", "pipeline.yaml", "baseline.training.device=77", "lr0=1"]
    real, dry = (run_python(folder, *typed, *more) for more in ([], ["--dry-run"]))
    demand_list(real.stderr, PLAN_TOLD)
    # A plan may be for another machine.
    elsewhere = [line for line in PLAN_TOLD.splitlines() if "cuda:77" not in line]
    demand_list(dry.stderr, "\n".join(elsewhere))
    assert (real.returncode, dry.returncode) == (2, 2)
    assert looks(folder) == before


def test_a_recipe_lies_under_the_section_of_a_pipeline(tmp_path: Path) -> None:
    write(tmp_path, own="training: {epochs: 7, batch_size: 4}", pipeline="baseline: {recipe: own.yaml}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        pipeline = Pipeline(Workspace.at(tmp_path / "workspace"), Path("pipeline.yaml"), ["baseline.training.epochs=9"])
    training = pipeline.settings_of(pipeline.step("baseline")).training
    assert (training.epochs, training.batch_size) == (9, 4)


def test_bad_options_of_a_manifest_are_one_list(folder: Path) -> None:
    write(folder, slices=SLICES.replace("protected", "protectd"))
    options = ("--fractions=train=0.7,val=0.5", "--names=a,,b", "--format=jsn", "--uri=x", "--max-hours=0")
    options += ("--source-format=yollo", "--group-pattern=(", "--missing-label=no", "--slices=slices.yaml")
    done = marauder(folder, "manifest", "write", "--input=refe", "--output=out", *options)
    told = listed(done.stderr)
    assert done.returncode == 2 and not (folder / "out").exists()
    for option in (*(option.partition("=")[0] for option in options if "slices" not in option), "--input"):
        assert any(line.startswith(f"option {option}: ") for line in told), done.stderr
    assert told[-1].startswith("slices.yaml:4: slices.big.protectd: ")


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "--model=nonsense.pt", "--input=reef", "--output=deep/out"),
        ("data", "frames", "broken.mp4", "--output=deep/out"),
        ("data", "organize", "--input=reef", "--output=deep/out", "taxonomy=source", "names=[a]"),
    ],
)
def test_what_is_refused_leaves_nothing(folder: Path, words: tuple[str, ...]) -> None:
    (folder / "nonsense.pt").write_bytes(b"no weights")
    (folder / "broken.mp4").write_bytes(b"no video")
    done = marauder(folder, *words)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert not (folder / "deep").exists()


def test_a_plan_may_be_for_another_machine(folder: Path) -> None:
    typed = ("pipeline", "run", "--only", "baseline", "baseline.training.device=cuda:77", "baseline.weights=none")
    done = marauder(folder, *typed, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "2 baseline  " in done.stdout and "note: override 'baseline.training.device=cuda:77': " in done.stdout
    refused = marauder(folder, *typed)
    assert refused.returncode == 2 and "cuda:77: this machine has" in refused.stderr
    assert not (folder / "workspace").exists()


def test_only_a_file_with_a_line_is_a_place(folder: Path) -> None:
    address = "MLflow at localhost:5000: no answer"
    assert mistakes_in(UserError(address)) == [Mistake(address)]
    there = folder / "labels.txt"
    there.touch()
    for file in ("gone.yaml", "gone.json", str(there)):
        assert mistakes_in(UserError(f"{file}:3: odd")) == [Mistake("odd", f"{file}:3")]


def test_a_checkpoint_is_no_input(folder: Path) -> None:
    (folder / "nonsense.pt").write_bytes(b"no weights")
    done = marauder(folder, "predict", "--model=nonsense.pt", "--input=reef", "--resume", "nonsense.pt", "--device=77")
    assert "option --input: nonsense.pt: a model or checkpoint, no picture or video" in done.stderr
    assert "--resume takes no file here: it resumes by itself" in done.stderr
    assert "option --device: cuda:77: this machine has" in done.stderr


def test_the_python_face_names_its_arguments() -> None:
    import marauder as face

    with pytest.raises(UserError) as caught:
        face.train("refe", settings={"training.epochs": 0, "foo": 1}, max_hours=0)
    told = str(caught.value)
    assert told.startswith("4 mistakes in arguments:") and "command line" not in told
    for place in ("data", "settings['training.epochs']", "settings['foo']", "max_hours"):
        assert f"  argument {place}: " in told
    with pytest.raises(UserError, match=r"argument settings\['conf'\]: conf: .* conf is called confidence in Marauder"):
        face.predict("model.pt", "reef", settings={"conf": 0.3})
    with pytest.raises(UserError) as caught:
        face.evaluate("gone.pt", "refe", image_size=33, device="cuda:77", max_hours=0)
    told = str(caught.value)
    assert told.startswith("5 mistakes in arguments:"), told
    for place in ("model", "data", "image_size", "device", "max_hours"):
        assert f"  argument {place}: " in told


def test_each_of_ultralytics_words_is_answered_and_leads_to_a_setting(tmp_path: Path) -> None:
    """The table, the documentation and the models agree."""
    page = (CONFIGS.parent / "docs" / "TRAINING_GUIDE.md").read_text(encoding="utf-8")
    assert "\n".join(["| theirs | ours |", "|---|---|", *documented(), ""]) in page
    tables = ((TRAINING, DetectionSettings), (PREDICTING, PredictSettings), (EVALUATING, EvaluateSettings))
    for words, model in (*tables, (EXPORTING, ExportSettings)):
        for word, meant in words.items():
            assert meant.ours or meant.note
            if meant.ours:
                *section, name = meant.ours.split(".")
                assert name in fields_at(model, tuple(section)), f"{word}: {meant.ours}"
    typed = [f"{word}=1" for word in TRAINING if word not in fields_at(DetectionSettings, ())]
    done = marauder(tmp_path, "train", *typed)
    for override in typed:
        assert f"override '{override}': {override[:-2]}: no such setting here: " in done.stderr
    assert "no such setting;" not in done.stderr


@pytest.mark.parametrize(
    ("command", "option", "told"),
    [
        ("predict", "--iou", "it is a setting, typed as iou=VALUE"),
        ("predict", "--source", "source is called inputs in Marauder"),
        ("predict", "--save-txt", "save_txt is called formats in Marauder (formats=yolo writes labels)"),
        ("predict", "--max_det", "max_det is called max_detections in Marauder"),
        ("train", "--epochs", "epochs is called training.epochs in Marauder"),
        ("train", "--learning-rate", "it is a setting, typed as training.optimizer.learning_rate=VALUE"),
        ("baseline", "--lr0", "lr0 is called training.optimizer.learning_rate in Marauder"),
        ("export", "--half", "files are written in float32"),
    ],
)
def test_an_option_that_there_is_not_is_answered_with_the_setting(command: str, option: str, told: str) -> None:
    result = CliRunner().invoke(load_command(command), [option, "3"])
    assert isinstance(result.exception, UserError), result.output
    assert str(result.exception).startswith(f"option {option}: no such option here: {told}")


def test_the_parser_still_speaks_of_what_it_knows_best() -> None:
    for words, told in ((["--nonsense"], "No such option: --nonsense"), (["--imgsz", "x"], "Invalid value")):
        result = CliRunner().invoke(load_command("predict"), words, env={"COLUMNS": "200"})
        assert result.exit_code == 2 and told in result.output


def test_ultralytics_words_are_answered_by_evaluate_and_predict(tmp_path: Path) -> None:
    done = marauder(tmp_path, "evaluate", *(f"{word}=1" for word in EVALUATING))
    for word in EVALUATING:
        assert f"override '{word}=1': {word}: no such setting here: " in done.stderr, done.stderr
    assert "imgsz is called image_size in Marauder (--imgsz)" in done.stderr
    done = marauder(tmp_path, "predict", "exist_ok=True")
    assert "exist_ok: no such setting here: the same command resumes; --fresh replaces what is there" in done.stderr


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("lr0", "lr0 is called training.optimizer.learning_rate in Marauder"),
        ("conf", "conf is called predict.confidence in Marauder"),
        ("freeze", "no layer is frozen"),
        ("confidence", "predict.confidence "),
        ("frames.fps", "frames.fps: frames a second of video"),
        ("evaluate", "evaluate.split "),
        ("export.parity", "export.parity.box_iou "),
        ("floor", "gate.floor.severity  warn  <- the gates that ship with Marauder"),
        ("floor.level", "gate.floor.level: least value"),
        ("training.lr0", "lr0 is called training.optimizer.learning_rate in Marauder"),
    ],
)
def test_any_word_for_a_setting_is_explained(tmp_path: Path, key: str, told: str) -> None:
    done = marauder(tmp_path, "config", "explain", key)
    assert done.returncode == 0 and told in done.stdout, done.stdout + done.stderr


def test_every_step_and_gate_is_explained(tmp_path: Path) -> None:
    for key, words in (
        ("annotation.price.per_box", "annotation.price.per_box: "),
        ("gate.drift.severity", "one of fail, warn, off"),
        ("preprocessing.organize.taxonomy", "default: default"),
    ):
        done = marauder(tmp_path, "config", "explain", key)
        assert done.returncode == 0 and words in done.stdout, done.stdout + done.stderr
    for key, meant in (("trainin.epochs", "training.epochs"), ("training.lr", "training.optimizer.learning_rate?")):
        done = marauder(tmp_path, "config", "explain", key)
        assert done.returncode == 2 and f"did you mean {meant}" in done.stderr
    done = marauder(tmp_path, "config", "explain", "gate.floor.severity", "gate.floor=off")
    assert "now:     off (override 'gate.floor=off')" in done.stdout, done.stderr


def test_annotation_looks_into_the_workspace_and_names_commands_that_work(tmp_path: Path) -> None:
    done = marauder(tmp_path, "annotation", "status")
    assert "No batch went out yet: annotation/outbox holds none" in done.stdout, done.stderr
    outbox = tmp_path / "workspace" / "annotation" / "outbox"
    outbox.mkdir(parents=True)
    done = marauder(tmp_path, "annotation", "status")
    assert f"{outbox} holds none. Make one: marauder annotation export --outbox {outbox}" in done.stdout, done.stderr
