"""Processes that must live: how they are started, watched and stopped."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import orjson


def taken(port: int) -> bool:
    """Whether something listens on this port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Nursery:
    """Starts processes as copies of one that has imported everything; when it dies, all that came from it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, what: dict[str, Any]) -> int:
        """Start what `deploy.nursery` describes; answers the pid. Raises OSError where the nursery just died."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(orjson.dumps(what) + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise OSError("the nursery died")
        return int(answer)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def kill(self) -> None:
        """End it as the system would in need; for those who try what happens then."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End it, and with it everything that still lives."""
        if self._process and self._process.stdin:
            self._process.stdin.close()
            self._process.wait()


@dataclass
class Child:
    """A process under supervision; `failures` counts early deaths in a row, `restarts` all starts after the first."""

    name: str
    what: dict[str, Any]
    nursery: Nursery
    pid: int | None = None
    started: float = 0.0
    failures: int = 0
    restarts: int = -1
    _handle: int | None = field(default=None, repr=False)

    @property
    def alive(self) -> bool:
        # A handle, not a number: the system gives numbers out again.
        return self._handle is not None and not self._over(0)

    def _over(self, patience: float) -> bool:
        poll = select.poll()
        poll.register(self._handle or -1, select.POLLIN)
        return bool(poll.poll(patience * 1000))

    def due(self) -> bool:
        pause: float = min(10.0, 0.2 * 2.0**self.failures)
        return not self.started or time.monotonic() - self.started >= pause

    def start(self) -> None:
        self.failures = self.failures + 1 if self.started and time.monotonic() - self.started < 10 else 0
        self.started = time.monotonic()
        self.restarts += 1
        self._forget()
        try:
            self.pid = self.nursery.start(self.what)
            self._handle = os.pidfd_open(self.pid)
        except OSError:
            # Dead already, or the nursery is: either way it is not alive and will be due again.
            self.pid = None

    def _forget(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None

    def signal(self, number: int) -> None:
        """Send a signal to a living process; a dead one is left alone."""
        if self._handle is not None and self.alive:
            signal.pidfd_send_signal(self._handle, number)

    def end(self, patience: float = 12) -> None:
        """Wait until it is gone; kill it when patience ends."""
        if self._handle is not None and not self._over(patience):
            self.signal(signal.SIGKILL)
            self._over(5)
        self._forget()
