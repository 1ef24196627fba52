"""What is said of odd things in the inbox, of work that is done, and of deliveries of which nothing can be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from provider import World, deliver, make_world
from typer.testing import CliRunner

from marauder.annotation.importing import import_delivery
from marauder.annotation.status import batch_status
from marauder.cli.annotation import app
from marauder.core.clock import Clock


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def words_of(world: World, *more: str) -> list[str]:
    settings = world.settings
    places = ["--outbox", str(settings.outbox), "--inbox", str(settings.inbox), "--output", str(settings.output)]
    return ["import", *places, *more]


def test_what_is_no_delivery_is_named(world: World) -> None:
    inbox = world.settings.inbox
    for name in ("x.rar", "photo.jpg", "note.txt", "half.zip.part", ".DS_Store", "Thumbs.db"):
        (inbox / name).write_bytes(b"x")
    target = deliver(world, "d.zip")
    shutil.move(target, world.root / "d.zip")
    (inbox / "link.zip").symlink_to(world.root / "d.zip")
    told = CliRunner().invoke(app, words_of(world))
    for words in (batch_status(world.settings).words, told.output + str(told.exception)):
        for name in ("x.rar", "photo.jpg", "note.txt"):
            assert f"{name} is neither a zip" in words
        assert "link.zip is a link, which is not followed" in words and "half.zip.part is still being copied" in words
        assert ".DS_Store" not in words and "Thumbs.db" not in words


def test_work_that_is_done_is_said_to_be_done(world: World) -> None:
    first = deliver(world, "first.zip", parts=("first",))
    assert "still waited for" in import_delivery(world.settings, first, Clock()).advice
    second = deliver(world, "second.zip", parts=("second",))
    assert import_delivery(world.settings, second, Clock()).complete
    again = import_delivery(world.settings, first, Clock())
    assert again.complete and "still waited for" not in again.advice and "complete" in again.advice
    done = CliRunner().invoke(app, words_of(world))
    assert done.exit_code == 0 and "is complete" in done.output
    late = deliver(world, "late.zip", parts=("first",), keys=lambda key: key.endswith("05"))
    told = CliRunner().invoke(app, words_of(world))
    assert told.exit_code == 0 and f"--delivery {late}" in told.output


def test_a_cut_zip_is_called_cut(world: World) -> None:
    path = deliver(world, "d.zip")
    path.write_bytes(path.read_bytes()[:-200])
    told = CliRunner().invoke(app, words_of(world, "--delivery", str(path)))
    assert told.exit_code == 3 and "cut off; copy it again" in told.output and "not one of" not in told.output


@pytest.mark.parametrize("fault", ["file names", "class names"])
def test_the_commonest_cause_is_on_the_screen(world: World, fault: str) -> None:
    def change(folder: Path) -> None:
        file = next(path for path in folder.rglob("*.json") if "annotations" in json.loads(path.read_text()))
        content = json.loads(file.read_text())
        for row in content["images"] if fault == "file names" else content["categories"]:
            row["file_name" if fault == "file names" else "name"] = f"IMG_{row['id']}.jpg"
        content["images"] = [
            row
            for row in content["images"]
            if fault == "file names" or row["id"] in {one["image_id"] for one in content["annotations"]}
        ]
        file.write_text(json.dumps(content))

    told = CliRunner().invoke(app, words_of(world, "--delivery", str(deliver(world, "d.zip", change=change))))
    assert told.exit_code == 3 and "Nothing of it can be used" in told.output
    assert "Why" in told.output and "IMG_" in told.output


def test_one_import_takes_all_that_lies_there(world: World) -> None:
    deliver(world, "first.zip", parts=("first",))
    deliver(world, "second.zip", parts=("second",))
    done = CliRunner().invoke(app, words_of(world))
    assert done.exit_code == 0, done.output
    assert batch_status(world.settings).state == "imported"
