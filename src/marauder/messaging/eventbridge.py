"""The EventBridge sink: puts events on a bus of Amazon EventBridge, the whole CloudEvent as its detail."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from marauder.core.plain import PlainMapping
from marauder.core.settings import Settings
from marauder.messaging.base import DeliveryError, Sink
from marauder.messaging.cloud_events import encode

LARGEST_BYTES = 256 * 1024
"""Of an entry, its source, type and time included (quota of PutEvents)."""
AT_FAULT = ("InvalidArgument", "MalformedDetail", "ValidationException", "NotAuthorizedForSourceException")
"""Error codes that say the entry itself is refused; another attempt gives the same."""


class EventBridgeSettings(Settings):
    """Which bus. Credentials are those of the AWS environment."""

    bus: str = Field("default", description="its name or ARN")
    region: str | None = None
    endpoint_url: str | None = Field(None, description="of another server than Amazon's")


class EventBridgeSink(Sink):
    """Puts events on a bus of Amazon EventBridge."""

    name = "eventbridge"
    title = "Amazon EventBridge"
    settings_model = EventBridgeSettings
    settings: EventBridgeSettings

    def __init__(self, settings: EventBridgeSettings) -> None:
        super().__init__(settings)
        self.bus = settings.bus
        self.client: Any = None

    def deliver(self, event: PlainMapping) -> None:
        """Put one event; EventBridge's ``source`` and ``detail-type`` are the CloudEvent's source and type."""
        from botocore.exceptions import BotoCoreError, ClientError

        detail = encode(event)
        # The rest is room for the entry's source, type and time.
        if len(detail) > LARGEST_BYTES - 1024:
            raise DeliveryError(f"the event has {len(detail):,} bytes; EventBridge takes {LARGEST_BYTES:,}", final=True)
        entry = {
            "Source": event["source"],
            "DetailType": event["type"],
            "Detail": detail.decode("utf-8"),
            "EventBusName": self.bus,
            "Time": datetime.fromisoformat(event["time"]),
        }
        try:
            answer = self._client().put_events(Entries=[entry])
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            raise DeliveryError(f"bus {self.bus}: {error}", final=code in AT_FAULT) from error
        except (BotoCoreError, OSError) as error:
            raise DeliveryError(f"bus {self.bus}: {error}") from error
        # PutEvents answers 200 although it refused an entry.
        if answer.get("FailedEntryCount"):
            failed = answer["Entries"][0]
            code = failed.get("ErrorCode", "")
            raise DeliveryError(f"bus {self.bus}: {code} {failed.get('ErrorMessage', '')}", final=code in AT_FAULT)

    def _client(self) -> Any:
        if self.client is None:
            import boto3
            from botocore.config import Config

            # Few attempts: the follower tries again, with growing pauses, and keeps count.
            config = Config(connect_timeout=10, read_timeout=20, retries={"total_max_attempts": 2, "mode": "standard"})
            self.client = boto3.client(
                "events",
                region_name=self.settings.region,
                endpoint_url=self.settings.endpoint_url,
                config=config,
            )
        return self.client
