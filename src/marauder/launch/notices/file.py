"""A file announces that the machine goes away: by being there, or by what its JSON says.

Schedulers, node agents and people write such files; ``touch`` is enough to stop a run in time.
"""

from __future__ import annotations

import json
from pathlib import Path

from marauder.core.settings import Settings
from marauder.launch.notices.base import NoticeSource

LONGEST_REASON = 200


class FileNoticeOptions(Settings):
    """``path``: the file. ``key``: dotted place in its JSON whose value announces it once that is not false, null, zero
    or empty; without a key the file's being there does."""

    path: Path
    key: str | None = None


class FileNotice(NoticeSource):
    """Looks at one file."""

    name = "file"
    title = "File"
    settings_model = FileNoticeOptions
    settings: FileNoticeOptions

    def poll(self) -> str | None:
        """The file's first line, or the value at ``key``; a file that is half written says nothing yet."""
        path, key = self.settings.path, self.settings.key
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:  # not there, or out of reach: no notice
            return None
        if key is None:
            first = next((line.strip() for line in text.splitlines() if line.strip()), "")
            return f"{path} announces an interruption{_because(first)}"
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            return None
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return f"{path} announces an interruption{_because(f'{key} is {value}')}" if value else None


def _because(words: str) -> str:
    return f": {words[:LONGEST_REASON]}" if words else ""
