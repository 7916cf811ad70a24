"""A node's traffic with its broker, put together: publish own logs, hear every origin below, compare, repair, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Any

import orjson
import structlog
from nats.errors import Error as NatsError
from sqlalchemy import Engine

from shared import broker
from shared import log as logs
from shared.chain import encode
from shared.compare import Ahead, Comparison, Known
from shared.database import reading
from shared.hear import Hearing, Listener
from shared.link import Link
from shared.loops import Loops
from shared.publish import BATCH, Publisher
from shared.reader import Reader
from shared.settings import Node
from shared.telemetry import Gauge

logger = structlog.get_logger()


class Bus:
    """One process's traffic: `publishes` names services whose logs it seals and sends, `readers` who hears which service.

    A process with neither has no business with the broker and does not connect.
    """

    def __init__(
        self, node: Node, engine: Engine, loops: Loops, publishes: tuple[str, ...], readers: tuple[tuple[Reader, str], ...]
    ) -> None:
        services = (*publishes, *(f"{reader.name}:{service}" for reader, service in readers))
        self.link = Link(node, engine, loops, group=",".join(services))
        self.publishers = [Publisher(self.link, service) for service in publishes]
        self.hearings = [Hearing(self.link, reader, service, self._moved) for reader, service in readers]
        self.comparison = Comparison(self.link, self.hearings)
        self.used = bool(publishes or readers)
        self.not_durable = "not asked yet" if self.used else ""
        self.changed: Callable[[], None] = lambda: None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._begun = False
        self._follows: dict[str, tuple[str, ...]] = {}
        """Loops about nodes below by name, with the route that they were started for."""

    @property
    def ahead(self) -> dict[str, Ahead]:
        return self.comparison.ahead

    def _moved(self) -> None:
        self.changed()

    def committed(self) -> None:
        """Something was committed (told from any thread): seal and send it now."""
        if self.loop and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for publisher in self.publishers:
            publisher.wake.set()

    async def start(self) -> None:
        if not self.used:
            return
        self.loop = asyncio.get_running_loop()
        # The broker may come later than we do: until then facts wait in the log, and readiness says what is missing.
        self.link.loops.start("stream", self._keep_stream)

    async def _connect(self) -> None:
        """Connect at the start, and anew where the client has closed for good."""
        await self.link.open()
        code = self.link.node.code
        # Copies and services of one node share a database, so any of them may answer; of what lies below only a hearer knows.
        try:
            await self.link.nc.subscribe(f"rpc.{code}.range", "answer", partial(_guarded, self._answer_range))
            if self.hearings:
                await self.link.nc.subscribe(f"rpc.{code}.heads", "answer", partial(_guarded, self._answer_heads))
        except NatsError:
            # A connection on which nobody answers would look well from here.
            await self.link.nc.close()
            raise

    def _begin(self) -> None:
        """Start what needs a connection and the stream."""
        self._begun = True
        for publisher in self.publishers:
            self.link.loops.start(f"publish {publisher.service}", publisher.turn)
        self.follow(self.link.node)

    def follow(self, node: Node) -> None:
        """Hear every origin of `node`; called again when nodes joined or left below."""
        self.link.node = node
        if not self._begun:
            return
        routes, loops = node.routes(), self.link.loops
        listeners = {f"hear {o}/{h.service}": Listener(h, o, route) for h in self.hearings for o, route in routes.items()}
        children = {f"compare {c.code}": c for c in node.children()} if self.hearings else {}
        follows = {name: one.route for name, one in (listeners | children).items()}
        for name, route in self._follows.items():
            if follows.get(name) != route:
                loops.drop(name)
        self._follows = follows
        self.comparison.only(routes)
        for name, listener in listeners.items():
            loops.start(name, listener.turn, listener.close)
        for name, child in children.items():
            loops.start(name, partial(self.comparison.turn, child.code))

    async def stop(self) -> None:
        await self.link.loops.stop()
        await self.link.close()

    async def _keep_stream(self) -> None:
        if self.link.lost:
            await self._connect()
        node = self.link.node
        always = await self.link.thread(broker.sync_always, self.link.node.broker.monitor)
        if not always:
            self.not_durable = "the broker may lose what it confirmed: set sync_interval: always"
        await broker.ensure_stream(self.link.nc, node.code, [c.code for c in node.children()], len(node.path))
        if not self._begun:
            self._begin()
        if always:
            # Only now: whoever asks whether we are ready may publish and read at once.
            self.not_durable = ""
        await asyncio.sleep(2)

    async def _answer_range(self, message: Any) -> None:
        ask = orjson.loads(message.data)
        log, first = str(ask["log"]), int(ask["first"])
        found, closing = await self.link.thread(logs.read_range, self.link.engine, log, first, BATCH)
        await message.respond(encode(log, found, closing) if found else b"")

    async def _answer_heads(self, message: Any) -> None:
        await message.respond(orjson.dumps(await self.link.thread(self._heads)))

    def _heads(self) -> dict[str, dict[str, Any]]:
        """What is known of every log that is kept here: as far as any reader or the sealer has it, and what was heard of it."""
        found: dict[str, Known] = {}
        with reading(self.link.engine) as connection:
            for row in connection.execute(logs.heads.select().where(logs.heads.c.reader != logs.PUBLISHER)):
                if row.seq > found.get(row.log, Known()).seq:
                    found[row.log] = Known(row.seq, bytes(row.chain).hex())
        for log, (ahead, age) in self.comparison.known().items():
            found[log] = found.get(log, Known())._replace(ahead=ahead, age=round(age, 1))
        return {log: known._asdict() for log, known in found.items()}

    def _lags(self) -> dict[str, float]:
        known = {log: head.seq for hearing in self.hearings for log, head in hearing.reader.verified().items()}
        return {log: float(max(0, a.seq - known.get(log, 0))) for log, a in list(self.comparison.ahead.items())}

    def gauges(self) -> list[Gauge]:
        """Lag of every log heard from below, and what the readers did with what came."""
        ahead = list(self.comparison.ahead.items())
        return [
            ("sanji_log_ahead", "Sequence that the child last said it has", "log", {log: a.seq for log, a in ahead}),
            ("sanji_log_lag", "Facts that a log from below is ahead of what is folded here", "log", self._lags()),
            ("sanji_log_asked_seconds", "Seconds since the child last answered", "log",
             {log: monotonic() - a.asked for log, a in ahead}),
            *(
                (f"sanji_{hearing.reader.name}_facts", "Facts by what became of them", "outcome",
                 {what: float(n) for what, n in hearing.reader.counts.items()})
                for hearing in self.hearings
            ),
            *(
                (f"sanji_{hearing.reader.name}_verified", "Sequence up to which a log is verified and folded", "log",
                 {log: float(head.seq) for log, head in hearing.reader.verified().items()})
                for hearing in self.hearings
            ),
        ]  # fmt: skip


async def _guarded(answer: Callable[[Any], Awaitable[None]], message: Any) -> None:
    try:
        await answer(message)
    except Exception as error:
        # A malformed request, or a database that cannot be asked now: the asker treats an empty answer as nothing to be had.
        logger.warning("answer_failed", error=type(error).__name__)
        await message.respond(b"")
