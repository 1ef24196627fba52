"""What a run puts weight on: critical classes, draws, pasting; and that nothing of it changes a run that has it off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marauder.core.decides import at_default, decided
from marauder.core.errors import UserError
from marauder.core.files import read_json, write_json
from marauder.core.settings import Decides
from marauder.critical.settings import CriticalSettings
from marauder.engine.task import SampleContext, SampleKey
from marauder.engine.training_identity import describe_differences
from marauder.imaging.augmentation import AugmentationSettings, Source
from marauder.imaging.copy_paste_settings import CopyPasteSettings
from marauder.mining.hard_negatives import HardNegative, Trust
from marauder.mining.hard_negatives_file import read_negatives, read_reviewed, write_mining
from marauder.runs.recipes import load_run_settings
from marauder.tasks.detection.class_weighting import critical_classes
from marauder.tasks.detection.data import DetectionData
from marauder.tasks.detection.pasting import UNLABELLED, Negative, PastePlan, Pasting
from marauder.tasks.detection.settings import DetectionSettings
from marauder.tasks.detection.training import DetectionTask

NAMES = ("disc", "square", "cross")
TRUST = Trust(np.full(3, 0.5), np.full(3, True))


def settings(data: Path, *words: str) -> DetectionSettings:
    return load_run_settings(
        DetectionSettings, None, ["training.seed=3", *words], data=data, model="yolov8t", image_size=64
    )  # fmt: skip


def task(data: Path, *words: str) -> DetectionTask:
    return DetectionTask(DetectionData(settings(data, *words)).plan(), None, 0)


def keys(task: DetectionTask, epoch: int = 0) -> list[SampleKey]:
    return [SampleKey(epoch, index) for index in range(task.training_length)]


def weights_by(settings: DetectionSettings) -> dict[str, Any]:
    return decided(settings, Decides.RESULT)


def test_what_emphasises_decides_the_weights_and_what_is_off_does_not(small_reef: Path) -> None:
    plain = weights_by(settings(small_reef))
    assert plain["copy_paste"] == plain["hard_negatives"] == plain["loss"]["focal"] == "off"
    for words in (
        "loss.cls=1",
        "balance.kind=repeat_factor",
        "copy_paste.probability=0.5",
        "loss.focal.enabled=true",
        "critical=[disc]",
    ):
        assert weights_by(settings(small_reef, words)) != plain, words
    assert weights_by(settings(small_reef, "copy_paste.most=4", "loss.focal.gamma=3")) == plain


def test_how_pasting_is_done_counts_where_hard_negatives_are_pasted(small_reef: Path, tmp_path: Path) -> None:
    file = _negatives(tmp_path, DetectionData(settings(small_reef)))
    words = ("critical=[disc]", f"hard_negatives.file={file}")
    used = settings(small_reef, *words)
    assert weights_by(used) != weights_by(settings(small_reef, *words, "copy_paste.scale=0.6"))
    unused = settings(small_reef, *words, "hard_negatives.paste=0", "copy_paste.scale=0.6")
    assert weights_by(unused)["copy_paste"] == "off"
    # A record from before the section counted here called it off.
    older = {"data": "x", "settings": {**weights_by(used), "copy_paste": "off"}}

    def differences(now: DetectionSettings) -> str:
        return describe_differences(older, {"data": "x", "settings": weights_by(now)}, at_default(now, Decides.RESULT))

    assert differences(used) == ""
    assert "copy_paste.scale" in differences(settings(small_reef, *words, "copy_paste.scale=0.6"))
    assert "copy_paste" in differences(settings(small_reef, *words, "copy_paste.probability=0.3"))


def test_a_run_that_mines_its_own_counts_how_it_pastes_them(small_reef: Path) -> None:
    def by(*words: str) -> dict[str, Any]:
        plan = load_run_settings(CriticalSettings, None, ["copy_paste.probability=0", *words], data=small_reef)
        return weights_by(plan)

    assert by() != by("copy_paste.scale=0.6")
    assert by("hard_negatives.paste=0") == by("hard_negatives.paste=0", "copy_paste.scale=0.6")


def test_boxes_that_become_ignored_are_other_data(small_reef: Path) -> None:
    data = DetectionData(settings(small_reef))
    before = data.identity()
    first, *others = data.dataset.records
    ignored = replace(first, ignored=np.ones(len(first.boxes), bool))
    data.dataset = data.dataset.with_records((ignored, *others))
    assert data.identity() != before


def test_critical_classes_are_names_of_the_data_set_or_those_of_the_taxonomy(small_reef: Path) -> None:
    assert DetectionData(settings(small_reef, "critical=[cross, disc]")).critical == ("disc", "cross")
    assert DetectionData(settings(small_reef)).critical == ()
    for words in ("critical=[sea monster]", "loss.focal.class_weights={sea monster: 2}"):
        with pytest.raises(UserError, match=r"no class named 'sea monster'; there are: disc, square, cross"):
            DetectionData(settings(small_reef, words))
    for words in ("training.best_metric=critical_with_floor", "copy_paste.probability=0.2"):
        with pytest.raises(UserError, match="needs critical classes"):
            DetectionData(settings(small_reef, words))


def test_the_taxonomy_knows_critical_classes(small_reef: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.yaml"
    data.write_text(
        small_reef.read_text(encoding="utf-8").replace("disc", "Lionfish").replace("cross", "Shark"), encoding="utf-8"
    )
    assert DetectionData(settings(data)).critical == ("Lionfish",)


def test_balanced_draws_make_critical_pictures_come_more_often_and_epochs_differ(small_reef: Path) -> None:
    words = ("critical=[disc]", "balance.kind=repeat_factor", "balance.critical_factor=2.5", "augmentation.mosaic=0")
    balanced, plain = task(small_reef, *words), task(small_reef)
    shows = np.array([(record.classes == 0).any() for record in plain.plan.training])
    expected = np.where(shows, 2.5, 1.0).sum()
    assert plain.training_length == len(shows) < balanced.training_length == round(expected)
    drawn = [balanced._record(0, index) for index in range(balanced.training_length)]
    counts = np.bincount(drawn, minlength=len(shows))
    assert set(counts[shows]) <= {2, 3} and (counts[~shows] >= 1).all()
    epochs = {tuple(balanced._record(e, i) for i in range(balanced.training_length)) for e in range(8)}
    assert len(epochs) > 1, "what is drawn a half time more is drawn in some epochs"
    names = balanced.describe_batch(keys(balanced)[:3])
    assert names == [str(balanced.plan.training[place].picture) for place in drawn[:3]]
    batch = balanced.load(keys(balanced), SampleContext())
    assert len(batch.tensors["images"]) == balanced.training_length


def test_samples_are_functions_of_their_key_with_everything_on(small_reef: Path) -> None:
    words = ("critical=[disc]", "balance.kind=class_aware", "copy_paste.probability=1", "copy_paste.least_side=5")
    one, other = task(small_reef, *words), task(small_reef, *words)
    first = one.load(keys(one, 2)[::-1], SampleContext()).tensors["images"].flip(0)
    assert first.equal(other.load(keys(other, 2), SampleContext()).tensors["images"])


def test_pasted_animals_are_of_critical_classes_and_bring_their_boxes(small_reef: Path) -> None:
    words = ("critical=[disc]", "copy_paste.least_side=5", "augmentation.mosaic=0", "copy_paste.most=1")
    plain = task(small_reef, *words)
    pasted = task(small_reef, *words, "copy_paste.probability=1")
    quiet = AugmentationSettings(mosaic=0, translate=0, scale=0, flip_horizontal=0, hue=0, saturation=0, value=0)
    for one in (plain, pasted):
        one.plan = replace(one.plan, augmentation=quiet)

    def boxes(of: DetectionTask) -> list[int]:
        classes = [of.load([key], SampleContext()).tensors["cls"] for key in keys(plain)]
        return [int((one == c).sum()) for c in range(3) for one in classes]

    before, after = boxes(plain), boxes(pasted)
    count = len(keys(plain))
    assert sum(after[:count]) > sum(before[:count]), "discs came"
    assert sum(after[count:]) <= sum(before[count:]), "and nothing else"


def _negatives(folder: Path, data: DetectionData, true: str = "") -> Path:
    record = data.plan().training[0]
    box = record.boxes[0] if true else np.array([1.0, 1.0, 20.0, 20.0])
    entry = HardNegative(record.key, record.group, str(record.picture), tuple(box), "disc", true, 0.7, sampled=True)
    return write_mining(folder, [entry], [], [], "abc", NAMES, 1, TRUST, 0.9).negatives


def test_pictures_with_hard_negatives_are_drawn_more_often_and_the_content_of_the_file_counts(
    small_reef: Path, tmp_path: Path
) -> None:
    data = DetectionData(settings(small_reef))
    file = _negatives(tmp_path, data)
    used = settings(small_reef, f"hard_negatives.file={file}", "hard_negatives.repeat=3")
    plan = DetectionData(used).plan()
    assert plan.resampling is not None and plan.resampling.length == len(plan.training) + 2
    drawn = [plan.resampling.record_at(3, 0, index) for index in range(plan.resampling.length)]
    assert drawn.count(0) == 3 and set(drawn) == set(range(len(plan.training)))
    moved = tmp_path / "elsewhere.json"
    moved.write_bytes(file.read_bytes())
    same = settings(small_reef, f"hard_negatives.file={moved}", "hard_negatives.repeat=3")
    assert weights_by(same) == weights_by(used)
    write_json(moved, {**read_json(moved), "weights": "other"})
    assert weights_by(same) != weights_by(used)


def test_pasted_negatives_bring_no_label_and_confusions_their_true_one(small_reef: Path) -> None:
    draw = np.random.default_rng(0)
    target = Source(draw.integers(80, 120, (64, 64, 3)).astype(np.uint8), np.zeros((0, 4)), np.zeros(0, np.int64))
    donor = Source(
        draw.integers(0, 255, (64, 64, 3)).astype(np.uint8), np.array([[10.0, 10.0, 30.0, 30.0]]), np.array([1])
    )
    always = CopyPasteSettings(probability=1, most=1, least_side=4)
    for label, expected in ((UNLABELLED, []), (1, [1])):
        box = np.array([36.0, 36.0, 56.0, 56.0]) if label == UNLABELLED else donor.boxes[0]
        plan = PastePlan(0, {}, CopyPasteSettings(), (Negative(0, box, label),), always)
        result = Pasting(plan, lambda _: (donor, 1.0)).apply(target, 0, 0, 0)
        assert (result.picture != target.picture).any() and result.classes.tolist() == expected
    assert not PastePlan(0, {}, always, (), always).active


def test_negatives_that_have_been_labelled_since_are_not_pasted(small_reef: Path, tmp_path: Path) -> None:
    data = DetectionData(settings(small_reef))
    record = data.plan().training[0]
    entry = HardNegative(
        record.key, record.group, str(record.picture), tuple(record.boxes[0]), "disc", "", 0.7, sampled=True
    )
    file = write_mining(tmp_path, [entry], [], [], "abc", NAMES, 1, TRUST, 0.9).negatives
    assert DetectionData(settings(small_reef, f"hard_negatives.file={file}")).plan().pasting is None
    name = NAMES[int(record.classes[0])]
    confused = _negatives(tmp_path / "confused", data, name)
    pasting = DetectionData(settings(small_reef, f"hard_negatives.file={confused}")).plan().pasting
    assert pasting is not None and pasting.negatives[0].label == record.classes[0]


def test_a_file_that_is_no_list_of_negatives_is_told(small_reef: Path, tmp_path: Path) -> None:
    broken = tmp_path / "hard_negatives.json"
    with pytest.raises(UserError, match="no such file"):
        read_negatives(broken)
    write_json(broken, {"format": 1, "entries": [{"key": "a"}]})
    with pytest.raises(UserError, match="cannot be read"):
        read_negatives(broken)
    write_json(broken, [])
    with pytest.raises(UserError, match="mine hard negatives again"):
        read_negatives(broken)
    write_json(broken, {"suspected": [{"key": "a", "predicted": "disc", "box": [0, 0, 1, 1], "verdict": "maybe"}]})
    with pytest.raises(UserError, match="neither 'background' nor 'missing'"):
        read_reviewed(broken)


def test_settings_of_step_5_that_contradict_one_another_are_refused(small_reef: Path) -> None:
    def load(*words: str) -> CriticalSettings:
        found = load_run_settings(CriticalSettings, None, list(words), data=small_reef)
        assert isinstance(found, CriticalSettings)
        return found

    assert load().training.best_metric == "critical_with_floor"
    assert load("training.epochs=7", "balance.limit=3").balance.kind == "repeat_factor"
    assert [load("training.epochs=10").epochs_of(name) for name in ("standard", "mined", "fine_tune")] == [4, 4, 2]
    assert [load("training.epochs=1").epochs_of(name) for name in ("standard", "mined", "fine_tune")] == [1, 1, 1]
    for word, words in {
        "stages.standard.share=0": "nothing to mine with",
        "hard_negatives.file=x.json": "mines its own",
        "others_floor=0.5": "floor.value",
    }.items():
        with pytest.raises(UserError, match=words):
            load(word)


def test_an_unknown_class_gets_the_nearest_name_or_the_taxonomys(tmp_path: Path) -> None:
    given = settings(tmp_path, "critical=[starfish,disk,Lobsterish]")
    with pytest.raises(UserError) as told:
        critical_classes(given, ("Disc", "Sea Star", "Sablefish"))
    text = str(told.value)
    assert all(f"no class named {name!r}" in text for name in ("starfish", "disk", "Lobsterish"))
    assert "starfish is called Sea Star in the default taxonomy" in text and "--taxonomy source" in text
    assert "'disk'; did you mean Disc?" in text and "'Lobsterish'; did you" not in text
    with pytest.raises(UserError) as told:
        critical_classes(settings(tmp_path, "critical=[DISC]"), NAMES)
    assert "'DISC'; did you mean disc?" in str(told.value) and "taxonomy" not in str(told.value)
