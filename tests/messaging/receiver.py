"""A webhook receiver on 127.0.0.1 that can fail, hang, lose its answer, redirect, and recover."""

from __future__ import annotations

import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from marauder.messaging.webhook import SignatureError, verify


class Receiver:
    """``moods``: what to do with the next requests: a status, ``hang``, or ``lose`` (taken in, but not answered);
    when none is left, requests are taken in. ``events``: what was taken in, checked, in order."""

    def __init__(self, secret: str) -> None:
        self.secret, self.moods, self.events = secret, deque[int | str](), list[dict[str, Any]]()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._take()

            def do_POST(self) -> None:
                self._take()

            def _take(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.requests.append((f"{self.command} {self.path}", dict(self.headers), body))
                mood = receiver.moods.popleft() if receiver.moods else 200
                if mood == "hang":
                    receiver.released.wait(20)
                    return
                if mood == "lose" or (isinstance(mood, int) and mood < 300):
                    mood = receiver.take_in(dict(self.headers), body) or mood
                if mood == "lose":
                    self.close_connection = True
                    return
                self.send_response(int(mood))
                self.send_header("Location", f"{receiver.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def take_in(self, headers: dict[str, str], body: bytes) -> int | None:
        """Check and keep an event; the status of a refusal otherwise."""
        try:
            self.events.append(verify(headers, body, self.secret))
        except SignatureError:
            return 401
        return None

    def close(self) -> None:
        """Stop."""
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
