"""Pins: the same content gives the same fingerprint wherever it lies; any change is found and named; DVC's part."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import small_sets

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError
from marauder.data.manifests import pinning
from marauder.data.manifests.journal import FileJournal
from marauder.data.manifests.pinning import DataPin, hash_files, hash_pinned, pin, verify
from marauder.data.reading import read_dataset
from marauder.data.writers import write_yolo

DVC = Path(sys.executable).with_name("dvc")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def settle(root: Path) -> None:
    """Make all files an hour old, as data that nobody writes to are."""
    for file in root.rglob("*"):
        if file.is_file():
            past = file.stat().st_mtime - 3600
            os.utime(file, (past, past))


def small_spec(root: Path) -> Path:
    """dataset.yaml with a train and a val manifest of one picture each, and slices."""
    small_sets.manifest(root)
    lines = (root / "output.manifest").read_text().splitlines()
    (root / "golden_train.manifest").write_text(f"{lines[0]}\n")
    (root / "golden_val.manifest").write_text(f"{lines[2]}\n")
    (root / "output.manifest").unlink()
    (root / "slices.yaml").write_text("slices: {}\n")
    (root / "dataset.yaml").write_text(
        "version: '1'\ntrain: golden_train.manifest\nval: golden_val.manifest\nslices: slices.yaml\n"
    )
    return root / "dataset.yaml"


class TestPin:
    def test_counts_files_and_json(self, tmp_path: Path):
        pinned = pin(small_spec(tmp_path / "set"))
        assert (pinned.version, pinned.names, pinned.pictures, pinned.boxes) == ("1", ("fish", "crab"), 2, 1)
        assert {name: split.boxes for name, split in pinned.splits.items()} == {"train": 1, "val": 0}
        assert set(pinned.files) == {"dataset.yaml", "golden_train.manifest", "golden_val.manifest", "slices.yaml"}
        file = pinned.write(tmp_path)
        assert DataPin.read(file) == DataPin.read(tmp_path) == pinned

    def test_does_not_depend_on_the_place_or_the_layout(self, tmp_path: Path):
        first = pin(small_spec(tmp_path / "one"))
        shutil.move(tmp_path / "one", tmp_path / "two")
        assert pin(tmp_path / "two" / "dataset.yaml").fingerprint == first.fingerprint
        assert verify(first, tmp_path / "two" / "dataset.yaml") == []
        yolo = write_yolo(read_dataset(tmp_path / "two/dataset.yaml"), tmp_path / "yolo", mode="copy")
        assert pin(yolo).splits == first.splits

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda root: small_sets.picture(root / "images/a.jpg", 77), "split train: pictures changed"),
            (lambda root: (root / "images/b.jpg").unlink(), "split val: is gone"),
            (lambda root: replace_text(root / "golden_train.manifest", '"left": 20', '"left": 21'), "labels changed"),
            (lambda root: replace_text(root / "golden_train.manifest", "crab", "lobster"), "class names: were fish, c"),
            (lambda root: (root / "slices.yaml").write_text("slices: {a: {}}\n"), "file slices.yaml: content changed"),
        ],
    )
    def test_every_change_is_found_and_named(self, tmp_path: Path, change, told: str):
        pinned = pin(small_spec(tmp_path / "set"))
        change(tmp_path / "set")
        assert any(told in line for line in verify(pinned)), verify(pinned)

    def test_a_change_of_no_content_is_none(self, tmp_path: Path):
        pinned = pin(small_spec(tmp_path / "set"))
        replace_text(tmp_path / "set/golden_train.manifest", "2026-11-01", "2026-11-02")
        settle(tmp_path / "set")
        assert verify(pinned) == []

    @pytest.mark.parametrize("content", [None, [], {"format": 9}, {"format": 1, "names": []}])
    def test_what_is_no_pin_is_refused(self, content):
        with pytest.raises(DamagedFileError, match="pin the data"):
            DataPin.from_json(content)

    def test_any_source_can_be_pinned(self, shared_data: Path):
        pinned = pin(shared_data / "aquarium")
        assert (pinned.pictures, list(pinned.splits)) == (575, ["-"])
        assert replace(pinned, source="x").fingerprint == pinned.fingerprint


def replace_text(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


class TestJournal:
    def test_only_what_changed_is_read_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        small_spec(tmp_path / "set")
        settle(tmp_path / "set")
        first = pin(tmp_path / "set")
        read: list[str] = []
        real = pinning.hash_file
        monkeypatch.setattr(pinning, "hash_file", lambda path: (read.append(Path(path).name), real(path))[1])
        assert pin(tmp_path / "set").fingerprint == first.fingerprint
        assert not [name for name in read if name.endswith(".jpg")]
        small_sets.picture(tmp_path / "set/images/b.jpg", 5)
        assert pin(tmp_path / "set").fingerprint != first.fingerprint
        assert [name for name in read if name.endswith(".jpg")] == ["b.jpg"]

    def test_other_content_of_the_same_size_and_time_is_read(self, tmp_path: Path):
        file = tmp_path / "p" / "a.bmp"
        file.parent.mkdir()
        file.write_bytes(b"one")
        settle(tmp_path / "p")
        known = FileJournal(tmp_path / "journal.jsonl")
        first = hash_files([file], known)
        assert known.values
        state = file.stat()
        file.write_bytes(b"two")
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert hash_files([file], FileJournal(tmp_path / "journal.jsonl")) != first

    def test_of_some_pictures_the_others_stay_known(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        small_spec(tmp_path / "set")
        settle(tmp_path / "set")
        pin(tmp_path / "set")
        some = [tmp_path / "set/images/b.jpg", tmp_path / "set/images/absent.jpg"]
        monkeypatch.setattr(pinning, "hash_file", lambda path: pytest.fail(f"{path} was read again"))
        known = FileJournal.of("hashes", tmp_path / "set")
        found = hash_pinned(some, tmp_path / "set")
        assert found[some[0]] is not None and found[some[1]] is None
        assert FileJournal.of("hashes", tmp_path / "set").values == known.values and len(known.values) > 1

    def test_a_file_changed_just_now_is_not_kept(self, tmp_path: Path):
        fresh = small_sets.picture(tmp_path / "a.jpg")
        journal = FileJournal(tmp_path / "journal.jsonl")
        hash_files([fresh], journal)
        assert not journal.values and not journal.path.exists()

    def test_stops_between_blocks_and_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        files = [small_sets.picture(tmp_path / "p" / f"{number}.jpg", number) for number in range(6)]
        settle(tmp_path / "p")
        monkeypatch.setattr(pinning, "BLOCK", 2)
        clock = Clock()
        asked = iter([None, None, "enough"])
        monkeypatch.setattr(clock, "stop_reason", lambda _seconds=0.0: next(asked))
        with pytest.raises(Interrupted):
            hash_files(files, FileJournal(tmp_path / "journal.jsonl"), clock)
        kept = FileJournal(tmp_path / "journal.jsonl")
        assert len(kept.values) == 4
        assert len(hash_files(files, kept)) == 6

    def test_damaged_and_stale_lines_cost_time_only(self, tmp_path: Path):
        file = small_sets.picture(tmp_path / "p" / "a.jpg")
        settle(tmp_path / "p")
        path = tmp_path / "journal.jsonl"
        path.write_text('["/gone.jpg", 1, 2, 3, "x"]\n{"a": 1}\n["half')
        found = hash_files([file, tmp_path / "absent.jpg"], FileJournal(path))
        assert found[tmp_path / "absent.jpg"] == (0, None)
        assert len(found[file][1]) == 64
        assert [row[0] for row in map(json.loads, path.read_text().splitlines())] == [str(file)]


def command(folder: Path, *words: str) -> str:
    environment = {
        **os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder.parent / "site"),
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
    }  # fmt: skip
    program = str(DVC) if words[0] == "dvc" else words[0]
    done = subprocess.run(
        [program, *words[1:]], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout.strip()


@pytest.mark.skipif(not DVC.exists() or shutil.which("git") is None, reason="needs the commands dvc and git")
class TestDvc:
    """A real repository with a local remote, and a clone of it that has no data yet."""

    @pytest.fixture
    def repository(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
        root = tmp_path / "origin"
        spec = small_spec(root)
        spec.write_text(spec.read_text() + "dvc: {repo: ., rev: v1}\n")
        command(root, "git", "init", "-q", "-b", "main")
        command(root, "dvc", "init", "-q")
        (tmp_path / "remote").mkdir()
        command(root, "dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
        command(root, "dvc", "add", "-q", "images", "golden_train.manifest", "golden_val.manifest")
        command(root, "git", "add", "-A")
        command(root, "git", "commit", "-q", "-m", "data")
        command(root, "git", "tag", "v1")
        command(root, "dvc", "push", "-q")
        return root

    @pytest.fixture
    def clone(self, repository: Path, tmp_path: Path) -> Path:
        command(tmp_path, "git", "clone", "-q", str(repository), "clone")
        return tmp_path / "clone"

    def test_pulls_what_is_missing_and_says_where_it_stands(self, repository: Path, clone: Path, tmp_path: Path):
        assert not (clone / "images").exists()
        pinned = pin(clone / "dataset.yaml")
        assert pinned.pictures == 2
        assert pinned.dvc is not None
        assert pinned.dvc["tag"] == "v1"
        assert pinned.dvc["rev"] == command(clone, "git", "rev-parse", "HEAD")
        rows = {row["path"]: row for row in pinned.dvc["outputs"]}
        assert set(rows) == {"images", "golden_train.manifest", "golden_val.manifest"}
        assert rows["images"]["md5"] in (clone / "images.dvc").read_text()
        assert (rows["images"]["files"], rows["images"]["state"]) == (2, "same")
        assert str(tmp_path / "remote") not in json.dumps(pinned.to_json())
        assert pin(repository / "dataset.yaml").fingerprint == pinned.fingerprint

    def test_another_version_that_is_checked_out_is_refused(self, repository: Path):
        small_sets.picture(repository / "images/a.jpg", 50)
        with pytest.raises(UserError, match="images is not what v1 recorded; run `dvc checkout images`"):
            pin(repository / "dataset.yaml")
        command(repository, "dvc", "add", "-q", "images")
        with pytest.raises(UserError, match=r"images is checked out at .*git checkout v1"):
            pin(repository / "dataset.yaml")
        spec = repository / "dataset.yaml"
        spec.write_text(spec.read_text().replace(", rev: v1", ""))
        command(repository, "git", "commit", "-q", "-a", "-m", "a new picture")
        pinned = pin(spec)
        assert pinned.dvc is not None
        assert (pinned.dvc["tag"], pinned.dvc["rev"]) == (None, command(repository, "git", "rev-parse", "HEAD"))

    def test_outputs_of_a_dvc_pipeline_count_too(self, repository: Path):
        (repository / "images").rename(repository / "raw")
        command(repository, "git", "rm", "-q", "images.dvc")
        stage = "stages:\n  copy:\n    cmd: cp -r raw images\n    deps: [raw]\n    outs: [images]\n"
        (repository / "dvc.yaml").write_text(stage)
        command(repository, "dvc", "repro", "-q")
        command(repository, "git", "add", "-A")
        command(repository, "git", "commit", "-q", "-m", "made by a stage")
        command(repository, "git", "tag", "-f", "v1")
        pinned = pin(repository / "dataset.yaml")
        assert pinned.dvc is not None
        assert {row["path"]: row["file"] for row in pinned.dvc["outputs"]}["images"] == "dvc.lock"

    def test_mistakes_are_told(self, repository: Path, monkeypatch: pytest.MonkeyPatch):
        spec = repository / "dataset.yaml"
        text = spec.read_text()
        for old, new, told in (
            ("rev: v1", "rev: v9", "git knows no revision 'v9'"),
            ("rev: v1", "rev: --all", "git knows no revision '--all'"),
            ("repo: .", "repo: images", "no DVC repository"),
        ):
            spec.write_text(text.replace(old, new))
            with pytest.raises(UserError, match=told):
                pin(spec)
        spec.write_text(text)
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        with pytest.raises(UserError, match="no `git` command"):
            pin(spec)

    def test_data_lost_from_the_remote_too(self, clone: Path, tmp_path: Path):
        shutil.rmtree(tmp_path / "remote")
        (tmp_path / "remote").mkdir()
        with pytest.raises(UserError, match="`dvc pull"):
            pin(clone / "dataset.yaml")
