"""A local stand-in for the instance metadata service of EC2, version 2: tokens are required and expire."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class MetadataService(ThreadingHTTPServer):
    """``announce`` puts JSON at a path; ``requests`` holds (method, path, status) of all that was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tokens: dict[str, float] = {}
        self.content: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.delay = 0.0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def announce(self, path: str, value: Any) -> None:
        self.content[f"/latest/meta-data/{path}"] = json.dumps(value).encode()

    def terminate(self) -> None:
        """What a spot instance is told two minutes ahead."""
        self.announce("spot/instance-action", {"action": "terminate", "time": "2026-11-18T08:22:00Z"})


class _Handler(BaseHTTPRequestHandler):
    server: MetadataService

    def do_PUT(self) -> None:
        seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token" or not seconds.isdigit() or not 1 <= int(seconds) <= 21600:
            self._answer(400)
            return
        token = secrets.token_urlsafe(40)
        self.server.tokens[token] = time.monotonic() + int(seconds)
        self._answer(200, token.encode())

    def do_GET(self) -> None:
        time.sleep(self.server.delay)
        ends = self.server.tokens.get(self.headers.get("X-aws-ec2-metadata-token", ""), 0.0)
        if time.monotonic() >= ends:
            self._answer(401)
        elif self.path not in self.server.content:
            self._answer(404)
        else:
            self._answer(200, self.server.content[self.path])

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.server.requests.append((self.command, self.path, status))
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            return  # who asked has not waited

    def log_message(self, *_values: Any) -> None:
        pass


@contextmanager
def metadata_service() -> Iterator[MetadataService]:
    """The service, running."""
    service = MetadataService()
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()
        thread.join()
