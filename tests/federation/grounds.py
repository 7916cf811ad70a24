"""Small federations of real processes for tests: free ports, a topology, a link that can be cut, pushed cases."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy import client, e2e
from deploy.supervisor import Supervisor
from deploy.topology import load

CHAIN = (("650000", None), ("650100", "650000"), ("650102", "650100"), ("650103", "650100"))
"""A root, one below it, two below that: codes of the demo pack, whose cells the cases need."""


BLOCK = 80
_CLAIMED: list[socket.socket] = []


def free_block() -> int:
    """First of eighty free ports in a row, ten for each of eight nodes; below the range that the system gives out by itself.

    The block belongs to this process until it ends: a name on this machine marks it, because the ports themselves stay free until
    the nodes start, and two test processes that only look would both find them free.
    """
    for first in range(20000, 32000, BLOCK):
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0sanji-test-ports-{first}")
            for port in range(first, first + BLOCK):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        _CLAIMED.append(mark)
        return first
    raise RuntimeError(f"no {BLOCK} free ports in a row")


def line(code: str, parent: str | None, port: int, **more: str) -> str:
    """One node's line of a topology file."""
    values: dict[str, str | int] = {"code": code, "port": port, **({"parent": parent} if parent else {}), **more}
    written = ", ".join(f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in values.items())
    return f'  {{ {written}, names = {{ zh = "{code}", en = "{code}" }} }},'


def write(path: Path, lines: list[str]) -> Path:
    """A topology file with these nodes over the demo pack."""
    pack = e2e.ROOT / "packs" / "xinjiang"
    head = [f'pack = "{pack}"', "demo = true", 'zone = "Asia/Shanghai"', "nodes = ["]
    path.write_text("\n".join([*head, *lines, "]", ""]))
    return path


@pytest.fixture
def topology_file(tmp_path: Path) -> Path:
    first = free_block()
    return write(tmp_path / "topology.toml", [line(c, p, first + n * 10) for n, (c, p) in enumerate(CHAIN)])


@contextmanager
def running(topology: Path, base: Path, *, split: bool = False) -> Iterator[Supervisor]:
    """The federation of `topology`, up and ready; stopped at the end whatever happened."""
    supervisor = Supervisor(load(topology), base, split=split)
    try:
        supervisor.up()
        yield supervisor
    finally:
        supervisor.stop()


def event(name: str, kind: str, data: dict[str, object], subject: str = "a") -> dict[str, Any]:
    """A platform's event about its case `subject`."""
    return {
        "specversion": "1.0", "id": name, "source": e2e.SOURCE, "type": f"cn.sanji.platform.case.{kind}.v1",
        "time": "2026-03-02T09:00:00+08:00", "subject": subject, "data": data,
    }  # fmt: skip


def reports(first: int, count: int) -> list[dict[str, Any]]:
    """`count` reports of one category inside the first county's ground, numbered from `first`."""
    data: dict[str, object] = {"category": "E0101", "lon": 87.62, "lat": 43.72}
    return [event(f"z{n}:reported", "reported", data, f"z{n}") for n in range(first, first + count)]


def settled(supervisor: Supervisor, count: int, at: str = "650000", patience: float = 60) -> bool:
    """Whether node `at` comes to `count` reports of the first county and nothing else."""
    truth = {("650102", "E0101"): {"reported": count}}
    return client.settle(supervisor.topology.node(at).port, truth, supervisor.tend, patience)


@dataclass
class Wire:
    """A TCP proxy between a child's broker and its parent's that can be cut: then nothing passes and nothing is refused."""

    target: int
    whole: threading.Event = field(default_factory=threading.Event)
    _open: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.whole.set()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
                self.whole.wait()
                far = socket.create_connection(("127.0.0.1", self.target), 2)
            except OSError:
                if self.server.fileno() < 0:
                    return
                near.close()
                continue
            self._open += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(a, b), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                # Held back, not refused: both ends believe in the link until their own heartbeat fails.
                self.whole.wait()
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def cut(self) -> None:
        self.whole.clear()

    def mend(self) -> None:
        """Let it pass again; what was open is closed, as a returning line does."""
        for end in self._open:
            end.close()
        self._open.clear()
        self.whole.set()

    def close(self) -> None:
        self.mend()
        self.server.close()
