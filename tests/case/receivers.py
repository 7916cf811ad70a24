"""The other side for tests of delivery: a web server that takes calls as it is told to, and a mail server that keeps mails."""

from __future__ import annotations

import email
import email.policy
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope


@dataclass
class Receiver:
    """What came, as (path, headers, body); `answers` are the next statuses, 200 when there are none."""

    url: str = ""
    came: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    slow: float = 0.0
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _ in list(self.came)]

    def wait(self, count: int, seconds: float = 20, *, different: bool = False) -> None:
        """Until so many calls have come, or so many different ones."""
        until = time.monotonic() + seconds
        while (there := len(set(self.ids()) if different else self.came)) < count:
            assert time.monotonic() < until, f"{there} of {count} calls came"
            time.sleep(0.02)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A web server on a free port."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers["content-length"]))
            with found.lock:
                found.at_once += 1
                found.most_at_once = max(found.most_at_once, found.at_once)
                status = found.answers.pop(0) if found.answers else 200
            time.sleep(found.slow)
            with found.lock:
                found.at_once -= 1
                found.came.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            try:
                self.send_response(status)
                for name, value in found.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "5")
                self.end_headers()
                self.wfile.write(b"never")
            except OSError:
                pass

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Postbox:
    """Mails that a real SMTP server took; `refusals` are its next answers to a receiver."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    receivers: list[list[str]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: Any) -> str:  # noqa: N802
        if self.refusals:
            return self.refusals.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802
        found = email.message_from_bytes(envelope.content or b"", policy=email.policy.default)  # type: ignore[arg-type]
        assert isinstance(found, EmailMessage)
        self.mails.append(found)
        self.receivers.append(list(envelope.rcpt_tos))
        return "250 OK"


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def mailing(**options: Any) -> Iterator[Postbox]:
    """A mail server on a free port."""
    found = Postbox(_free())
    controller = Controller(found, hostname="127.0.0.1", port=found.port, **options)
    controller.start()
    try:
        yield found
    finally:
        controller.stop()
