"""The generated reef: exact boxes, the same bytes whoever draws them, and nothing lost when it is killed."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.clock import EXIT_INTERRUPTED, Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import read_lines
from marauder.data.reading import read_dataset
from marauder.data.taxonomy import Taxonomy
from marauder.imaging.formation import WATER_TYPES, Water, backscatter, direct_signal
from marauder.scenes.composition import LEAST_CONTRAST, farthest_seen, plan_clip
from marauder.scenes.rendering import LEAST_SIDE, LEAST_VISIBLE, ClipRenderer, Frame
from marauder.scenes.settings import SceneSettings
from marauder.scenes.species import NAMES, SPECIES
from marauder.scenes.writing import generate_scenes

COMMAND = (
    "import typer; from marauder.cli.scenes import app; from marauder.cli.main import run_with_boundary; "
    "run_with_boundary(typer.main.get_command(app))"
)
SMALL = {"count": 18, "clips": 6, "width": 160, "height": 120, "seed": 11}


def fingerprints(root: Path) -> dict[str, str]:
    """Checksum of every file of a data set, the lock left out."""
    return {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*"))
        if file.is_file() and file.name != "lock"
    }


def generate(output: Path, clock: Clock | None = None, **changes: object) -> Path:
    return generate_scenes(SceneSettings(output=output, **{"workers": 1, **SMALL, **changes}), clock or Clock())


def start(output: Path, *more: str) -> subprocess.Popen[str]:
    words = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--output", str(output), *words, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small data set, generated in one go in this process."""
    return generate(tmp_path_factory.mktemp("scenes") / "reference").parent


def frames() -> list[Frame]:
    return [ClipRenderer(5, clip, 320, 240).frame(clip % 4) for clip in range(24)]


def test_boxes_touch_the_extreme_visible_pixels() -> None:
    checked = 0
    for frame in frames():
        assert len(frame.boxes) == len(frame.classes) == len(frame.visible) == frame.attributes["objects"]
        assert frame.instances.max() == len(frame.boxes)
        for number, box in enumerate(frame.boxes, 1):
            rows, columns = np.nonzero(frame.instances == number)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert 0 <= box[0] < box[2] <= 320 and 0 <= box[1] < box[3] <= 240
            checked += 1
    assert checked > 60


def test_boxes_are_where_the_picture_changes_without_the_animal() -> None:
    """Independent of the masks: leave one animal out, and the pixels that change span its box within 2 pixels."""
    checked = 0
    for clip in range(30):
        renderer = ClipRenderer(8, clip, 320, 240)
        whole, plan = renderer.draw(0), renderer.plan
        boxes, _, visible = renderer.label(whole)
        for animal in plan.animals:
            # Shadows and see-through bodies change pixels that do not count as the animal.
            if animal.kind.bottom or animal.kind.opacity < 1:
                continue
            renderer.plan = replace(plan, animals=tuple(other for other in plan.animals if other is not animal))
            rest = renderer.draw(0)
            change = np.abs(whole.clean.astype(int) - rest.clean).max(axis=2)
            owners = Counter(whole.instances[change > 24].tolist())
            owners.pop(0, None)
            if len(rest.shown) != len(whole.shown) - 1 or not owners:
                continue
            number = owners.most_common(1)[0][0]
            if visible[number - 1] < 0.95:
                continue
            box = boxes[number - 1]
            # Soft edges change a little outside the box; parts of the background's colour change little inside.
            clearly, at_all = extent(change > 60), extent(change > 2)
            assert np.all(clearly[:2] >= box[:2] - 2) and np.all(clearly[2:] <= box[2:] + 2), (clip, animal)
            assert np.all(at_all[:2] <= box[:2] + 2) and np.all(at_all[2:] >= box[2:] - 2), (clip, animal)
            checked += 1
    assert checked > 25


def extent(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_visible_share_is_counted_and_hardly_visible_animals_are_left_out() -> None:
    partly = 0
    for clip in range(24):
        renderer = ClipRenderer(5, clip, 320, 240)
        drawn = renderer.draw(1)
        boxes, _, visible = renderer.label(drawn)
        for number, (item, _) in enumerate(drawn.shown, 1):
            count = int((drawn.instances == number).sum())
            assert visible[number - 1] == pytest.approx(min(1.0, count / item.whole))
            assert visible[number - 1] >= LEAST_VISIBLE
            side = min(boxes[number - 1, 2:] - boxes[number - 1, :2])
            assert side >= LEAST_SIDE * 320
            partly += visible[number - 1] < 0.9
    assert partly > 10


def test_nearer_things_hide_farther_ones() -> None:
    """Where stamps overlap, the pixel belongs to the nearest."""
    for clip in range(12):
        drawn = ClipRenderer(2, clip, 320, 240).draw(0)
        order = np.zeros(drawn.instances.shape, np.int64)
        for number, (item, _) in enumerate(drawn.shown, 1):
            ranges = drawn.ranges[drawn.instances == number]
            assert len(np.unique(ranges)) <= 2, "an animal stands at one range (thin tips of nearer ones aside)"
            order[item.window] = np.where(item.coverage >= 110, number, order[item.window])
        shown = drawn.instances > 0
        assert np.array_equal(drawn.instances[shown], order[shown])


def test_a_frame_depends_on_nothing_but_seed_clip_and_number() -> None:
    renderer = ClipRenderer(3, 4, 200, 150)
    for number in (2, 0, 5):
        renderer.frame(number)
    again, alone = renderer.frame(3), ClipRenderer(3, 4, 200, 150).frame(3)
    assert np.array_equal(again.picture, alone.picture) and np.array_equal(again.boxes, alone.boxes)
    assert not np.array_equal(alone.picture, ClipRenderer(4, 4, 200, 150).frame(3).picture)
    assert not np.array_equal(alone.picture, ClipRenderer(3, 5, 200, 150).frame(3).picture)


def test_frames_of_a_clip_move_and_share_water_and_animals() -> None:
    moved = 0
    for clip in range(8):
        renderer = ClipRenderer(6, clip, 240, 180)
        first, second = renderer.frame(0), renderer.frame(1)
        for name in ("clip", "background", "water_type", "depth_m", "turbidity", "visibility_m"):
            assert first.attributes[name] == second.attributes[name]
        assert not np.array_equal(first.clean, second.clean)
        moved += not np.array_equal(first.boxes, second.boxes)
    assert moved >= 6


def test_the_reef_is_varied_and_its_long_tail_is_the_declared_one() -> None:
    plans = [plan_clip(1, clip, 320, 240) for clip in range(400)]
    assert {plan.kind for plan in plans} == {"reef", "sand", "kelp", "open water"}
    assert {plan.water.water_type for plan in plans} == set(WATER_TYPES)
    empty = sum(not plan.animals for plan in plans)
    assert 0.04 < empty / len(plans) < 0.16
    counts = Counter(animal.species for plan in plans for animal in plan.animals)
    assert all(counts[index] > 0 for index in range(len(SPECIES)))
    boxes = [species.frequency * sum(species.school) / 2 for species in SPECIES]
    assert boxes == sorted(boxes, reverse=True)
    rare, common = counts[NAMES.index("Shark")], counts[NAMES.index("Reef Fish (unidentified)")]
    assert common > 12 * rare
    schools = [sum(animal.species == 0 for animal in plan.animals) for plan in plans]
    assert max(schools) >= 6
    for plan in plans:
        assert plan.kind != "open water" or not any(animal.kind.bottom for animal in plan.animals)


def test_names_are_those_of_the_species_table() -> None:
    assert set(NAMES) <= set(Taxonomy.load().class_names)


@given(st.sampled_from(WATER_TYPES), st.floats(1, 25), st.floats(0.5, 2))
@settings(max_examples=40, deadline=None)
def test_animals_stand_where_the_water_lets_them_be_seen(water_type: str, depth: float, turbidity: float) -> None:
    water = Water(water_type, depth, turbidity)
    place = np.array([farthest_seen(water)])
    own = 0.4 * direct_signal(water, place)
    contrast = float((own / (own + backscatter(water, place))).max())
    assert contrast >= LEAST_CONTRAST or place[0] == 0.5


def test_data_set_is_plain_yolo_with_clips_on_one_side(reference: Path) -> None:
    dataset = read_dataset(reference)
    assert dataset.names == NAMES and len(dataset) == SMALL["count"] and not dataset.problems
    assert set(dataset.splits()) == {"train", "val", "test"}
    split_of: dict[str, set[str | None]] = {}
    for record in dataset:
        clip, number = int(record.attributes["clip"]), int(record.attributes["frame"])
        split_of.setdefault(record.group, set()).add(record.split)
        frame = ClipRenderer(11, clip, 160, 120).frame(number)
        assert np.allclose(record.boxes, frame.boxes, atol=1e-4) and np.array_equal(record.classes, frame.classes)
        assert (record.width, record.height) == (160, 120)
        assert {"water_type", "depth_m", "turbidity", "visibility_m", "least_visible"} <= record.attributes.keys()
        picture = cv2.imread(str(record.picture))
        assert picture.shape == (120, 160, 3)
        assert np.abs(picture.astype(int) - frame.picture).mean() < 5.0
    assert len(split_of) == SMALL["clips"] and all(len(splits) == 1 for splits in split_of.values())
    rows = read_lines(reference / "records.jsonl")
    assert {row["key"]: len(row["visible"]) for row in rows} == {record.key: len(record.boxes) for record in dataset}


def test_same_bytes_whatever_the_workers(reference: Path, tmp_path: Path) -> None:
    generate(tmp_path / "two", workers=2)
    assert fingerprints(tmp_path / "two") == fingerprints(reference)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_and_run_again_gives_the_same_tree(reference: Path, tmp_path: Path, workers: str) -> None:
    output, moments = tmp_path / "killed", random.Random(int(workers))
    notes = output / ".scenes" / "clips"
    for wanted in (1, 3):
        process = start(output, "--workers", workers)
        deadline = time.monotonic() + 60
        while process.poll() is None and len(list(notes.glob("*.json"))) < wanted and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.communicate()
    generate(output)
    assert fingerprints(output) == fingerprints(reference)


def test_killed_while_it_clears_up_the_next_call_ends_it(reference: Path, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    generate(output)
    (output / ".scenes" / "clips").mkdir()
    (output / ".scenes" / "clips" / "000001.json").write_text("{}")
    generate(output)
    assert fingerprints(output) == fingerprints(reference)


def test_workers_end_with_their_main_process(tmp_path: Path) -> None:
    process = start(tmp_path / "orphans", "--workers", "2", "--count", "600")
    notes = tmp_path / "orphans" / ".scenes" / "clips"
    deadline = time.monotonic() + 60
    while not list(notes.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    children = [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(children) >= 2
    process.kill()
    process.communicate()
    while any(is_running(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(child) for child in children)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def test_stops_in_time_and_says_how_to_go_on(reference: Path, tmp_path: Path) -> None:
    output = tmp_path / "stopped"
    process = start(output, "--workers", "1")
    deadline = time.monotonic() + 60
    while not list((output / ".scenes" / "clips").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED and "SIGTERM received" in errors and "To continue" in errors
    assert not (output / "data.yaml").exists()
    generate(output)
    assert fingerprints(output) == fingerprints(reference)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_request_leaves_finished_clips(reference: Path, tmp_path: Path, workers: int) -> None:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    with pytest.raises(Interrupted):
        generate(tmp_path / "asked", Clock(stop_file=stop_file), workers=workers)
    stop_file.unlink()
    generate(tmp_path / "asked", workers=1)
    assert fingerprints(tmp_path / "asked") == fingerprints(reference)


def test_run_again_redraws_only_what_is_damaged(reference: Path, tmp_path: Path) -> None:
    output = tmp_path / "damaged"
    generate(output)
    pictures = sorted((output / "images").rglob("*.jpg"))
    pictures[0].write_bytes(pictures[0].read_bytes()[:500])
    pictures[4].unlink()
    harmed = {path.name.rsplit("-", 1)[0] for path in (pictures[0], pictures[4])}
    before = {path: path.stat().st_mtime_ns for path in pictures if path.exists()}
    generate(output)
    assert fingerprints(output) == fingerprints(reference)
    for path, written in before.items():
        assert (path.stat().st_mtime_ns == written) == (path.name.rsplit("-", 1)[0] not in harmed)


def test_other_settings_need_another_folder_or_a_fresh_start(tmp_path: Path) -> None:
    output = tmp_path / "scenes"
    generate(output, count=6, clips=3)
    with pytest.raises(UserError, match=r"other settings \(seed\).*--fresh"):
        generate(output, count=6, clips=3, seed=12)
    generate(output, count=6, clips=3, seed=12, fresh=True)
    generate(tmp_path / "twelve", count=6, clips=3, seed=12)
    assert fingerprints(output) == fingerprints(tmp_path / "twelve")


def test_a_folder_with_other_files_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    precious = tmp_path / "images" / "precious.jpg"
    precious.write_bytes(b"mine")
    for fresh in (False, True):
        with pytest.raises(UserError, match="not generated scenes"):
            generate(tmp_path, fresh=fresh)
    assert precious.read_bytes() == b"mine"
    with pytest.raises(UserError, match="is a file"):
        generate(precious)


def test_clean_pictures_are_kept_on_demand_and_known_exactly(tmp_path: Path, reference: Path) -> None:
    output = tmp_path / "clean"
    generate(output, count=6, clips=3, keep_clean=True)
    assert not (reference / "images_clean").exists()
    pictures = sorted((output / "images").rglob("*.jpg"))
    assert len(pictures) == 6
    for picture in pictures:
        split, key = picture.parent.name, picture.stem
        clean = cv2.imread(str(output / "images_clean" / split / f"{key}.png"))
        clip, number = (int(word) for word in key.split("-")[1:])
        assert np.array_equal(clean, ClipRenderer(11, clip, 160, 120).frame(number).clean)
        error = np.mean((cv2.imread(str(picture)).astype(float) - clean) ** 2)
        assert 10 * np.log10(255**2 / error) < 30
    assert len(read_dataset(output)) == 6


def test_mistaken_settings_are_named() -> None:
    with pytest.raises(ValueError, match="clips need at least as many pictures"):
        SceneSettings(output=Path("x"), count=5, clips=9)
    chosen = SceneSettings(output=Path("x"), count=20, clips=6)
    assert [chosen.frames_of(clip) for clip in range(6)] == [4, 4, 3, 3, 3, 3]


def test_help_is_quick_to_load() -> None:
    code = "import sys, marauder.cli.scenes; print([name for name in ('cv2', 'torch', 'numpy') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
