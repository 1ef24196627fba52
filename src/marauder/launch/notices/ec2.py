"""Amazon EC2 announces that a spot instance goes away, through the instance metadata service (version 2).

Source: "Spot Instance interruption notices" and "EC2 instance rebalance recommendations" of the EC2 user guide: a token
is fetched by PUT and sent with every GET; ``spot/instance-action`` is not found until the instance is to be stopped,
hibernated or terminated (two minutes ahead), ``events/recommendations/rebalance`` until its risk is elevated.
"""

from __future__ import annotations

import http.client
import json
import time
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from marauder.core.plain import Plain
from marauder.core.settings import Settings
from marauder.launch.notices.base import NoticeSource

TOKEN_PATH = "/latest/api/token"
ACTION_PATH = "/latest/meta-data/spot/instance-action"
REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"
LONGEST_ANSWER = 4096


class Ec2NoticeOptions(Settings):
    """``rebalance``: leave on a mere recommendation too, which may come long before, or without, an interruption."""

    endpoint: str = Field(
        "http://169.254.169.254", description="of the metadata service; http://[fd00:ec2::254] on IPv6"
    )
    rebalance: bool = False
    timeout: float = Field(1.0, gt=0, le=1, description="seconds that one look may take in all")
    token_seconds: int = Field(21600, ge=1, le=21600, description="how long a token lasts")

    @field_validator("endpoint")
    @classmethod
    def _plain_http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{value!r}: write it as http://HOST or http://HOST:PORT")
        return value


class Ec2Notice(NoticeSource):
    """Asks the metadata service of the instance; elsewhere it never says anything."""

    name = "ec2"
    title = "EC2 instance metadata"
    settings_model = Ec2NoticeOptions
    settings: Ec2NoticeOptions

    def __init__(self, settings: Ec2NoticeOptions) -> None:
        super().__init__(settings)
        self._token: str | None = None
        self._token_ends = 0.0

    def poll(self) -> str | None:
        """What is announced to the instance: the action and its time (UTC)."""
        deadline = time.monotonic() + self.settings.timeout
        try:
            action = self._read(ACTION_PATH, deadline)
            if action is not None:
                what, when = action.get("action", "interrupt"), action.get("time", "soon")
                return f"EC2 is going to {what} this spot instance at {when}"
            rebalance = self._read(REBALANCE_PATH, deadline) if self.settings.rebalance else None
            if rebalance is not None:
                return f"EC2 recommends to leave this spot instance (since {rebalance.get('noticeTime', 'now')})"
        except (OSError, http.client.HTTPException):  # no such service here, or it does not answer in time
            return None
        return None

    def _read(self, path: str, deadline: float) -> Plain | None:
        """The JSON object at ``path``; ``None`` where there is none. A token that is no longer taken is replaced."""
        for fresh in (False, True):
            token = self._fetch_token(deadline, fresh)
            if token is None:
                return None
            status, body = self._request("GET", path, {"X-aws-ec2-metadata-token": token}, deadline)
            if status == http.client.UNAUTHORIZED:
                continue
            if status != http.client.OK:
                return None
            try:
                content = json.loads(body)
            except (json.JSONDecodeError, UnicodeDecodeError):
                return None
            return content if isinstance(content, dict) else None
        return None

    def _fetch_token(self, deadline: float, fresh: bool) -> str | None:
        if fresh or self._token is None or time.monotonic() >= self._token_ends:
            seconds = self.settings.token_seconds
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(seconds)}
            status, body = self._request("PUT", TOKEN_PATH, headers, deadline)
            self._token = body.decode("ascii", "replace").strip() if status == http.client.OK else None
            # A little early, so that a token does not run out on its way.
            self._token_ends = time.monotonic() + 0.9 * seconds
        return self._token

    def _request(self, method: str, path: str, headers: dict[str, str], deadline: float) -> tuple[int, bytes]:
        """Straight to the service, never through a proxy. Raises ``OSError`` when the time of the look is over."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the metadata service takes too long")
        parts = urlsplit(self.settings.endpoint)
        # http.client and not urllib, which would follow the environment to a proxy.
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=left)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(LONGEST_ANSWER)
        finally:
            connection.close()
