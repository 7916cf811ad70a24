"""One process's connection to its node's broker, with what its users share: threads for the database, leases, reconnecting."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from nats.aio.client import Client
from sqlalchemy import Engine

from shared import lease
from shared import log as logs
from shared.chain import Head
from shared.database import now, reading
from shared.loops import Loops
from shared.settings import Node

T = TypeVar("T")
RENEW = 7.0
"""Seconds after which a lease is renewed; it runs for fifteen."""
CONNECT = 3.0
"""Seconds until an attempt to connect counts as failed."""


@dataclass
class Link:
    """The connection of `node`'s process. `instance` names a copy among several on one database; alone it needs no leases."""

    node: Node
    engine: Engine
    loops: Loops
    instance: str = field(default_factory=lambda: os.environ.get("SANJI_INSTANCE", ""))
    nc: Any = None
    js: Any = None
    group: str = "all"
    """Copies of the same group share its work; a process that only publishes shares nothing with one that only hears."""
    _leases: dict[str, float] = field(default_factory=dict)
    _known: list[str] = field(default_factory=list)
    _asked: float = -RENEW

    def __post_init__(self) -> None:
        self.reconnected = asyncio.Event()

    @property
    def lost(self) -> bool:
        """Whether there is no connection and none will come by itself: not opened yet, or closed for good by the client.

        It reconnects after a cut, but closes for good over a refused password, too large a message, or whatever the broker
        calls a fault of the protocol.
        """
        return self.nc is None or self.nc.is_closed

    async def open(self) -> None:
        """Connect, and from then on reconnect for ever. Raises ConnectionError with the reason where that takes too long."""
        at, reasons, fresh = self.node.broker, [""], Client()

        async def failed(error: Exception) -> None:
            # The client would print every failed attempt; the loops say what fails, with the reason.
            reasons[0] = f": {type(error).__name__} {error}".rstrip()

        try:
            # A limit around it, because the client tries for ever here, too, and nobody would hear why.
            async with asyncio.timeout(CONNECT):
                await fresh.connect(
                    at.url, user=at.user, password=at.password, max_reconnect_attempts=-1, reconnect_time_wait=0.25,
                    ping_interval=5, max_outstanding_pings=2, allow_reconnect=True, connect_timeout=2, name=self.node.code,
                    reconnected_cb=self._again, error_cb=failed,
                )  # fmt: skip
        except TimeoutError:
            await fresh.close()
            raise ConnectionError(f"no connection to the broker at {at.url}{reasons[0]}") from None
        self.nc, self.js = fresh, fresh.jetstream(timeout=5)

    async def _again(self) -> None:
        self.reconnected.set()

    async def close(self) -> None:
        """Close, and give the leases back. Nothing is lost: what was not confirmed stays in the log."""
        if self.nc and not self.nc.is_closed:
            # Not drain(): it waits half a minute for messages that were fetched and that nobody will ask for any more.
            await self.nc.close()
        if self.instance:
            await self.thread(lease.release, self.engine, self.instance)

    async def request(self, subject: str, body: bytes, timeout: float = 5) -> bytes:
        """Raises nats.errors.Error or TimeoutError where nobody answers."""
        return bytes((await self.nc.request(subject, body, timeout=timeout)).data)

    async def mine(self, name: str) -> bool:
        """Whether this copy holds the lease `name`; pauses where another does."""
        if not self.instance:
            return True
        falls_to = lease.owner(name, await self._copies())
        if falls_to == self.instance:
            if self._leases.get(name, 0.0) > monotonic():
                return True
            if await self.thread(lease.hold, self.engine, name, self.instance, now()):
                self._leases[name] = monotonic() + RENEW
                return True
        elif self._leases.pop(name, None) is not None:
            # Another copy has come and this part falls to it now.
            await self.thread(lease.release, self.engine, self.instance, name)
        await asyncio.sleep(1)
        return False

    async def _copies(self) -> list[str]:
        """The living copies of this process, asked for every few seconds."""
        if self._asked + RENEW / 2 < monotonic():
            self._asked = monotonic()
            self._known = await self.thread(lease.join, self.engine, self.group, self.instance, now())
        return self._known

    async def thread(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work` in a thread: the database never holds up the event loop."""
        return await asyncio.to_thread(work, *args)

    async def head(self, reader: str, log: str) -> Head:
        return await self.thread(self._head, reader, log)

    def _head(self, reader: str, log: str) -> Head:
        with reading(self.engine) as connection:
            return logs.head(connection, reader, log)
