"""Real brokers from a rendered topology, without the nodes' processes: for tests that play a node, or a hostile one."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import nats

from deploy.process import taken
from deploy.render import render, secret
from deploy.supervisor import BROKER
from deploy.topology import Topology, load
from shared import broker
from shared.settings import Node
from shared.settings import load as load_node
from tests.federation.grounds import free_block, line, write


@dataclass
class Brokers:
    """Brokers of the nodes of `chain`, (code, parent) each, parents first; started and killed one by one."""

    base: Path
    chain: tuple[tuple[str, str | None], ...]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first = free_block()
        lines = [line(c, p, first + n * 10) for n, (c, p) in enumerate(self.chain)]
        self.topology: Topology = load(write(self.base / "t.toml", lines))
        for code, _ in self.chain:
            render(self.topology, code, self.base)

    def node(self, code: str) -> Node:
        return load_node(self.base / code / "node.json")

    def start(self, code: str) -> None:
        """Start the broker of `code` and wait until it listens."""
        with (self.base / code / "broker.log").open("ab") as log:
            command = [str(BROKER), "-c", str(self.base / code / "broker.conf")]
            self.processes[code] = subprocess.Popen(command, stdout=log, stderr=log)
        until = monotonic() + 10
        while not taken(self.topology.node(code).broker_port):
            assert monotonic() < until, f"the broker of {code} does not come up"

    def kill(self, code: str) -> None:
        process = self.processes.pop(code)
        process.kill()
        process.wait()

    def reload(self, code: str) -> None:
        self.processes[code].send_signal(signal.SIGHUP)

    async def connect(self, code: str, user: str = "node", secret_of: tuple[str, str] | None = None, **more: Any) -> Any:
        """A plain client at the broker of `code`; `secret_of` says whose (node, user) password it shows, by default its own."""
        password = secret(self.base, *(secret_of or (code, user)))
        url = f"nats://127.0.0.1:{self.topology.node(code).broker_port}"
        return await nats.connect(url, user=user, password=password, allow_reconnect=False, connect_timeout=2, **more)

    async def linked(self, code: str, children: list[str], **more: Any) -> None:
        """Wait until the stream of `code` has those of `children` as sources."""
        client = await self.connect(code)

        async def all_there() -> bool:
            await broker.ensure_stream(client, code, children, **more)
            found = (await broker.ask(client, f"STREAM.INFO.EV_{code}", {}))["config"].get("sources") or []
            return {s["name"] for s in found} == {f"EV_{c}" for c in children}

        assert await until(all_there), f"the links of {code} do not come up"
        await client.close()


async def until(wanted: Callable[[], Awaitable[bool]], patience: float = 15) -> bool:
    """Whether `wanted` comes true before patience ends."""
    end = monotonic() + patience
    while monotonic() < end:
        if await wanted():
            return True
        await asyncio.sleep(0.1)
    return False


@contextmanager
def brokers(base: Path, *chain: tuple[str, str | None], start: bool = True) -> Iterator[Brokers]:
    """The brokers of `chain`, running; killed at the end whatever happened."""
    found = Brokers(base, chain)
    try:
        for code, _ in chain if start else ():
            found.start(code)
        yield found
    finally:
        for code in list(found.processes):
            found.kill(code)
