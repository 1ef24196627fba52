"""The webhook sink: POSTs events, signed as Standard Webhooks does, and checks such signatures for receivers.

Source: the Standard Webhooks specification: headers ``webhook-id``, ``webhook-timestamp``, ``webhook-signature``; the
signature is HMAC-SHA256 over ``<id>.<timestamp>.<body>`` in base64 with the version ``v1,`` in front.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from marauder.core.errors import UserError
from marauder.core.plain import Plain, PlainMapping
from marauder.core.settings import Settings
from marauder.messaging.base import DeliveryError, Sink
from marauder.messaging.cloud_events import CONTENT_TYPE, encode

SECRET_PREFIX = "whsec_"
# Bytes, the least that Standard Webhooks allows.
SHORTEST_SECRET = 24
TOLERANCE_SECONDS = 300.0
# Timeouts of the receiver and its limits of rate: the only refusals that pass.
TRY_AGAIN = (408, 429)


class SignatureError(Exception):
    """A request that does not carry a valid, recent signature; the message says what is wrong with it."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        # urllib would make a GET without the body of it, and go to an address that nobody configured.
        return None


class WebhookSettings(Settings):
    """Where to, and where the secret is: ``whsec_`` and base64, or at least 24 characters."""

    url: str = Field(description="https or http")
    secret_env: str | None = Field(None, description="environment variable with the secret")
    secret_file: Path | None = Field(None, description="or a file with it")
    timeout_seconds: float = Field(10.0, gt=0, description="for each step of a request")

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.username or parts.password:
            raise ValueError("holds a password, which would be written into runs; use the secret")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"must be an http(s) address, not {value!r}")
        return value

    @model_validator(mode="after")
    def _one_secret(self) -> WebhookSettings:
        if (self.secret_env is None) == (self.secret_file is None):
            raise ValueError("name the secret with one of the options secret_env and secret_file")
        return self


class WebhookSink(Sink):
    """POSTs events. Raises ``UserError`` where the secret is not there, or too weak."""

    name = "webhook"
    title = "Signed HTTP requests (Standard Webhooks)"
    settings_model = WebhookSettings
    settings: WebhookSettings

    def __init__(self, settings: WebhookSettings) -> None:
        super().__init__(settings)
        self.url, self.timeout = settings.url, settings.timeout_seconds
        self.key = _key(_read_secret(settings))
        self.opener = urllib.request.build_opener(_NoRedirects)

    def deliver(self, event: PlainMapping) -> None:
        """POST one event; any answer 2xx means that it arrived."""
        body = encode(event)
        headers = {"Content-Type": CONTENT_TYPE, "User-Agent": "marauder"} | sign(str(event["id"]), body, self.key)
        request = urllib.request.Request(self.url, data=body, headers=headers, method="POST")
        try:
            with self.opener.open(request, timeout=self.timeout) as answer:
                answer.read(1)
        except urllib.error.HTTPError as error:
            with error:
                # Redirects among them: an address that moved has to be configured anew.
                final = error.code < 500 and error.code not in TRY_AGAIN
                raise DeliveryError(f"{self.url} answered {error.code} {error.reason}", final) from error
        except (OSError, http.client.HTTPException) as error:
            raise DeliveryError(f"{self.url}: {error}") from error


def sign(event_id: str, body: bytes, key: bytes, timestamp: float | None = None) -> dict[str, str]:
    """The three headers of a request with ``body``; ``timestamp`` in seconds since 1970, now by default."""
    seconds = str(int(time.time() if timestamp is None else timestamp))
    headers = {"webhook-id": event_id, "webhook-timestamp": seconds}
    return headers | {"webhook-signature": f"v1,{_signature(event_id, seconds, body, key)}"}


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secret: str,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> Plain:
    """For receivers: the event of a request, if it is signed with ``secret`` and no older than the tolerance.

    ``body`` must be the raw bytes. Raises ``SignatureError``. An event may come more than once: drop a ``webhook-id``
    that was seen.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        event_id, seconds, given = (lower[f"webhook-{part}"] for part in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise SignatureError(f"the header {error.args[0]} is missing") from None
    if not seconds.isdecimal():
        raise SignatureError("webhook-timestamp is not a number of seconds")
    if abs((time.time() if now is None else now) - int(seconds)) > tolerance_seconds:
        raise SignatureError("webhook-timestamp is too old, or ahead of this clock")
    wanted = _signature(event_id, seconds, body, _key(secret)).encode()
    # There may be several, while a secret is being replaced, and some of versions yet to come.
    candidates = [part.partition(",") for part in given.split()]
    # In constant time: how long it takes must not tell how much of a guess was right.
    if not any(version == "v1" and hmac.compare_digest(text.encode(), wanted) for version, _, text in candidates):
        raise SignatureError("no signature of version v1 fits the body and the secret")
    try:
        event = json.loads(body)
    except ValueError:
        raise SignatureError("the body is not JSON") from None
    if not isinstance(event, dict) or event.get("id") != event_id:
        raise SignatureError("webhook-id is not the id of the event")
    return event


def _signature(event_id: str, seconds: str, body: bytes, key: bytes) -> str:
    signed = b".".join([event_id.encode(), seconds.encode(), body])
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")


def _read_secret(settings: WebhookSettings) -> str:
    if settings.secret_file is None:
        secret = os.environ.get(settings.secret_env or "", "").strip()
        if not secret:
            raise UserError(
                f"sink webhook: the environment variable {settings.secret_env} is not set; put the secret there"
            )
        return secret
    try:
        return settings.secret_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UserError(f"sink webhook: {settings.secret_file}: {error.strerror}; put the secret there") from None


def _key(secret: str) -> bytes:
    """The bytes of a secret. The message of an error does not show it."""
    try:
        prefixed = secret.startswith(SECRET_PREFIX)
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True) if prefixed else secret.encode()
    except binascii.Error:
        raise UserError(f"the webhook secret: what follows {SECRET_PREFIX} is not base64; copy it again") from None
    if len(key) < SHORTEST_SECRET:
        raise UserError(f"the webhook secret is shorter than {SHORTEST_SECRET} bytes; make one with `openssl rand`")
    return key
