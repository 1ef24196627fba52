"""What every sink must do, and webhooks in particular: signatures, answers, redirects, secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from receiver import Receiver

from marauder.core.errors import UserError
from marauder.messaging.base import DeliveryError
from marauder.messaging.webhook import SignatureError, sign, verify
from marauder.testing.sinks import SinkContract, event_of

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
KEY = bytes(range(32))


class TestWebhookSink(SinkContract):
    name = "webhook"

    @pytest.fixture(autouse=True)
    def receiving(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("HOOK_SECRET", SECRET)
        self.receiver = Receiver(SECRET)
        self.options = {"url": f"{self.receiver.url}/hook", "secret_env": "HOOK_SECRET", "timeout_seconds": 2}
        self.sink = self.make(self.options)
        self.unreachable = {**self.options, "url": "http://127.0.0.1:9/hook"}
        yield
        self.receiver.close()

    def arrived(self) -> list[dict[str, Any]]:
        return self.receiver.events

    def refuse(self) -> dict[str, Any]:
        self.receiver.moods.append(422)
        return event_of()

    @pytest.mark.parametrize(
        ("mood", "final"), [(500, False), (503, False), (408, False), (429, False), (400, True), (410, True)]
    )
    def test_which_answers_are_final(self, mood: int, final: bool) -> None:
        self.receiver.moods.append(mood)
        with pytest.raises(DeliveryError, match=str(mood)) as caught:
            self.sink.deliver(event_of())
        assert caught.value.final is final

    def test_a_redirect_is_not_followed(self) -> None:
        self.receiver.moods.append(307)
        with pytest.raises(DeliveryError, match="307") as caught:
            self.sink.deliver(event_of())
        assert caught.value.final
        assert [request for request, _, _ in self.receiver.requests] == ["POST /hook"]

    def test_a_hanging_receiver_is_given_up_in_time(self) -> None:
        self.receiver.moods.append("hang")
        with pytest.raises(DeliveryError, match="timed out") as caught:
            self.make({**self.options, "timeout_seconds": 0.3}).deliver(event_of())
        assert not caught.value.final

    def test_a_lost_answer_brings_the_event_again_with_the_same_id(self) -> None:
        self.receiver.moods.append("lose")
        with pytest.raises(DeliveryError) as caught:
            self.sink.deliver(event_of())
        assert not caught.value.final
        self.sink.deliver(event_of())
        first, second = self.receiver.events
        assert first["id"] == second["id"]

    def test_what_is_sent(self) -> None:
        self.sink.deliver(event_of(3))
        _, headers, body = self.receiver.requests[0]
        lower = {name.lower(): value for name, value in headers.items()}
        assert lower["content-type"] == "application/cloudevents+json; charset=utf-8"
        assert lower["webhook-id"] == json.loads(body)["id"]
        signed = f"{lower['webhook-id']}.{lower['webhook-timestamp']}.".encode() + body
        digest = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        assert lower["webhook-signature"] == f"v1,{digest}"

    def test_a_wrong_secret_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOOK_SECRET", "another secret of enough length")
        with pytest.raises(DeliveryError, match="401"):
            self.make(self.options).deliver(event_of())

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            ({"url": "file:///etc/passwd"}, "http"),
            ({"url": "http://me:word@127.0.0.1/"}, "password"),
            ({"secret_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
            ({"secret_env": None}, "secret_env"),
            ({"secret_file": "/also/given"}, "secret_file"),
            ({"secret_env": None, "secret_file": "/not/there"}, "/not/there"),
        ],
    )
    def test_bad_options_are_told_before_anything_is_sent(self, change: dict[str, Any], word: str) -> None:
        with pytest.raises(UserError, match=word):
            self.make({**self.options, **change})

    def test_a_secret_may_stand_in_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(f"{SECRET}\n")
        self.make({"url": self.options["url"], "secret_file": str(tmp_path / "secret")}).deliver(event_of())
        assert len(self.receiver.events) == 1

    @pytest.mark.parametrize("secret", ["brief", "whsec_c2hvcnQ=", "whsec_not/base64!"])
    def test_a_weak_or_damaged_secret_is_told_but_not_shown(self, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
        monkeypatch.setenv("HOOK_SECRET", secret)
        with pytest.raises(UserError) as caught:
            self.make(self.options)
        assert secret not in str(caught.value)


def signed_request(timestamp: float = 1000.0) -> tuple[dict[str, str], bytes]:
    event = event_of()
    body = json.dumps(event).encode()
    return sign(event["id"], body, KEY, timestamp), body


def test_the_example_of_the_specification() -> None:
    """The vector that the libraries of Standard Webhooks test themselves with."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', key, 1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_verify_takes_what_is_signed_also_among_other_signatures() -> None:
    headers, body = signed_request()
    assert verify(headers, body, SECRET, now=1100)["subject"] == "run-1"
    several = {**headers, "webhook-signature": f"v1a,AAAA v1,AAAA {headers['webhook-signature']}"}
    assert verify({name.title(): value for name, value in several.items()}, body, SECRET, now=1100)


@pytest.mark.parametrize(
    ("change", "now", "word"),
    [
        ({"webhook-signature": "v1,AAAA"}, 1000, "signature"),
        ({"webhook-signature": "v2,é"}, 1000, "signature"),
        ({"webhook-id": "another"}, 1000, "signature"),
        ({"webhook-timestamp": "1001"}, 1000, "signature"),
        ({"webhook-timestamp": "soon"}, 1000, "number"),
        ({}, 1301, "old"),
        ({}, 600, "ahead"),
    ],
)
def test_verify_refuses(change: dict[str, str], now: float, word: str) -> None:
    headers, body = signed_request()
    with pytest.raises(SignatureError, match=word):
        verify({**headers, **change}, body, SECRET, now=now)
    with pytest.raises(SignatureError):
        verify(headers, body + b" ", SECRET, now=1000)
    headers.pop("webhook-id")
    with pytest.raises(SignatureError, match="missing"):
        verify(headers, body, SECRET, now=1000)


class TestEventBridgeSink(SinkContract):
    """Against moto: a bus whose rule sends everything to a queue."""

    name = "eventbridge"

    @pytest.fixture(autouse=True)
    def bus(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        import boto3
        from moto import mock_aws

        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        with mock_aws():
            events = boto3.client("events", region_name="eu-west-1")
            self.queue = boto3.client("sqs", region_name="eu-west-1")
            self.url = self.queue.create_queue(QueueName="arrived")["QueueUrl"]
            attributes = self.queue.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]
            events.create_event_bus(Name="reef")
            pattern = json.dumps({"source": ["marauder"], "detail-type": ["io.marauder.run.finished"]})
            events.put_rule(Name="all", EventBusName="reef", EventPattern=pattern)
            target = {"Id": "queue", "Arn": attributes["QueueArn"]}
            events.put_targets(Rule="all", EventBusName="reef", Targets=[target])
            self.sink = self.make({"bus": "reef", "region": "eu-west-1"})
            # Unreachable is tested against a closed port: moto answers for Amazon's own addresses only.
            self.unreachable = {"region": "eu-west-1", "endpoint_url": "http://127.0.0.1:9"}
            yield

    def arrived(self) -> list[dict[str, Any]]:
        found = []
        while messages := self.queue.receive_message(QueueUrl=self.url).get("Messages", []):
            for message in messages:
                found.append(json.loads(message["Body"])["detail"])
                self.queue.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def refuse(self) -> dict[str, Any]:
        return event_of(1, text="x" * 300_000)

    def test_an_entry_that_the_bus_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sink = self.make({"bus": "reef", "region": "eu-west-1"})
        client = sink._client()
        for code, final in (("InternalFailure", False), ("ThrottlingException", False), ("MalformedDetail", True)):
            answer = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": code, "ErrorMessage": "no"}]}
            monkeypatch.setattr(client, "put_events", lambda answer=answer, **_: answer)
            with pytest.raises(DeliveryError, match=code) as caught:
                sink.deliver(event_of())
            assert caught.value.final is final
