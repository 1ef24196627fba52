"""Every plug point has one shape, and what is wrong in the options of one is told with its place."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from marauder.core import plugins
from marauder.core.errors import UserError
from marauder.core.plugins import BASES, TABLE, Plugin, imported, lacking, make, resolve
from marauder.core.settings import Settings
from marauder.testing import CONTRACTS

EVERY = [(kind, name) for kind in TABLE for name in TABLE[kind]]
BUILT_LATER = ("task", "pretraining_method")
"""A task is described before anything heavy is loaded, and its work is made of its settings; a pretraining method is a
network, whose weights come from an architecture and a seed as well."""


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_implementation_has_the_shape(kind: str, name: str) -> None:
    implementation = resolve(kind, name)
    assert implementation.name == name
    assert implementation.title
    assert issubclass(implementation.settings_model, Settings)
    assert issubclass(implementation, imported(BASES[kind])) and lacking(implementation) == []
    if kind in BUILT_LATER:
        return
    assert issubclass(implementation, Plugin)
    (parameter,) = inspect.signature(implementation).parameters.values()
    assert parameter.name == "settings"


def test_every_kind_has_a_contract_to_subclass_and_its_tests_subclass_it() -> None:
    assert list(CONTRACTS) == list(BASES) == list(TABLE)
    tests = [ast.parse(path.read_text("utf-8")) for path in Path(__file__).parents[1].rglob("test_*.py")]
    subclassed = {
        ast.unparse(base)
        for tree in tests
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test")
        for base in node.bases
    }
    for kind, place in CONTRACTS.items():
        contract = imported(place)
        assert any(name.startswith("test_") for name in vars(contract)), kind
        assert contract.__name__ in subclassed, kind


@pytest.mark.parametrize("kind", TABLE)
def test_titles_tell_the_implementations_of_a_kind_apart(kind: str) -> None:
    titles = [resolve(kind, name).title for name in TABLE[kind]]
    assert len(set(titles)) == len(titles)


class BucketSettings(Settings):
    """Options of the made-up kind."""

    colour: str = Field("red", pattern="^(red|blue)$")
    litres: int


class Bucket(Plugin[BucketSettings]):
    """Something to make."""

    name = "bucket"
    title = "A bucket"
    settings_model: ClassVar[type[Settings]] = BucketSettings


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins.TABLE, "vessel", {"bucket": f"{__name__}:Bucket"})


def test_options_become_settings(table: None) -> None:
    made: Any = make("vessel", "bucket", {"litres": 3})
    assert (made.settings.litres, made.settings.colour) == (3, "red")


def test_every_mistake_is_told_with_its_place(table: None) -> None:
    with pytest.raises(UserError) as told:
        make("vessel", "bucket", {"colour": "green", "handel": 1}, "kitchen.options.bucket")
    text = str(told.value)
    assert text.startswith("3 mistakes in the settings of vessel bucket:")
    for part in ("kitchen.options.bucket.colour", "kitchen.options.bucket.litres", "kitchen.options.bucket.handel"):
        assert part in text


def test_an_unknown_name_is_told_with_those_there_are(table: None) -> None:
    with pytest.raises(UserError, match="no vessel named 'jug'; choose one of: bucket"):
        make("vessel", "jug")


PLUGIN = """
from marauder.core.settings import Settings
from marauder.launch.notices.base import NoticeSource

class Options(Settings):
    days: int = 3

class Tide(NoticeSource):
    name, title, settings_model = "tide", "The tide", Options

    def poll(self):
        return f"high water in {self.settings.days} days"

class Shapeless:
    pass

class Loose:
    name, title, settings_model = "loose", "Like a source, but none", Options

class Mute(NoticeSource):
    name, settings_model = "mute", Options
"""

TASK = """
from marauder.runs.settings import RunSettings
from marauder.runs.task_description import TaskDescription

class Counting(TaskDescription):
    name, title, settings_model = "counting", "Counts animals", RunSettings
    runtime, gates, sealed_file, files = "reef_counting:Runtime", (), "count.safetensors", {}

class Unmeasured(Counting):
    name, metrics, weights_file = "unmeasured", (), "count.safetensors"
"""


def ask(folder: Path, entries: str, *lines: str) -> str:
    """What a process prints that runs ``lines`` where a package offers ``entries``."""
    about = folder / "reef_plugins-1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: reef-plugins\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entries)
    (folder / "reef_plugins.py").write_text(PLUGIN)
    (folder / "reef_tasks.py").write_text(TASK)
    (folder / "reef_broken.py").write_text("import a_module_that_is_not_there")
    script = "\n".join(["from marauder.core.plugins import is_known, make, names, resolve", *lines])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_package_adds_its_own_by_an_entry_point(tmp_path: Path) -> None:
    said = ask(
        tmp_path,
        "[marauder.notice]\ntide = reef_plugins:Tide\n",
        "import sys",
        "assert names('notice') == ['file', 'ec2', 'tide'] and 'reef_plugins' not in sys.modules",
        "assert is_known('notice', 'tide') and not is_known('notice', 'ebb') and not is_known('tracker', 'tide')",
        "print(make('notice', 'tide', {'days': 2}).poll())",
        "from marauder.launch.settings import NoticeSettings",
        "print(NoticeSettings(sources=('tide',)).sources)",
        "make('notice', 'tide', {'hours': 2}, 'notices.options.tide')",
    )
    assert "high water in 2 days" in said and "('tide',)" in said
    assert "MistakesError" in said and "notices.options.tide.hours" in said


@pytest.mark.parametrize(
    ("entry", "name", "told"),
    [
        ("tide = reef_broken:Tide", "tide", r"reef-plugins \(reef_broken:Tide\) cannot be loaded: ModuleNotFoundError"),
        ("tide = reef_plugins:Ebb", "tide", "reef-plugins.*cannot be loaded: AttributeError"),
        ("tide = reef_plugins:Shapeless", "tide", "reef-plugins.*is not a plugin: it needs name = 'tide'"),
        (
            "loose = reef_plugins:Loose",
            "loose",
            r"reef-plugins.*does not extend marauder\.launch.*\.NoticeSource",
        ),
        (
            "mute = reef_plugins:Mute",
            "mute",
            r"reef-plugins.*lacks poll, title; marauder\.launch.*NoticeSource",
        ),
        ("ebb = reef_plugins:Tide", "ebb", "reef-plugins.*is not a plugin: it needs name = 'ebb'"),
        ("file = reef_plugins:Tide", "ebb", "reef-plugins.*offers a notice named 'file', but Marauder has its own"),
    ],
)
def test_an_entry_that_does_not_fit_is_named(entry: str, name: str, told: str, tmp_path: Path) -> None:
    said = ask(tmp_path, f"[marauder.notice]\n{entry}\n", f"resolve('notice', '{name}')")
    assert re.search(f"UserError.*{told}", said), said


def test_what_is_in_the_table_stays_and_other_packages_are_not_looked_at_for_it(tmp_path: Path) -> None:
    said = ask(
        tmp_path,
        "[marauder.notice]\nfile = reef_plugins:Tide\n",
        "from marauder.core import plugins",
        "print(resolve('notice', 'file').__module__, is_known('notice', 'file'))",
        "print(plugins._entry_points.cache_info().misses)",
    )
    assert said.split() == ["marauder.launch.notices.file", "True", "0"]


def test_a_broken_package_is_left_out_with_one_warning_unless_it_is_asked_for(tmp_path: Path) -> None:
    said = ask(
        tmp_path,
        "[marauder.task]\nwhales = reef_broken:Whales\n",
        "from marauder.registry.base import weights_names",
        "from marauder.runs.recipes import recipe_fields",
        "from marauder.runs.task_description import all_tasks, describe_task",
        "print([task.name for task in all_tasks()], len(weights_names()), 'training' in recipe_fields())",
        "describe_task('whales')",
    )
    assert "['detection', 'pretraining'] 2 True" in said, said
    assert said.count("left out: task 'whales' of the package reef-plugins (reef_broken:Whales) cannot be loaded") == 1
    assert "UserError: task 'whales'" in said


def test_a_task_that_lacks_something_is_named_with_what_it_lacks_and_left_out_of_the_rest(tmp_path: Path) -> None:
    said = ask(
        tmp_path,
        "[marauder.task]\ncounting = reef_tasks:Counting\nunmeasured = reef_tasks:Unmeasured\n",
        "from marauder.core.errors import UserError",
        "from marauder.runs.task_description import all_tasks, describe_task",
        "print([task.name for task in all_tasks()])",
        "for name in ('counting', 'unmeasured'):",
        "    try: describe_task(name)",
        "    except UserError as error: print(error)",
    )
    assert "['detection', 'pretraining', 'unmeasured']" in said, said
    lacks = "task 'counting' of the package reef-plugins (reef_tasks:Counting) lacks metrics, weights_file; "
    assert said.count(lacks) == 2, said
    assert "task 'unmeasured' has no metrics; name at least the one that sums up its runs" in said, said
