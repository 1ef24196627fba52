"""Every plug point has one shape, and what is wrong in the options of one is told with its place."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import pytest
from pydantic import Field

from marauder.core import plugins
from marauder.core.errors import UserError
from marauder.core.plugins import TABLE, Plugin, make, resolve
from marauder.core.settings import Settings

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
    if kind in BUILT_LATER:
        return
    assert issubclass(implementation, Plugin)
    (parameter,) = inspect.signature(implementation).parameters.values()
    assert parameter.name == "settings"


@pytest.mark.parametrize("name", TABLE["task"])
def test_the_work_of_a_task_is_made_of_its_settings(name: str) -> None:
    work = resolve("task", name).load()
    (parameter,) = inspect.signature(work).parameters.values()
    assert parameter.name == "settings" and work.description is resolve("task", name)


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
