"""What settings decide: every one says it, and keys, identities and staleness follow from what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import ValidationError

from marauder.annotation.settings import AnnotationSettings
from marauder.core.decides import BY_CONTENT, at_default, decided, marks, names
from marauder.core.settings import Decides, Settings
from marauder.critical.settings import CriticalSettings
from marauder.data.frames import FramesSettings
from marauder.data.organize import OrganizeSettings
from marauder.deployment.settings import ProfileSettings
from marauder.ensembles.training_settings import NanoSettings, ShoreSettings
from marauder.exporting.settings import ExportSettings
from marauder.preprocessing.settings import PreprocessingSettings
from marauder.scenes.settings import SceneSettings
from marauder.selection.settings import SelectionSettings
from marauder.students.settings import StudentSettings
from marauder.survey.settings import PredictSettings
from marauder.tasks.detection.settings import BaselineSettings, DetectionSettings
from marauder.tasks.pretraining.settings import PretrainingSettings

RUNS = (
    DetectionSettings,
    BaselineSettings,
    PretrainingSettings,
    CriticalSettings,
    NanoSettings,
    ShoreSettings,
    StudentSettings,
)
JOBS = (
    SceneSettings,
    OrganizeSettings,
    FramesSettings,
    PreprocessingSettings,
    SelectionSettings,
    AnnotationSettings,
    ExportSettings,
    PredictSettings,
    ProfileSettings,
)


class Inner(Settings):
    enabled: bool = False
    strength: float = 1.0

    @property
    def is_off(self) -> bool:
        return not self.enabled


class Outer(Settings):
    decides: ClassVar[Decides] = Decides.RESULT

    rate: float = 0.1
    epochs: Annotated[int, Decides.LENGTH] = 3
    inner: Inner = Inner()
    start: Annotated[Path | None, BY_CONTENT] = None
    threads: Annotated[int, Decides.NOTHING] = 2


class Longer(Outer):
    epochs: int = 100


@pytest.mark.parametrize("model", [*RUNS, *JOBS])
def test_every_setting_says_what_it_decides(model: type[Settings]) -> None:
    assert [name for name, mark in marks(model).items() if mark is None] == []


@pytest.mark.parametrize("model", RUNS)
def test_what_decides_the_weights_is_not_lost(model: type[Settings]) -> None:
    weights = names(model, Decides.RESULT)
    assert {"training.seed", "training.batch_size", "training.optimizer.learning_rate", "model"} <= weights
    if model is not PretrainingSettings:
        assert {"others_floor", "critical", "loss.box", "balance.kind", "augmentation.mosaic", "weights"} <= weights
    assert names(model, Decides.LENGTH) >= {"training.epochs", "training.patience"}
    assert names(model, Decides.NOTHING) >= {"training.workers", "training.device", "processes"}


def test_a_mark_holds_for_what_overrides_the_field() -> None:
    assert marks(Longer)["epochs"] is Decides.LENGTH


def test_a_section_without_effect_counts_as_off() -> None:
    assert decided(Outer(inner=Inner(strength=5.0)), Decides.RESULT) == {"rate": 0.1, "inner": "off", "start": None}
    on = decided(Outer(inner=Inner(enabled=True)), Decides.RESULT)
    assert on["inner"] == {"enabled": True, "strength": 1.0}


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    one, copy, other = (tmp_path / name for name in ("one", "copy", "other"))
    for path, content in ((one, "a"), (copy, "a"), (other, "b")):
        path.write_text(content)
    first, second, third = (decided(Outer(start=path), Decides.RESULT)["start"] for path in (one, copy, other))
    assert first == second != third
    assert decided(Outer(start=one), Decides.RESULT, by_content=False)["start"] == str(one)


def test_a_file_in_an_optional_annotated_field_counts_by_its_content(tmp_path: Path) -> None:
    weights = tmp_path / "start.pt"
    weights.write_bytes(b"1")
    before = decided(DetectionSettings(data=tmp_path, weights=weights), Decides.RESULT)["weights"]
    weights.write_bytes(b"2")
    assert decided(DetectionSettings(data=tmp_path, weights=weights), Decides.RESULT)["weights"] != before


def test_only_what_has_its_default_may_be_unknown_to_older_records() -> None:
    assert at_default(Outer(rate=0.2), Decides.RESULT) == {"inner", "start"}


def test_changes_are_validated() -> None:
    settings = DetectionSettings(data=Path("x"))
    assert settings.changed({"training.optimizer.learning_rate": 0.5}).training.optimizer.learning_rate == 0.5
    with pytest.raises(ValidationError, match="greater than 0"):
        settings.changed({"training.optimizer.learning_rate": -1})
    with pytest.raises(ValidationError, match="Extra inputs"):
        settings.changed({"no_such": 1})
