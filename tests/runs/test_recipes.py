"""Recipes put under the settings of a run, mistakes told with their places, and settings explained."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from marauder.cli.config import app
from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.explain import explain, walk
from marauder.core.layers import Layer, merge_layers, read_layer
from marauder.core.settings import Decides
from marauder.critical.settings import CriticalSettings
from marauder.runs.recipes import (
    as_yaml,
    library,
    load_run_settings,
    load_settings_of_task,
    recipe_fields,
    recipe_layers,
    run_layer,
)
from marauder.runs.settings import RunSettings
from marauder.tasks.detection.settings import BaselineSettings, DetectionSettings
from marauder.tasks.pretraining.settings import PretrainingSettings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_every_shipped_recipe_is_valid_and_says_what_it_is() -> None:
    recipes = library()
    assert {"yolo", "two_cores", "trial", "fine_tune", "shore_gpu"} <= {recipe.name for recipe in recipes}
    for recipe in recipes:
        assert recipe.description.endswith(".")
        settings = load_run_settings(DetectionSettings, None, [f"recipe={recipe.name}", "data=x"])
        assert settings.recipe == recipe.name


def test_file_comes_over_recipe_and_overrides_over_both() -> None:
    train = write(Path("train.yaml"), "data: d\nrecipe: trial\ntraining:\n  epochs: 5\n")
    settings = load_run_settings(DetectionSettings, train, ["training.optimizer.momentum=0.5"])
    assert settings.model == "yolov8t"  # trial
    assert settings.training.average_decay == 0.998  # two_cores, which trial extends
    assert settings.training.optimizer.name == "adamw"
    assert settings.training.optimizer.learning_rate == 0.005  # trial over two_cores, key by key
    assert settings.training.batch_size == 16  # yolo, which that extends
    assert settings.training.epochs == 5
    assert settings.training.optimizer.momentum == 0.5


def test_a_project_has_recipes_of_its_own_that_hide_the_shipped_ones() -> None:
    write(Path("recipes/reef.yaml"), "description: Ours.\nextends: trial\nimage_size: 96\n")
    write(Path("recipes/trial.yaml"), "description: Our trial.\nmodel: yolov8s\n")
    settings = load_run_settings(DetectionSettings, None, ["recipe=reef", "data=d"])
    assert (settings.model, settings.image_size) == ("yolov8s", 96)
    assert next(recipe for recipe in library() if recipe.name == "trial").description == "Our trial."


def test_a_recipe_is_found_beside_the_file_that_names_it() -> None:
    write(Path("sub/recipes/reef.yaml"), "extends: small\nimage_size: 96\n")
    write(Path("sub/recipes/small.yaml"), "extends: trial\ntraining: {epochs: 7}\n")
    train = write(Path("sub/train.yaml"), "data: d\nrecipe: reef\n")
    settings = load_run_settings(DetectionSettings, train)
    assert (settings.image_size, settings.training.epochs, settings.model) == (96, 7, "yolov8t")
    with pytest.raises(UserError, match="no recipe named 'reef'"):
        load_run_settings(DetectionSettings, None, ["recipe=reef", "data=d"])


@pytest.mark.parametrize("name", ["Riff Süd", "../x"])
def test_a_name_that_cannot_be_is_refused_in_words(name: str) -> None:
    with pytest.raises(UserError, match=r"project: give 1 to 63 letters .*, not"):
        load_run_settings(DetectionSettings, None, [f"project={name}", "data=d"])


def test_mistakes_of_recipe_file_and_overrides_are_told_at_once_with_their_places() -> None:
    write(Path("recipes/bad.yaml"), "extends: yolo\ntraining:\n  epochs: none\n")
    train = write(Path("train.yaml"), "data: d\nrecipe: bad\nimage_size: 100\nmodell: x\n")
    with pytest.raises(UserError) as error:
        load_run_settings(DetectionSettings, train, ["training.batch_size=0"])
    message = str(error.value)
    assert message.startswith("4 mistakes:")
    assert "recipes/bad.yaml:3: training.epochs" in message
    assert "train.yaml:3: image_size: 100 is not a multiple of 32; choose 96" in message
    assert "train.yaml:4: modell: no such setting; did you mean model?" in message
    assert "override 'training.batch_size=0'" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("extends: nowhere\n", "bad.yaml:1: extends: no recipe named 'nowhere'; there are: "),
        ("extends: bad\n", "extends itself"),
        ("extends: [yolo]\n", "bad.yaml:1: extends: name one recipe, not list"),
        ("data: d\nmodel: yolov8n\n", "recipes/bad.yaml:1: data: a recipe sets only"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(content: str, words: str) -> None:
    write(Path("recipes/bad.yaml"), content)
    with pytest.raises(UserError, match=words.replace("[", r"\[")):
        load_run_settings(DetectionSettings, None, ["recipe=bad", "data=d"])


def test_an_unknown_recipe_names_the_line_and_the_nearest() -> None:
    train = write(Path("train.yaml"), "data: d\nrecipe: two_core\n")
    with pytest.raises(UserError, match=r"train\.yaml:2: recipe: no recipe named 'two_core'; did you mean two_cores\?"):
        load_run_settings(DetectionSettings, train)


def test_layers_keep_the_place_of_every_value() -> None:
    one = Layer({"a": {"x": 1, "y": 2}, "b": 3}, {("a",): "1:1", ("a", "x"): "1:2", ("a", "y"): "1:3", ("b",): "1:4"})
    two = Layer({"a": {"y": 5}, "b": {"z": 6}}, {("a",): "2:1", ("a", "y"): "2:2", ("b",): "2:3", ("b", "z"): "2:4"})
    merged = merge_layers([one, two])
    assert merged.content == {"a": {"x": 1, "y": 5}, "b": {"z": 6}}
    assert merged.places[("a", "x")] == "1:2"
    assert merged.places[("a", "y")] == "2:2"
    assert merged.places[("b", "z")] == "2:4"
    assert one.content == {"a": {"x": 1, "y": 2}, "b": 3}, "the layers stay as they were"


def test_explain_says_kind_default_value_and_place() -> None:
    train = write(Path("train.yaml"), "data: d\ntraining:\n  optimizer:\n    learning_rate: 0.02\n")
    (found,) = explain(DetectionSettings, "training.optimizer.learning_rate", read_layer(train))
    assert (found.default, found.value, found.place) == ("0.01", "0.02", "train.yaml:4")
    assert "more than 0" in found.kind
    (model,) = explain(DetectionSettings, "model", run_layer(None, ["recipe=trial"]))
    assert model.value == "yolov8t" and model.place.endswith("trial.yaml:3")


def test_explain_covers_every_setting_and_finds_near_names() -> None:
    found = list(walk(DetectionSettings, Layer({}, {})))
    assert len(found) > 60
    assert all(one.kind for one in found)
    unexplained = [one.key for one in found if not one.description and not one.section and one.key.count(".") == 0]
    assert unexplained == []
    with pytest.raises(UserError, match=r"did you mean training\.epochs"):
        explain(DetectionSettings, "training.epoch", Layer({}, {}))
    with pytest.raises(UserError, match=r"training\.epochs"):
        explain(DetectionSettings, "epochs", Layer({}, {}))


def test_config_commands() -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["show", "recipe=trial", "data=d"])
    # without a file the first word is a setting too
    assert shown.exit_code == 0, shown.output
    assert "yolov8t" in shown.output
    explained = runner.invoke(app, ["explain", "training"])
    assert "training.optimizer.learning_rate" in explained.output
    listed = runner.invoke(app, ["recipes"])
    assert "two_cores" in listed.output
    assert {"task", "model", "image_size", "loss", "training", "augmentation", "pretraining"} <= set(recipe_fields())
    assert not {"data", "runs", "project", "tracking", "evaluation", "gates", "processes"} & set(recipe_fields())
    assert recipe_layers("trial")[0].name.endswith("yolo.yaml")


def test_the_gates_in_force_are_those_of_the_file_that_the_settings_name(tmp_path: Path) -> None:
    (tmp_path / "gates.yaml").write_text("determinism: off\nlimits: {metrics: {map50: {minimum: 0.5}}}\n")
    (tmp_path / "train.yaml").write_text(f"data: d\ngates: {tmp_path}/gates.yaml\n")
    file, runner = str(tmp_path / "train.yaml"), CliRunner()
    for key, now in (
        ("gate.determinism.severity", f"off ({tmp_path}/gates.yaml:1)"),
        ("gate.limits.metrics", "{'map50': {'minimum': 0.5}}"),
        ("gate.drift.severity", "warn (override 'gate.drift.severity=warn')"),
    ):
        told = runner.invoke(app, ["explain", key, "gate.drift.severity=warn", "--config", file])
        assert f"now:     {now}" in told.output, told.output
    gates = yaml.safe_load(runner.invoke(app, ["show", file, "gate.drift.severity=warn"]).output)["gate"]
    assert gates["determinism"]["severity"] == "off" and gates["drift"]["severity"] == "warn"
    assert gates["limits"]["metrics"]["map50"]["minimum"] == 0.5 and gates["health"]["severity"] == "fail"
    # what is shown can be given again
    (tmp_path / "again.yaml").write_text(runner.invoke(app, ["show", file]).output)
    assert runner.invoke(app, ["show", str(tmp_path / "again.yaml")]).output == (tmp_path / "again.yaml").read_text()
    (tmp_path / "gates.yaml").write_text("determinsm: off\n")
    wrong = runner.invoke(app, ["explain", "gate.drift.severity", "--config", file])
    assert f"{tmp_path}/gates.yaml:1: determinsm: no such setting" in str(wrong.exception)
    nonsense = runner.invoke(app, ["explain", "gate.nonsense"])
    assert "there are: contract, drift" in str(nonsense.exception) and "did you mean" not in str(nonsense.exception)


@pytest.mark.parametrize(
    ("model", "words"),
    [(BaselineSettings, ["gate.floor.level=0.1"]), (CriticalSettings, []), (PretrainingSettings, [])],
)
def test_the_settings_that_a_run_leaves_continue_this_very_run(
    model: type[RunSettings], words: list[str], tmp_path: Path
) -> None:
    settings = load_run_settings(model, None, [f"data={tmp_path}", f"output={tmp_path}", *words])
    *command, file = settings.command()
    Path(file).write_text(as_yaml(settings), encoding="utf-8")
    if command == ["marauder", "train"]:
        again = load_settings_of_task(Path(file))
    else:
        assert command == ["marauder", "critical", "--train", "--config"]
        again = load_run_settings(CriticalSettings, Path(file))
    deciding = (Decides.RESULT, Decides.LENGTH, Decides.MEASUREMENT)
    assert decided(again, *deciding) == decided(settings, *deciding)
    assert (again.folder, again.project, again.gate) == (settings.folder, settings.project, settings.gate)
