"""Notices of an interruption ahead: one contract for every source, each source's own ways, and the watch over them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.plugins import names
from marauder.core.settings import load_settings
from marauder.launch.notices.watch import NoticeWatch
from marauder.launch.settings import NoticeSettings
from marauder.testing.notices import NoticeContract
from metadata_service import MetadataService, metadata_service


@pytest.fixture
def service() -> Iterator[MetadataService]:
    with metadata_service() as running:
        yield running


class TestFile(NoticeContract):
    """The file source."""

    name = "file"

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": str(tmp_path / "leaving")}

    @pytest.fixture
    def announce(self, tmp_path: Path) -> Callable[[], None]:
        def announce() -> None:
            (tmp_path / "leaving").write_text("maintenance at noon\nof the whole rack\n")

        return announce

    @pytest.fixture
    def unreachable(self, tmp_path: Path) -> dict[str, Any]:
        (tmp_path / "folder").mkdir()
        return {"path": str(tmp_path / "folder")}

    def test_the_first_line_is_the_reason_and_an_empty_file_is_enough(self, tmp_path: Path) -> None:
        path = tmp_path / "leaving"
        path.touch()
        assert self.make({"path": path}).poll() == f"{path} announces an interruption"
        path.write_text("\n  maintenance at noon \nof the rack")
        assert self.make({"path": path}).poll() == f"{path} announces an interruption: maintenance at noon"
        path.write_bytes(b"\xff\xfe\x00" * 500)
        assert len(self.make({"path": path}).poll() or "") < 400

    @pytest.mark.parametrize(
        ("content", "announced"),
        [
            ({"node": {"leaving": "2026-11-18T08:22:00Z"}}, True),
            ({"node": {"leaving": True}}, True),
            ({"node": {"leaving": False}}, False),
            ({"node": {"leaving": None}}, False),
            ({"node": {}}, False),
            ({"node": "leaving"}, False),
            (["leaving"], False),
        ],
    )
    def test_a_key_says_whether_a_file_that_is_always_there_announces_it(
        self, tmp_path: Path, content: Any, announced: bool
    ) -> None:
        path = tmp_path / "node.json"
        source = self.make({"path": path, "key": "node.leaving"})
        assert source.poll() is None
        text = json.dumps(content)
        path.write_text(text[: len(text) // 2])
        assert source.poll() is None, "half written"
        path.write_text(text)
        assert (source.poll() is not None) == announced

    def test_a_path_is_needed(self) -> None:
        with pytest.raises(UserError, match=r"notices\.options\.file\.path"):
            self.make({})


class TestEc2(NoticeContract):
    """The EC2 source, against the stand-in."""

    name = "ec2"

    @pytest.fixture
    def options(self, service: MetadataService) -> dict[str, Any]:
        return {"endpoint": service.endpoint}

    @pytest.fixture
    def announce(self, service: MetadataService) -> Callable[[], None]:
        return service.terminate

    @pytest.fixture
    def unreachable(self) -> dict[str, Any]:
        return {"endpoint": "http://127.0.0.1:1", "timeout": 0.5}

    def test_one_token_serves_many_looks(self, service: MetadataService) -> None:
        source = self.make({"endpoint": service.endpoint})
        for _ in range(5):
            source.poll()
        asked = [(method, status) for method, _, status in service.requests]
        assert asked == [("PUT", 200), *[("GET", 404)] * 5]

    def test_the_reason_tells_action_and_time(self, service: MetadataService) -> None:
        service.terminate()
        reason = self.make({"endpoint": service.endpoint}).poll()
        assert reason == "EC2 is going to terminate this spot instance at 2026-11-18T08:22:00Z"

    def test_a_token_that_expired_or_was_withdrawn_is_replaced(self, service: MetadataService) -> None:
        source = self.make({"endpoint": service.endpoint, "token_seconds": 1})
        source.poll()
        service.tokens.clear()  # withdrawn before its time
        service.terminate()
        assert source.poll() is not None
        assert (401 in [status for _, _, status in service.requests]) and len(service.tokens) == 1
        time.sleep(1.1)
        assert source.poll() is not None
        assert [status for _, _, status in service.requests].count(401) == 1, "a token is renewed before it ends"

    def test_a_recommendation_counts_only_where_it_is_asked_for(self, service: MetadataService) -> None:
        service.announce("events/recommendations/rebalance", {"noticeTime": "2026-11-18T08:00:00Z"})
        assert self.make({"endpoint": service.endpoint}).poll() is None
        reason = self.make({"endpoint": service.endpoint, "rebalance": True}).poll()
        assert reason == "EC2 recommends to leave this spot instance (since 2026-11-18T08:00:00Z)"
        service.terminate()
        assert "terminate" in (self.make({"endpoint": service.endpoint, "rebalance": True}).poll() or "")

    def test_a_slow_or_odd_service_says_nothing(self, service: MetadataService) -> None:
        service.terminate()
        service.delay = 2.0
        started = time.monotonic()
        assert self.make({"endpoint": service.endpoint, "timeout": 0.3}).poll() is None
        assert time.monotonic() - started < 0.6
        service.delay = 0.0
        for odd in (b"<html>", b"[1]", b"\xff"):
            service.content["/latest/meta-data/spot/instance-action"] = odd
            assert self.make({"endpoint": service.endpoint}).poll() is None

    def test_no_proxy_stands_between(self, service: MetadataService, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        service.terminate()
        assert self.make({"endpoint": service.endpoint}).poll() is not None

    @pytest.mark.parametrize("endpoint", ["https://169.254.169.254", "169.254.169.254", "http://"])
    def test_an_endpoint_that_cannot_be_is_named(self, endpoint: str) -> None:
        with pytest.raises(UserError, match=r"http://HOST"):
            self.make({"endpoint": endpoint})


def test_every_source_of_the_table_is_under_the_contract() -> None:
    assert {case.name for case in NoticeContract.__subclasses__()} == set(names("notice"))


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.01)


def test_the_watch_sets_the_clocks_reason_once_announced(tmp_path: Path, service: MetadataService) -> None:
    settings = NoticeSettings(
        sources=("file", "ec2"),
        options={"file": {"path": str(tmp_path / "never")}, "ec2": {"endpoint": service.endpoint}},
        seconds=0.05,
    )
    clock = Clock()
    with NoticeWatch(settings, clock):
        wait_until(lambda: len(service.requests) > 4)
        assert clock.stop_reason() is None
        service.terminate()
        wait_until(lambda: clock.stop_reason() is not None)
    assert clock.stop_reason() == "EC2 is going to terminate this spot instance at 2026-11-18T08:22:00Z"
    clock.signal_name = "SIGTERM"
    assert clock.stop_reason() == "SIGTERM received", "what was received says more than what was announced"


def test_a_watch_that_is_over_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "leaving"
    clock = Clock()
    settings = NoticeSettings(sources=("file",), options={"file": {"path": str(path)}}, seconds=0.02)
    with NoticeWatch(settings, clock):
        pass
    path.touch()
    time.sleep(0.1)
    assert clock.stop_reason() is None
    with NoticeWatch(NoticeSettings(), clock) as watch:
        assert watch.sources == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sources=[smoke]", "no notice named 'smoke'; choose of: file, ec2"),
        ("options={ec2: {}}", "options for 'ec2', which is not among sources"),
        ("seconds=0", "greater than 0"),
    ],
)
def test_settings_that_do_not_fit_are_named(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_settings(NoticeSettings, None, [override])


def test_options_are_looked_at_before_anything_starts() -> None:
    with pytest.raises(UserError, match=r"notices\.options\.file\.path"):
        NoticeWatch(NoticeSettings(sources=("file",)), Clock())
