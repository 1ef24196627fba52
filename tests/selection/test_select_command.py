"""``marauder select`` as people type it, on real pictures: what it leaves behind, killed and gone on with, mistakes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from marauder.cli.select import app
from marauder.core import files
from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.settings import load_settings
from marauder.data.pictures import decode_picture
from marauder.data.reading import read_dataset
from marauder.data.records import Attribute, Dataset, Record
from marauder.data.writers import write_yolo
from marauder.models.files import load_detector, save_detector
from marauder.models.ultralytics_adapter import build_detector
from marauder.selection.features import detector_features
from marauder.selection.job import select_pictures
from marauder.selection.scoring import score_pool
from marauder.selection.settings import SelectionSettings
from marauder.testing.lively_detectors import lively_detector

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "marauder.cli.main", "select"]
NAMES = ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray")
SIZE = 96
WITHOUT_LABELS: dict[str, Any] = {
    "labelled": False, "boxes": np.zeros((0, 4)), "classes": np.zeros(0), "ignored": np.zeros(0), "split": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def workspace(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 real pictures as a data set: labelled for training and validation, unlabelled; two detectors."""
    folder = tmp_path_factory.mktemp("workspace")
    whole = list(read_dataset(shared_data / "aquarium", names=NAMES).records)
    clips: dict[str, list[Record]] = {}
    for record in whole:
        clips.setdefault(record.group, []).append(record)
    clip = next(found for found in clips.values() if len(found) >= 3)[:3]
    stills = [found[0] for found in clips.values() if len(found) == 1][:39]
    records = [replace(clip[0], split="val"), *(replace(frame, **WITHOUT_LABELS) for frame in clip[1:])]
    for place, record in enumerate(stills):
        split = "train" if place < 9 else "val"
        site: dict[str, Attribute] = {"site": "reef" if place % 3 else "harbour"}
        kept = replace(record, split=split) if place < 13 else replace(record, **WITHOUT_LABELS)
        records.append(replace(kept, attributes=site))
    write_yolo(Dataset(NAMES, tuple(records)), folder / "data", mode="copy")
    inputs = [cv2.resize(decode_picture(record.picture), (SIZE, 64)) for record in stills[:8]]
    batch = np.stack(inputs).transpose(0, 3, 1, 2).astype(np.float32) / 255
    for seed, name in enumerate("ab"):
        (folder / name).mkdir()
        save_detector(lively_detector("yolov8t", NAMES, batch, seed), folder / name / "best", SIZE, {})
    (folder / "pictures").mkdir()
    for record in records[3:]:
        shutil.copyfile(record.picture, folder / "pictures" / record.picture.name)
    return folder


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(workspace)
    return workspace


def settings(output: str, **changes: Any) -> SelectionSettings:
    # The detectors of these tests are lively and never right: their doubts are to be looked at all the same.
    fields = {"pool": "data/data.yaml", "models": ["a/best.pt"], "count": 12, "output": output, "map_points": 100,
              "min_map50": 0}  # fmt: skip
    return SelectionSettings(**{**fields, **changes})


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=environment
    )  # fmt: skip


def content(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "selection.json").read_text(encoding="utf-8")))


def test_the_script_chooses_and_tells_and_does_nothing_twice(workspace: Path) -> None:
    script = str(REPOSITORY / "scripts" / "run_active_learning.sh")
    words = ["bash", script, "--unlabeled-dir", "data/data.yaml", "--model", "a/best.pt", "--num-samples", "10"]
    done = run([*words, "--output", "script", "critical=[starfish]", "min_map50=0"], workspace)
    assert done.returncode == 0, done.stderr
    assert "10 of 26 pictures chosen by the strategy hybrid" in done.stdout
    assert "left out: 2 pictures: they are of a clip that validation or test holds" in done.stdout
    assert "marauder annotation export --data data/data.yaml --selection script --model a/best.pt" in done.stdout
    output = workspace / "script"
    found = content(output)
    assert found["format"] == 1 and found["names"] == list(NAMES) and found["pool"] == "data/data.yaml"
    pool = {record.key: record for record in read_dataset(workspace / "data") if not record.labelled}
    assert [pick["rank"] for pick in found["picks"]] == list(range(1, 11))
    for pick in found["picks"]:
        assert pool[pick["key"]].picture.resolve() == (output / pick["picture"]).resolve()
        assert (output / pick["file"]).resolve() == (output / pick["picture"]).resolve()
        assert pick["group"] == pool[pick["key"]].group
        assert set(pick["scores"]) == {"entropy", "margin"} and pick["estimated_boxes"] > 0
    assert sum(pick["kind"] == "random" for pick in found["picks"]) == 2
    assert {path.name for path in (output / "images").iterdir()} == {Path(p["file"]).name for p in found["picks"]}
    assert found["price"]["boxes"] == pytest.approx(sum(p["estimated_boxes"] for p in found["picks"]), abs=0.1)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "://" not in page and page.count("data:image/") == 2 and "starfish" in page
    for name in ("contact_sheet.jpg", "pool_map.png"):
        assert min(Image.open(output / name).size) > 400
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.name != ".lock"}
    again = run([*words, "--output", "script", "critical=[starfish]", "min_map50=0", "--resume"], workspace)
    assert again.returncode == 0 and "done before; nothing changed since" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.name != ".lock"}


@pytest.mark.parametrize("strategy", ["hybrid", "k_center"])
def test_a_detector_that_sees_the_same_everywhere_gives_way_to_the_look_of_pictures(here: Path, strategy: str) -> None:
    detector = load_detector(here / "a" / "best.pt").model
    with torch.no_grad():
        for module in detector.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # every layer gives its bias, whatever it is shown
                module.weight.zero_()
                module.bias.fill_(0.5)
    save_detector(detector, here / "dull", SIZE, {})
    chosen = settings(f"dull_{strategy}", models=["dull.safetensors"], strategy=strategy, random_share=0)
    summary = select_pictures(chosen, Clock())
    assert any(
        "how pictures look (light, colour, layout): the detector's features hardly" in one for one in summary.changes
    )
    picks = content(here / chosen.output)["picks"]
    assert [pick["key"] for pick in picks] != sorted(pick["key"] for pick in picks), "chosen by the order of the files"
    if strategy == "k_center":
        distances = [float(pick["reason"].rpartition("distance ")[2].rstrip(")")) for pick in picks]
        assert min(distances) > 0.1
        by_look = settings("by_look", models=[], strategy="k_center", random_share=0)
        select_pictures(by_look, Clock())
        assert [one["key"] for one in picks] == [one["key"] for one in content(here / "by_look")["picks"]]
    first = summary.message().splitlines()[0]
    page = (here / chosen.output / "report.html").read_text(encoding="utf-8")
    by_look, no_trust = "Likeness is that of how pictures look", "The detector's uncertainty means nothing"
    told = by_look if strategy == "k_center" else no_trust
    assert first.startswith(told)
    assert page.index("Not chosen as requested") < page.index("how pictures look (light") < page.index("Why these")
    again = select_pictures(chosen, Clock())
    assert again.reused and again.changes == summary.changes


@pytest.mark.parametrize("at", ["work/scores", "pool_map.png"])
def test_killed_anywhere_the_same_command_goes_on_to_the_same_selection(workspace: Path, at: str) -> None:
    name = "killed_" + "".join(letter for letter in at if letter.isalpha())
    words = ["--unlabeled-dir", "data/data.yaml", "--model", "a/best.pt", "--num-samples", "12", "--output", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=workspace, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list((workspace / name).glob(at)) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    shards = {path: path.stat().st_mtime_ns for path in (workspace / name).glob("work/scores/scores-*.npz")}
    again = run([*COMMAND, *words], workspace)
    assert again.returncode == 0, again.stderr
    assert shards == {path: path.stat().st_mtime_ns for path in shards}, "finished scores were computed again"
    whole = select_in(workspace, "whole")
    assert (workspace / name / "selection.json").read_bytes() == (whole / "selection.json").read_bytes()
    assert not list((workspace / name).rglob("*.partial"))


def select_in(workspace: Path, output: str) -> Path:
    """The same selection, never interrupted."""
    if not (workspace / output / "selection.json").exists():
        words = ["--unlabeled-dir", "data/data.yaml", "--model", "a/best.pt", "--num-samples", "12"]
        assert run([*COMMAND, *words, "--output", output], workspace).returncode == 0
    return workspace / output


def test_a_spent_budget_of_time_stops_before_anything_is_chosen(here: Path) -> None:
    words = ["--unlabeled-dir", "data", "--model", "a/best.pt", "--output", "late", "--max-hours", "0.0000001"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, Interrupted) and "time budget" in str(result.exception)
    assert not (here / "late" / "selection.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--model", "a/best.pt", "b/best.pt"],
        ["--model", "a/best.pt,b/best.pt", "--output", "out"],
        ["--model", "a/best.pt", "--output", "out", "--model", "b/best.pt"],
        ["--models", "a/best.pt", "b/best.pt", "top_k=3"],
    ],
)
def test_models_can_be_given_in_every_form(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[SelectionSettings] = []

    def catch(given: SelectionSettings, clock: Clock) -> None:
        found.append(given)
        raise UserError("caught")

    monkeypatch.setattr("marauder.selection.job.select_pictures", catch)
    CliRunner().invoke(app, ["--unlabeled-dir", "data", *words, "--use-ensemble"])
    assert [str(path) for path in found[0].models] == ["a/best.pt", "b/best.pt"] and found[0].use_ensemble


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "a/best.pt"], "pool: is missing: give it in the settings file or as --unlabeled-dir"),
        (["--unlabeled-dir", "nowhere"], "nowhere: no such file or folder"),
        (["--unlabeled-dir", "data", "--model", "nowhere.pt"], "nowhere.pt: no such file"),
        (["--unlabeled-dir", "data", "--strategy", "uncertainty"], "name one with --model"),
        (["--unlabeled-dir", "data", "--strategy", "best"], "no strategy named 'best'"),
        (["--unlabeled-dir", "data", "--use-ensemble", "--model", "a/best.pt"], "two models"),
        (["--unlabeled-dir", "pictures", "--budget-boxes", "50"], "--budget-boxes: nothing says how many boxes"),
        (["--unlabeled-dir", "data", "--resume", "--fresh"], "give only one of them"),
        (["--unlabeled-dir", "data", "class_quotas.whale=3", "--model", "a/best.pt"], "no class named 'whale'"),
        (["--unlabeled-dir", "data", "--output", "a"], "is not empty and holds no selection"),
    ],
)
def test_a_users_mistake_is_told_in_words(words: list[str], said: str, here: Path) -> None:
    given = words if "--output" in words else [*words, "--output", "mistake"]
    result = CliRunner().invoke(app, given)
    assert isinstance(result.exception, UserError) and said in str(result.exception)


def test_a_detector_that_sees_nothing_gives_typical_pictures_and_no_free_boxes(here: Path) -> None:
    (here / "blind").mkdir()
    save_detector(build_detector("yolov8t", NAMES, seed=3), here / "blind" / "best", SIZE, {})
    chosen = settings("blindly", models=["blind/best.pt"], min_labelled_share=0, min_map50=0.1, random_share=0)
    summary = select_pictures(chosen, Clock())
    told = summary.message()
    assert summary.strategy == "typical" and set(summary.kinds) <= {"typical", "far"}
    assert "in 100 % of the pool it sees no box at all with a score of 0.05 or more" in told
    assert "its mAP50 on validation pictures is 0.000" in told
    labelled = [record for record in read_dataset("data") if record.labelled]
    mean = np.mean([len(record.boxes) for record in labelled])
    found = content(here / "blindly")
    assert all(pick["estimated_boxes"] == pytest.approx(mean, abs=1e-3) for pick in found["picks"])
    assert found["price"]["boxes"] == pytest.approx(12 * mean, abs=0.1)
    assert f"the mean of the {len(labelled)} labelled pictures, is used instead" in told
    page = (here / "blindly" / "report.html").read_text(encoding="utf-8")
    assert "sees no box at all" in page and "unsure what is in" not in page


def test_a_blind_detector_and_nothing_labelled_say_that_boxes_are_not_known(here: Path) -> None:
    (here / "blinder").mkdir()
    save_detector(build_detector("yolov8t", NAMES, seed=4), here / "blinder" / "best", SIZE, {})
    chosen = settings("unknown", pool="pictures", models=["blinder/best.pt"])
    select_pictures(chosen, Clock())
    found = content(here / "unknown")
    assert found["price"]["boxes"] is None and {pick["estimated_boxes"] for pick in found["picks"]} == {None}
    with pytest.raises(UserError, match="nothing says how many boxes"):
        select_pictures(chosen.model_copy(update={"budget_boxes": 9}), Clock())


def test_without_a_detector_typical_pictures_of_a_plain_folder(here: Path) -> None:
    summary = select_pictures(settings("plain", pool="pictures", models=()), Clock())
    assert (summary.strategy, summary.picked, summary.candidates) == ("typical", 12, 39)
    assert "No detector was named" in summary.message() and "boxes come on top" in summary.message()
    assert all(pick["estimated_boxes"] is None for pick in content(here / "plain")["picks"])


def test_pictures_labelled_in_another_data_set_are_no_candidates(here: Path) -> None:
    summary = select_pictures(settings("elsewhere", pool="pictures", labelled="data/data.yaml", count=39), Clock())
    known = {record.picture.stem for record in read_dataset("data") if record.labelled and record.picture.is_file()}
    assert summary.left_out == {"are labelled already": 13}
    assert summary.picked == 26
    assert not known & {Path(pick["picture"]).stem for pick in content(here / "elsewhere")["picks"]}


def test_one_bad_picture_is_set_aside_and_told(here: Path) -> None:
    shutil.copytree("pictures", "damaged")
    victims = sorted(Path("damaged").iterdir())[:2]
    victims[0].write_bytes(b"")
    victims[1].write_bytes(victims[1].read_bytes()[:3000])
    summary = select_pictures(settings("aside", pool="damaged", count=39), Clock())
    assert summary.picked == 37 and len(summary.set_aside) == 2
    assert any(victims[0].stem in place for place in summary.set_aside)
    assert victims[1].stem not in {pick["key"] for pick in content(here / "aside")["picks"]}


def test_several_models_look_together_or_the_first_alone(here: Path) -> None:
    models = ["a/best.pt", "b/best.pt"]
    alone = select_pictures(settings("first", models=models), Clock())
    assert any("only the first model, a/best.pt, was used" in note for note in alone.notes)
    both = select_pictures(settings("both", models=models, use_ensemble=True), Clock())
    assert any("2 models" in note for note in both.notes)
    measures = set(content(here / "both")["picks"][0]["scores"])
    assert measures == {"entropy", "margin", "mutual_information", "predictive_entropy"}


def test_quotas_of_slices_and_classes_and_the_budget_in_boxes(here: Path) -> None:
    wanted = settings("quotas", slice_quotas={"site=harbour": 6}, class_quotas={"fish": 3}, random_share=0)
    select_pictures(wanted, Clock())
    harbour = {record.key for record in read_dataset("data") if record.attributes.get("site") == "harbour"}
    picks = content(here / "quotas")["picks"]
    assert sum(pick["key"] in harbour for pick in picks) >= 6
    assert sum(pick["expected_classes"].get("fish", 0) >= 0.5 for pick in picks) >= 3
    budget = sum(pick["estimated_boxes"] for pick in picks) / 2
    select_pictures(settings("boxes", count=30, budget_boxes=int(budget)), Clock())
    assert sum(pick["estimated_boxes"] for pick in content(here / "boxes")["picks"]) <= budget


def test_another_choice_replaces_images_and_keeps_the_former_list(here: Path) -> None:
    select_pictures(settings("replaced"), Clock())
    former = (here / "replaced" / "selection.json").read_bytes()
    select_pictures(settings("replaced", count=5, place="copy"), Clock())
    assert (here / "replaced" / "selection.superseded.json").read_bytes() == former
    files = sorted((here / "replaced" / "images").iterdir())
    assert len(files) == 5 and not any(path.is_symlink() for path in files)


def test_a_kill_while_a_choice_is_replaced_loses_no_list(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    select_pictures(settings("cut"), Clock())
    former = (here / "cut" / "selection.json").read_bytes()
    real, written = files.atomic_path, list[str]()

    @contextmanager
    def killed(path: Path) -> Iterator[Path]:
        """Lets one of the lists be written, and no second."""
        if path.name.startswith("selection.") and written:
            raise KeyboardInterrupt
        with real(path) as temporary:
            yield temporary
        written.extend([path.name] if path.name.startswith("selection.") else [])

    monkeypatch.setattr(files, "atomic_path", killed)
    with pytest.raises(KeyboardInterrupt):
        select_pictures(settings("cut", count=5), Clock())
    assert former in [path.read_bytes() for path in (here / "cut").glob("selection*.json")]
    monkeypatch.setattr(files, "atomic_path", real)
    select_pictures(settings("cut", count=5), Clock())
    assert len(content(here / "cut")["picks"]) == 5
    assert (here / "cut" / "selection.superseded.json").read_bytes() == former


def test_lost_outputs_are_made_again_from_kept_scores(here: Path) -> None:
    select_pictures(settings("lost"), Clock())
    first = (here / "lost" / "selection.json").read_bytes()
    (here / "lost" / "contact_sheet.jpg").unlink()
    next((here / "lost" / "images").iterdir()).unlink()
    summary = select_pictures(settings("lost"), Clock())
    assert not summary.reused and summary.picked == len(list((here / "lost" / "images").iterdir()))
    assert (here / "lost" / "contact_sheet.jpg").is_file()
    assert (here / "lost" / "selection.json").read_bytes() == first
    assert select_pictures(settings("lost"), Clock()).reused


def test_other_labels_are_another_selection(here: Path) -> None:
    shutil.copytree("data", "changing")
    select_pictures(settings("changes", pool="changing"), Clock())
    label = sorted(Path("changing/labels/train").iterdir())[0]
    label.write_text("0 0.5 0.5 0.1 0.1\n", encoding="utf-8")
    assert not select_pictures(settings("changes", pool="changing"), Clock()).reused


def test_labelled_and_unlabelled_pictures_are_seen_alike(here: Path) -> None:
    records = [record for record in read_dataset("data") if not record.labelled][:5]
    found = score_pool(records, settings("alike"), NAMES, Clock(), here / "alike_scores", [])
    labelled = detector_features(records, Path("a/best.pt"), settings("alike"), Clock(), here / "alike_labelled")
    assert np.allclose(found.features, labelled, atol=1e-5)


def test_a_stop_between_blocks_leaves_nothing_half_done(here: Path) -> None:
    clock = Clock()
    clock.signal_name = "SIGTERM"
    with pytest.raises(Interrupted):
        select_pictures(settings("stopped"), clock)
    assert select_pictures(settings("stopped"), Clock()).picked == 12


def test_everything_labelled_is_told(here: Path) -> None:
    labelled = [record for record in read_dataset("data") if record.labelled]
    write_yolo(Dataset(NAMES, tuple(labelled)), "complete")
    with pytest.raises(UserError, match="every picture is labelled already"):
        select_pictures(settings("nothing", pool="complete"), Clock())


def test_the_detectors_of_the_tests_answer_differently(workspace: Path) -> None:
    one, other = (load_detector(workspace / name / "best.pt").model.state_dict() for name in "ab")
    assert any((one[key] != other[key]).any() for key in one)


@pytest.mark.parametrize(
    ("former", "name"),
    [("typical_below", "min_labelled_share"), ("least_map50", "min_map50"), ("most_unseen", "max_unseen_share")],
)
def test_a_renamed_setting_is_told_with_its_new_name(former: str, name: str) -> None:
    with pytest.raises(UserError, match=f"{former}: no such setting here: it is called {name} now"):
        load_settings(SelectionSettings, None, [f"{former}=0.2"], pool="data")
    assert name in SelectionSettings.model_fields
