"""CloudEvents 1.0 in their structured JSON form, with the extension ``sequence`` for their order in an outbox.

Sources: CNCF CloudEvents 1.0.2, its JSON event format, and its documented extension "sequence".
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime

from marauder.core.files import to_plain
from marauder.core.plain import Plain, PlainMapping

PREFIX = "io.marauder."
SPECIFICATION = "1.0"
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
SEQUENCE_DIGITS = 12
NO_WORD = re.compile(r"[^\w.\-]+", re.ASCII)
"""What an id leaves out of its subject: ids stand in headers of requests."""


def make_event(number: int, type: str, source: str, subject: str, data: PlainMapping, time: float) -> Plain:
    """The envelope of an event: ``number`` is its place in the outbox (from 1), ``time`` in seconds since 1970.

    The ``id`` is a function of the arguments other than ``data``: delivered twice, an event has the same one.
    """
    moment = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    full_type = type if type.startswith(PREFIX) else PREFIX + type
    digest = hashlib.sha256(json.dumps([source, subject, number, full_type, moment]).encode()).hexdigest()
    return {
        "specversion": SPECIFICATION,
        "id": f"{re.sub(NO_WORD, '_', subject)}-{number}-{digest[:12]}",
        "source": source,
        "type": full_type,
        "subject": subject,
        "time": moment,
        # Padded: the extension has sequences compared as text.
        "sequence": f"{number:0{SEQUENCE_DIGITS}d}",
        "datacontenttype": "application/json",
        "data": to_plain(dict(data)),
    }


def encode(event: PlainMapping) -> bytes:
    """The event as the bytes that are sent and signed."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")
