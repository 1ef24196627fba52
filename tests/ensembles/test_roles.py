"""Members are read from words, have settings of their own, and differ for a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.settings import Decides
from marauder.ensembles.member_runs import member_settings, seed_offset
from marauder.ensembles.roles import ROLES, read_members
from marauder.ensembles.training_settings import (
    EnsembleTrainingSettings,
    NanoSettings,
    ShoreSettings,
)
from marauder.pipeline.ensembles_section import EnsemblesSettings
from marauder.runs.recipes import as_yaml, load_run_settings
from marauder.tasks.detection.description import Detection
from marauder.tasks.detection.settings import DetectionSettings


def nano(*words: str, **values: object) -> NanoSettings:
    return load_run_settings(NanoSettings, None, ["data=d", *words], **values)


def test_the_usual_members_are_those_of_the_plan() -> None:
    assert [one.name for one in nano().named_members] == [
        "yolov8m_high_recall", "yolov8m_balanced", "yolov8m_high_precision",
    ]  # fmt: skip
    shore = load_run_settings(ShoreSettings, None, ["data=d"])
    assert [one.name for one in shore.named_members] == [
        f"{model}_{role}" for model in ("yolov8x", "yolo11x") for role in ("high_recall", "balanced", "high_precision")
    ]
    assert shore.deployment.device is None and nano().deployment.device == "orin_nano"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["yolov8n:high_recall", "yolo11n:balanced"], ["yolov8n_high_recall", "yolo11n_balanced"]),
        (["YOLOv8n.pt", "yolov8n", "yolo11s"], ["yolov8n_high_recall", "yolov8n_balanced", "yolo11s_high_recall"]),
        (["balanced", "balanced"], ["yolov8m_balanced", "yolov8m_balanced_2"]),
        (
            ["yolov8n"] * 4,
            ["yolov8n_high_recall", "yolov8n_balanced", "yolov8n_high_precision", "yolov8n_high_recall_2"],
        ),
    ],
)
def test_members_are_read_from_words(words: list[str], names: list[str]) -> None:
    assert [one.name for one in read_members(words, "yolov8m")] == names
    assert [one.name for one in nano(members=words).named_members] == names


def test_a_number_of_members_takes_the_usual_ones() -> None:
    assert len(nano("members=2").named_members) == 2
    assert [one.role.name for one in nano(members=["5"]).named_members][3:] == ["high_recall", "balanced"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["members=[yolov8q,yolov8m]"], "no detector named 'yolov8q'"),
        (["members=[yolov8m:high_recal,yolov8m]"], "no role named 'high_recal'; did you mean high_recall"),
        (["members=1"], "1 is no ensemble; give at least 2"),
        (["roles.high_recal.loss.cls=1"], "no role named 'high_recal'"),
        (["roles.high_recall.loss.clss=1"], "roles: high_recall.clss: Extra inputs"),
        (["base_model=a.pt", "weights=b.pt"], "give one detector to start from"),
    ],
)
def test_mistakes_are_told_in_words(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        nano(*words)


@given(
    st.lists(
        st.sampled_from(["yolov8n", "yolo11m:balanced", "high_precision", "yolov8x:high_recall"]),
        min_size=2,
        max_size=8,
    )
)
def test_names_are_unique_and_valid(words: list[str]) -> None:
    names = [one.name for one in read_members(words, "yolov8m")]
    assert len(set(names)) == len(words)
    assert all(Path(name).name == name for name in names)


def test_each_role_names_a_metric_that_is_measured_and_settings_that_there_are() -> None:
    assert len({role.metric for role in ROLES.values()}) == len(ROLES)
    for role in ROLES.values():
        assert role.metric in Detection.epoch_metrics
        DetectionSettings.model_validate({"data": "d"}).changed(role.changes)


def test_a_member_is_a_plain_run_that_differs_in_role_seed_and_place() -> None:
    settings = nano(
        "training.epochs=7", "gate.floor.severity=fail", "gate.energy.budget=9", "recipe=trial", output=Path("out")
    )
    made = {one.name: member_settings(settings, one, Path("auto")) for one in settings.named_members}
    for name, one in made.items():
        assert type(one) is DetectionSettings and one.folder == Path("out") / name
        assert (one.training.epochs, one.export.formats, one.registry.kind) == (7, (), "none")
        # A gate of the whole must not be asked of a part, nor be refused as one that it cannot answer.
        assert one.gate == {"floor": {"severity": "fail"}, "energy": "off"}
        assert (one.bagging.kind, one.bagging.share) == ("share", 0.8)
    recall, balanced, precision = made.values()
    assert recall.loss.focal.alpha > 0.5 > precision.loss.focal.alpha and not balanced.loss.focal.enabled
    assert recall.balance.kind == "repeat_factor" and precision.augmentation.mosaic < balanced.augmentation.mosaic
    assert len({one.training.seed for one in made.values()}) == 3
    assert balanced.training.seed == settings.training.seed + seed_offset("yolov8m_balanced")


def test_settings_are_the_same_once_written_and_read_again(tmp_path: Path) -> None:
    settings = nano("roles.balanced.loss.cls=1", "deployment.always_on=true", members=["yolov8n:balanced", "yolo11n"])
    (tmp_path / "again.yaml").write_text(as_yaml(settings), encoding="utf-8")
    assert load_run_settings(NanoSettings, tmp_path / "again.yaml") == settings
    shore = load_run_settings(ShoreSettings, None, ["data=d"])
    (tmp_path / "shore.yaml").write_text(as_yaml(shore), encoding="utf-8")
    assert load_run_settings(ShoreSettings, tmp_path / "shore.yaml") == shore


def test_other_members_may_come_and_go() -> None:
    few, many = (
        nano(members=["balanced", "high_precision"]),
        nano(members=["high_recall", "balanced", "high_precision"]),
    )
    for settings in (few, many):
        assert "yolov8m_balanced" in [one.name for one in settings.named_members]
    alike = [
        decided(
            member_settings(settings, next(o for o in settings.named_members if o.role.name == "balanced"), None),
            Decides.RESULT,
        )
        for settings in (few, many)
    ]
    assert alike[0] == alike[1]


def test_a_role_can_be_changed() -> None:
    settings = nano("roles.high_recall.loss.focal.alpha=0.8", "roles.high_recall.training.best_metric=recall")
    recall, balanced = (member_settings(settings, one, None) for one in settings.named_members[:2])
    assert (recall.loss.focal.alpha, recall.training.best_metric) == (0.8, "recall")
    assert balanced.loss.focal.alpha == 0.5


def test_one_of_the_ensembles_can_be_off_but_not_all() -> None:
    content = {"student": {"data": "d"}, "nano": {"data": "d"}, "shore": {"data": "d", "enabled": False}}
    assert list(EnsemblesSettings.model_validate(content).made) == ["nano"]
    with pytest.raises(ValueError, match="all off"):
        EnsemblesSettings.model_validate({**content, "nano": {"data": "d", "enabled": False}})
    assert isinstance(EnsemblesSettings.model_validate(content).nano, EnsembleTrainingSettings)
