"""Hears logs on the node's own stream and applies them; what is missing is fetched as a range from the next node on the route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import orjson
from nats.errors import Error as NatsError

from shared import broker
from shared import log as logs
from shared.chain import encode
from shared.link import Link
from shared.loops import progressed
from shared.publish import BATCH
from shared.pull import Pull
from shared.reader import Reader
from shared.replica import Apply, Gap, Judgement, Wrong

AGAIN = 30.0
"""Seconds until a range that was wrong is asked for again while nothing else has changed."""


@dataclass
class Hearing:
    """What one reader hears of one service's logs, from every origin at or below the node."""

    link: Link
    reader: Reader
    service: str
    changed: Callable[[], None]
    _refused: dict[str, tuple[int, float]] = field(default_factory=dict)

    def lease(self, origin: str) -> str:
        return f"hear {self.reader.name}-{origin}-{self.service}"

    async def hear(self, origin: str, messages: Sequence[Any]) -> None:
        """Apply what came together, acknowledge it after the commit; a gap is filled from the next node on the route first."""
        judgements = await self._take(origin, messages)
        if any(isinstance(j, Gap) for j in judgements):
            await self.repair(origin)
            judgements = await self._take(origin, messages)
        for message, judgement in zip(messages, judgements, strict=True):
            if isinstance(judgement, Gap):
                await message.nak(delay=2)
            elif isinstance(judgement, Wrong):
                await message.term()
            else:
                await message.ack()
        if any(isinstance(j, Apply) for j in judgements):
            self.changed()

    async def _take(self, origin: str, messages: Sequence[Any]) -> list[Judgement]:
        return await self.link.thread(self.reader.take_all, origin, self.service, [m.data for m in messages])

    async def repair(self, origin: str) -> int:
        """Fetch what is missing of a log from the next node on the route (or the own database); returns how many facts."""
        log, total = f"{origin}/{self.service}", 0
        while True:
            known = await self.link.head(self.reader.name, log)
            refused_at, until = self._refused.get(log, (0, 0.0))
            # What was wrong a moment ago is wrong still; to keep it aside anew each second would cost others their commits.
            message = b"" if refused_at == known.seq and monotonic() < until else await self._range(origin, log, known.seq + 1)
            if not message:
                return total
            judgement = await self.link.thread(self.reader.take, origin, self.service, message)
            progressed()
            if isinstance(judgement, Wrong):
                self._refused[log] = (known.seq, monotonic() + AGAIN)
            if not isinstance(judgement, Apply):
                return total
            total += len(judgement.entries)
            self.reader.counts["repaired"] = self.reader.counts.get("repaired", 0) + len(judgement.entries)
            self.changed()

    async def _range(self, origin: str, log: str, first: int) -> bytes:
        route = self.link.node.routes().get(origin)
        if route is None:
            # It left the federation while this was under way.
            return b""
        if not route:
            found, closing = await self.link.thread(logs.read_range, self.link.engine, log, first, BATCH)
            return encode(log, found, closing) if found else b""
        try:
            return await self.link.request(f"rpc.{route[0]}.range", orjson.dumps({"log": log, "first": first}))
        except (NatsError, TimeoutError):
            # Out of reach or slow: the page's business, like a child that does not compare; asked again by whoever misses it.
            return b""


@dataclass
class Listener:
    """Hears one origin; `route` lists the codes from the child down to it, and so stands in the subject."""

    hearing: Hearing
    origin: str
    route: tuple[str, ...]
    _pull: Pull | None = None

    async def turn(self) -> None:
        hearing, link = self.hearing, self.hearing.link
        if not await link.mine(hearing.lease(self.origin)):
            await self.close()
            return
        stream, durable = f"EV_{link.node.code}", f"{hearing.reader.name}-{self.origin}-{hearing.service}"
        if self._pull is None or self._pull.nc is not link.nc:
            subject = ".".join((*self.route, self.origin, hearing.service))
            await broker.ensure_consumer(link.nc, link.node.code, durable, subject)
            self._pull = Pull(link.nc, stream, durable)
        try:
            messages = await self._pull.gather()
            if messages:
                await hearing.hear(self.origin, messages)
            else:
                # Silence and a consumer that is gone look alike: ask.
                await link.js.consumer_info(stream, durable, timeout=5)
        except (NatsError, TimeoutError):
            await self.close()
            raise

    async def close(self) -> None:
        """Take no more messages; those that came and were not applied come again, to whoever asks next."""
        pull, self._pull = self._pull, None
        if pull:
            await pull.close()
