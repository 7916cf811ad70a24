"""A node's traffic with its broker: publish the own sealed log, hear every origin below, repair from the next on the route."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

import nats
import orjson
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError
from sqlalchemy import Engine

from shared import broker, lease
from shared import log as logs
from shared.chain import Head, encode
from shared.database import now, reading
from shared.loops import Loops
from shared.reader import Apply, Gap, Reader, Wrong
from shared.settings import Node

BATCH = 300
"""Facts in one bus message: far below the broker's limit of 1 MB, and enough that its disk flush costs each little."""

T = TypeVar("T")


@dataclass
class Bus:
    """One process's connection: `publishes` names services whose logs it seals and sends, `readers` who hears which service."""

    node: Node
    engine: Engine
    publishes: tuple[str, ...]
    readers: tuple[tuple[Reader, str], ...]
    loops: Loops = field(default_factory=Loops)
    not_durable: str = "not asked yet"
    ahead: dict[str, tuple[int, float]] = field(default_factory=dict)
    changed: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        # The same after a restart, so that a killed process finds its leases again at once; copies need names of their own.
        self.holder = os.environ.get("SANJI_INSTANCE", "only")
        self.wake = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.nc: Any = None
        self.js: Any = None
        self._leases: dict[str, float] = {}
        self._progress: dict[str, tuple[int, float]] = {}

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        at = self.node.broker
        self.nc = await nats.connect(
            at.url, user=at.user, password=at.password, max_reconnect_attempts=-1, reconnect_time_wait=0.25,
            ping_interval=5, max_outstanding_pings=2, allow_reconnect=True, connect_timeout=2, name=self.node.code,
        )  # fmt: skip
        self.js = self.nc.jetstream(timeout=5)
        await self.nc.subscribe(f"rpc.{self.node.code}.range", "answer", self._safe(self._answer_range))
        await self.nc.subscribe(f"rpc.{self.node.code}.heads", "answer", self._safe(self._answer_heads))
        self.loops.start("stream", self._keep_stream)
        for service in self.publishes:
            self.loops.start(f"publish {service}", self._publisher(service))
        self.follow(self.node)

    def follow(self, node: Node) -> None:
        """Hear every origin of `node`; called again when the topology grew."""
        self.node = node
        for reader, service in self.readers:
            for origin, route in node.routes().items():
                self.loops.start(f"hear {origin}/{service}", self._listener(reader, service, origin, route))
        for child in node.children():
            self.loops.start(f"compare {child.code}", self._comparer(child.code))

    async def stop(self) -> None:
        await self.loops.stop()
        if self.nc and not self.nc.is_closed:
            await self.nc.drain()
        await asyncio.to_thread(lease.release, self.engine, self.holder)

    # Publishing ------------------------------------------------------------------------------------------------------

    async def _keep_stream(self) -> None:
        children = [c.code for c in self.node.children()]
        always = await self._thread(broker.sync_always, self.node.broker.monitor)
        self.not_durable = "" if always else "the broker may lose what it confirmed: set sync_interval: always"
        await broker.ensure_stream(self.nc, self.node.code, children)
        await asyncio.sleep(2)

    def _publisher(self, service: str) -> Callable[[], Awaitable[None]]:
        log, lease_name = self.node.log(service), f"publish {self.node.log(service)}"

        async def turn() -> None:
            if not await self._mine(lease_name):
                return
            self.wake.clear()
            await self._thread(logs.seal, self.engine, log, 1000)
            while await self._publish(log, service):
                pass
            if not await self._thread(logs.seal, self.engine, log, 1000):
                try:
                    await asyncio.wait_for(self.wake.wait(), 0.5)
                except TimeoutError:
                    return
                # What comes together within a moment shares one message and one flush.
                await asyncio.sleep(0.02)

        return turn

    async def _publish(self, log: str, service: str) -> bool:
        known = await self._thread(self._head, logs.PUBLISHER, log)
        found, closing = await self._thread(logs.read_range, self.engine, log, known.seq + 1, BATCH)
        if not found:
            return False
        last = found[-1]
        headers = {"Nats-Msg-Id": f"{log}:{last.epoch}:{last.seq}"}
        await self.js.publish(f"{self.node.code}.{service}", encode(log, found, closing), timeout=5, headers=headers)
        await self._thread(self._moved, log, known, Head(last.epoch, last.seq, closing))
        return True

    def _head(self, reader: str, log: str) -> Head:
        with reading(self.engine) as connection:
            return logs.head(connection, reader, log)

    def _moved(self, log: str, old: Head, new: Head) -> None:
        with self.engine.begin() as connection:
            logs.move_head(connection, logs.PUBLISHER, log, old, new)

    # Hearing ---------------------------------------------------------------------------------------------------------

    def _listener(self, reader: Reader, service: str, origin: str, route: tuple[str, ...]) -> Callable[[], Awaitable[None]]:
        subject = ".".join((*route, origin, service))
        durable = f"{reader.name}-{origin}-{service}"
        lease_name = f"hear {durable}"
        held: list[Any] = []

        async def turn() -> None:
            if not await self._mine(lease_name):
                return
            if not held:
                await broker.ensure_consumer(self.nc, self.node.code, durable, subject)
                held.append(await self.js.pull_subscribe_bind(durable, stream=f"EV_{self.node.code}"))
            try:
                for message in await held[0].fetch(20, timeout=4):
                    await self._hear(reader, origin, service, message)
            except TimeoutError:
                # Silence and a consumer that is gone look alike: ask.
                await self._still_there(held, durable)
            except NatsError:
                held.clear()
                raise

        return turn

    async def _still_there(self, held: list[Any], durable: str) -> None:
        try:
            await self.js.consumer_info(f"EV_{self.node.code}", durable, timeout=5)
        except (NotFoundError, NatsError, TimeoutError):
            held.clear()
            raise

    async def _hear(self, reader: Reader, origin: str, service: str, message: Any) -> None:
        judgement = await self._thread(reader.take, origin, service, message.data)
        if isinstance(judgement, Gap):
            await self.repair(reader, origin, service)
            judgement = await self._thread(reader.take, origin, service, message.data)
        if isinstance(judgement, Gap):
            await message.nak(delay=2)
        elif isinstance(judgement, Wrong):
            await message.term()
        else:
            await message.ack()
        if isinstance(judgement, Apply):
            self.changed()

    # Repair ----------------------------------------------------------------------------------------------------------

    async def repair(self, reader: Reader, origin: str, service: str) -> int:
        """Fetch what is missing of a log from the next node on the route (or the own database); returns how many facts."""
        log, total = f"{origin}/{service}", 0
        while True:
            known = await self._thread(self._head, reader.name, log)
            message = await self._range(origin, log, known.seq + 1)
            if not message:
                return total
            judgement = await self._thread(reader.take, origin, service, message)
            if not isinstance(judgement, Apply):
                return total
            total += len(judgement.entries)
            reader.counts["repaired"] = reader.counts.get("repaired", 0) + len(judgement.entries)
            self.changed()

    async def _range(self, origin: str, log: str, first: int) -> bytes:
        route = self.node.routes()[origin]
        if not route:
            found, closing = await self._thread(logs.read_range, self.engine, log, first, BATCH)
            return encode(log, found, closing) if found else b""
        ask = orjson.dumps({"log": log, "first": first})
        return bytes((await self.nc.request(f"rpc.{route[0]}.range", ask, timeout=5)).data)

    def _comparer(self, child: str) -> Callable[[], Awaitable[None]]:
        async def turn() -> None:
            try:
                reply = await self.nc.request(f"rpc.{child}.heads", b"", timeout=3)
            except (NatsError, TimeoutError):
                # A child out of reach is the page's business, not a reason to call this node unfit for work.
                await asyncio.sleep(2)
                return
            theirs = orjson.loads(reply.data)
            for origin, route in self.node.routes().items():
                if route[:1] == (child,):
                    for service in {heard for _, heard in self.readers}:
                        log = f"{origin}/{service}"
                        self.ahead[log] = (int(theirs.get(log, 0)), monotonic())
                        await self._catch_up(log, origin, service, int(theirs.get(log, 0)))
            await asyncio.sleep(2)

        return turn

    async def _catch_up(self, log: str, origin: str, service: str, theirs: int) -> None:
        """Repair a log that stays behind although nothing arrives: a lost tail leaves no gap to see."""
        for reader, heard in self.readers:
            if heard != service:
                continue
            ours = (await self._thread(self._head, reader.name, log)).seq
            before, since = self._progress.get(log, (-1, monotonic()))
            if ours != before or ours >= theirs:
                self._progress[log] = (ours, monotonic())
            elif monotonic() - since > 4 and await self._mine(f"hear {reader.name}-{origin}-{service}"):
                await self.repair(reader, origin, service)

    # Answering -------------------------------------------------------------------------------------------------------

    async def _answer_range(self, message: Any) -> None:
        ask = orjson.loads(message.data)
        found, closing = await self._thread(logs.read_range, self.engine, str(ask["log"]), int(ask["first"]), BATCH)
        await message.respond(encode(ask["log"], found, closing) if found else b"")

    async def _answer_heads(self, message: Any) -> None:
        await message.respond(orjson.dumps(await self._thread(self._all_heads)))

    def _all_heads(self) -> dict[str, int]:
        with reading(self.engine) as connection:
            rows = connection.execute(logs.heads.select().where(logs.heads.c.reader != logs.PUBLISHER)).all()
        return {r.log: max(x.seq for x in rows if x.log == r.log) for r in rows}

    def _safe(self, answer: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def guarded(message: Any) -> None:
            try:
                await answer(message)
            except (ValueError, KeyError, TypeError):
                # A malformed request gets an empty answer; the asker treats it as nothing to be had.
                await message.respond(b"")

        return guarded

    async def _mine(self, name: str) -> bool:
        """Whether this process holds the lease; pauses where another does."""
        until = self._leases.get(name, 0.0)
        if until > monotonic():
            return True
        if await self._thread(lease.hold, self.engine, name, self.holder, now()):
            self._leases[name] = monotonic() + 7
            return True
        await asyncio.sleep(2)
        return False

    async def _thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.to_thread(work, *args)
