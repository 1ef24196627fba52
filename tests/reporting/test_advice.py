"""What to do next follows from the figures: a useless detector is never promoted, and each cause has its remedy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.pipeline.steps.step02_baseline import STEP
from marauder.pipeline.workspace import Workspace
from marauder.reporting.advice import (
    ClassFigures,
    Commands,
    Figures,
    advise,
    is_falling,
    is_rising,
)
from marauder.runs.recipes import as_yaml, load_settings_of_task
from marauder.tasks.detection.settings import DetectionSettings

COMMANDS = Commands("longer", "pretrained", "check", "promote", "export")
GOOD = Figures(0.5, "test", 0.4, 0.6, on_val=0.52, clips={"train": 40, "val": 9, "test": 8})
"""A detector that nothing is wrong with."""


def kinds(figures: Figures, commands: Commands = COMMANDS) -> list[str]:
    return [one.kind for one in advise(figures, commands)]


def test_a_good_detector_is_promoted_or_where_there_is_no_registry_exported() -> None:
    assert kinds(GOOD) == ["promote"]
    assert kinds(GOOD, replace(COMMANDS, promote="")) == ["export"]
    assert kinds(GOOD, Commands()) == ["use"]
    # An evaluation by itself knows neither the training nor its data.
    assert kinds(Figures(0.0, "test"), Commands()) == ["nothing_found"]
    assert kinds(Figures(math.nan, "test"), Commands()) == ["label_more"], "nothing to measure it on"
    assert kinds(Figures(math.nan, "test"), COMMANDS) == ["label_more"], "what was not measured is not promoted"


@given(
    value=st.floats(0, 1),
    on_val=st.floats(0, 1),
    withheld=st.sampled_from(["", "floor: has not learned yet"]),
    failed=st.sampled_from([(), ("limits",)]),
    curve=st.lists(st.floats(0, 1), max_size=12),
)
def test_what_a_gate_failed_or_withheld_is_neither_promoted_nor_exported(
    value: float, on_val: float, withheld: str, failed: tuple[str, ...], curve: list[float]
) -> None:
    figures = replace(GOOD, value=value, on_val=on_val, withheld=withheld, failed=failed, validation=curve)
    found = advise(figures, COMMANDS)
    offered = {"promote", "export", "use"} & {one.kind for one in found}
    assert bool(offered) == (not withheld and not failed and value >= figures.level)
    assert found or withheld


def test_nothing_found_leads_to_pretrained_weights_and_to_the_labels() -> None:
    nothing = replace(GOOD, value=0.001, low=0.0, high=0.003, on_val=0.0, withheld="floor", pretrained=False)
    found = advise(nothing, COMMANDS)
    assert [one.kind for one in found] == ["nothing_found", "start_pretrained", "check_labels"]
    assert [one.command for one in found] == ["", "pretrained", "check"]
    # Weights to start from were there already: what is left are the labels.
    assert kinds(replace(nothing, pretrained=True)) == ["nothing_found", "check_labels"]
    assert kinds(replace(nothing, value=0.03, pretrained=False)) == ["little_found", "start_pretrained"]


def test_curves_that_still_rise_ask_for_a_longer_training() -> None:
    # Of a training that was evaluated every other epoch.
    rising = replace(GOOD, epochs=12, validation=(0.1, 0.2, 0.3, 0.4, 0.45, 0.5))
    found = advise(rising, COMMANDS)
    assert found[0].kind == "train_longer" and found[0].command == "longer"
    assert "0.500 after 12 epochs" in found[0].text
    unlearned = replace(GOOD, value=0.001, withheld="floor", validation=(0.0, 0.001), losses=(14.0, 12.0))
    assert "train_longer" in kinds(unlearned)
    # Ten epochs that changed nothing are no reason for more; a few are too few to tell.
    still = replace(unlearned, validation=(0.0,) * 10)
    assert "train_longer" not in kinds(replace(still, losses=(14.0,) * 10))
    assert "train_longer" in kinds(replace(still, losses=tuple(14.0 - step for step in range(10))))
    for count, words in ((1, "1 epoch of training teaches little"), (3, "3 epochs of training teach little")):
        short = replace(unlearned, epochs=count, validation=(0.0,) * count, losses=(14.0,) * count)
        assert any(one.text.startswith(words) and one.command == "longer" for one in advise(short, COMMANDS))


@pytest.mark.parametrize(
    ("curve", "rises"),
    [
        ((), False),
        ((0.3,), False),
        ((0.1, 0.2), True),
        ((0.2, 0.1), False),
        ((0.1, 0.3, 0.5, 0.5, 0.5, 0.5), False),
        ((0.1, 0.3, 0.6, 0.2, 0.3, 0.4), False),
        ((0.50, 0.50, 0.501, 0.502), False),
        (tuple(step / 100 for step in range(60)), True),
    ],
)
def test_a_curve_rises_by_more_than_noise_and_up_to_its_end(curve: tuple[float, ...], rises: bool) -> None:
    assert is_rising(curve) == rises
    if len(curve) > 1:
        assert is_falling([1 - value for value in curve]) or not rises


def test_val_far_above_test_names_both_figures_and_the_clips() -> None:
    (found, *_) = advise(replace(GOOD, on_val=0.8), COMMANDS)
    assert found.kind == "val_above_test" and found.command == "check"
    for words in ("0.800 on val", "0.500 on test (0.400 to 0.600)", "9 clips of val", "8 clips of test"):
        assert words in found.text
    assert "val_above_test" not in kinds(replace(GOOD, on_val=0.6)), "within the interval"
    assert "val_above_test" not in kinds(replace(GOOD, on_val=0.8, split="val"))


def test_a_class_that_is_never_found_is_told_with_its_boxes_and_clips() -> None:
    ray = ClassFigures("ray", 0.0, {"train": 12, "test": 1}, {"train": 2, "test": 1})
    crab = ClassFigures("crab", float("nan"), {"train": 9, "test": 0}, {"train": 2, "test": 0})
    fish = ClassFigures("fish", 0.9, {"train": 900, "test": 80}, {"train": 40, "test": 8})
    (found, *_) = advise(replace(GOOD, classes=[fish, ray, crab]), COMMANDS)
    assert found.kind == "class_at_zero"
    assert found.text.startswith(
        "ray is never found: train has 12 boxes of it in 2 clips, test has 1 box of it in 1 clip."
    )
    assert "crab" not in found.text, "without boxes to measure it on, nothing is known of it"
    many = [replace(ray, name=f"ray{number}") for number in range(5)]
    (found, *_) = advise(replace(GOOD, classes=many), COMMANDS)
    assert found.text.endswith(". 2 more classes are never found either. Label more of them, in other clips.")
    assert "ray3" not in found.text
    (found, *_) = advise(replace(GOOD, classes=many[:4]), COMMANDS)
    assert found.text.endswith(". 1 more class is never found either. Label more of them, in other clips.")
    assert "class_at_zero" not in kinds(replace(GOOD, value=0.01, classes=[ray])), "it has not learned any class yet"


def test_figures_too_unsure_to_decide_by_ask_for_more_clips() -> None:
    unsure = replace(GOOD, value=0.12, low=0.02, high=0.6, withheld="floor: too few pictures", uncertain=True)
    found = advise(unsure, COMMANDS)
    assert [one.kind for one in found] == ["label_more"]
    assert "8 clips" in found[0].text
    other = replace(unsure, withheld="essential: check failed to run", uncertain=False)
    assert advise(other, COMMANDS) == [], "another gate's warning says nothing about the figures"


def test_below_a_level_that_somebody_set_it_has_still_learned_something() -> None:
    ray = ClassFigures("ray", 0.0, {"train": 12, "test": 1}, {"train": 2, "test": 1})
    figures = replace(GOOD, value=0.55, level=0.6, withheld="floor", classes=[ray], validation=(0.5,), losses=(1.0,))
    found = advise(figures, COMMANDS)
    assert [one.kind for one in found] == ["below_level", "class_at_zero"]
    assert found[0].text.startswith("mAP50 is 0.550, below the level you set (0.6).")


def test_many_confident_boxes_without_a_label_lead_to_missing_labels() -> None:
    doubted = replace(GOOD, unlabelled=[("a", 6), ("b", 13)])
    commands = replace(COMMANDS, false_on_train="evaluate")
    missing, promote = advise(doubted, commands)
    assert (missing.kind, missing.command, promote.kind) == ("labels_missing", "evaluate", "promote")
    assert missing.text.startswith(
        "2 pictures of test have many confident boxes without a label (most: b, 13): look for"
    )
    assert not advise(doubted, Commands())[0].command
    assert "labels_missing" not in kinds(replace(doubted, value=0.01), commands), "one that has learned nothing"


def test_a_step_of_a_pipeline_is_continued_by_the_pipeline(tmp_path: Path) -> None:
    settings = DetectionSettings(data=tmp_path / "data.yaml", output=tmp_path / "out")
    assert settings.command("training.epochs=20") == (
        "marauder", "train", str(tmp_path / "out" / "config.yaml"), "training.epochs=20"
    )  # fmt: skip
    step = settings.changed({"step": "baseline", "workspace": tmp_path})
    words = ("marauder", "pipeline", "run", "--root", str(tmp_path))
    assert step.command("training.epochs=20") == (*words, "baseline.training.epochs=20")
    assert (step.typed("training"), settings.typed("training")) == ("baseline.training", "training")
    assert step.command("model=yolov8n", fresh=True) == (
        *words, "--only", "baseline", "baseline.model=yolov8n", "--fresh"
    )  # fmt: skip
    # A run of one's own with the step's settings, by its config.yaml or by the pipeline's.
    copied = tmp_path / "copied.yaml"
    copied.write_text(as_yaml(step), encoding="utf-8")
    assert load_settings_of_task(copied).command()[:2] == ("marauder", "train")
    mine = step.changed({"output": tmp_path.parent / "mine"})
    assert mine.typed("training") == "training"
    assert mine.command() == ("marauder", "train", str(tmp_path.parent / "mine" / "config.yaml"))
    workspace = Workspace.at(tmp_path)
    assert {"step": "baseline", "workspace": tmp_path}.items() <= dict(STEP.placed(workspace)).items()
