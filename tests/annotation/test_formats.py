"""Exchange formats: one contract for all of them, and what each real tool's output has of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from marauder.annotation.formats.base import match_class
from marauder.core.plugins import names
from marauder.testing.annotation_formats import NAMES, AnnotationFormatContract


@pytest.mark.parametrize("name", names("annotation_format"))
class TestEveryFormat(AnnotationFormatContract):
    """All there are."""

    same_layout = {"mindy": {"mindy", "coco"}, "coco": {"mindy", "coco"}}

    def submit(self, name: str, folder: Path) -> None:
        """What comes of a package when every pre-label is confirmed. Label Studio turns predictions into annotations,
        and the provider saves its answers under a name of their own."""
        if name == "mindy":
            (folder / "prelabels.json").rename(folder / "annotations.json")
        if name == "label_studio":
            tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
            for task in tasks:
                regions = [region for one in task["predictions"] for region in one["result"]]
                task["annotations"] = [{"result": regions, "was_cancelled": False}]
            (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")


def test_classes_are_found_by_name_whatever_the_case_and_spaces() -> None:
    assert match_class(" purple  sea-urchin ", NAMES) == 0
    assert match_class("ÄNGELHAJ & <CO>", NAMES) == 2
    assert match_class("sea urchin", NAMES) is None
    assert match_class("鲨鱼", ("鲨鱼", "虾")) == 0
    assert match_class("", ("鲨鱼",)) is None


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob("*.partial"))
