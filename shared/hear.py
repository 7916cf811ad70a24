"""Hears logs on the node's own stream and applies them; what is missing is fetched as a range from the next node on the route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from nats.errors import Error as NatsError

from shared import broker
from shared import log as logs
from shared.chain import encode
from shared.link import Link
from shared.publish import BATCH
from shared.pull import Pull
from shared.reader import Reader
from shared.replica import Apply, Gap, Judgement, Wrong


@dataclass
class Hearing:
    """What one reader hears of one service's logs, from every origin at or below the node."""

    link: Link
    reader: Reader
    service: str
    changed: Callable[[], None]

    def lease(self, origin: str) -> str:
        return f"hear {self.reader.name}-{origin}-{self.service}"

    def listener(self, origin: str, route: tuple[str, ...]) -> Callable[[], Awaitable[None]]:
        """One turn of hearing `origin`; `route` lists the codes from the child down to it, and so stands in the subject."""
        subject = ".".join((*route, origin, self.service))
        durable = f"{self.reader.name}-{origin}-{self.service}"
        pulls: list[Pull] = []

        async def turn() -> None:
            if not await self.link.mine(self.lease(origin)):
                return
            if not pulls:
                await broker.ensure_consumer(self.link.nc, self.link.node.code, durable, subject)
                pulls.append(Pull(self.link.nc, f"EV_{self.link.node.code}", durable))
            try:
                messages = await pulls[0].gather()
                if messages:
                    await self._hear(origin, messages)
                else:
                    # Silence and a consumer that is gone look alike: ask.
                    await self.link.js.consumer_info(f"EV_{self.link.node.code}", durable, timeout=5)
            except (NatsError, TimeoutError):
                await pulls.pop().close()
                raise

        return turn

    async def _hear(self, origin: str, messages: Sequence[Any]) -> None:
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
            message = await self._range(origin, log, known.seq + 1)
            if not message:
                return total
            judgement = await self.link.thread(self.reader.take, origin, self.service, message)
            if not isinstance(judgement, Apply):
                return total
            total += len(judgement.entries)
            self.reader.counts["repaired"] = self.reader.counts.get("repaired", 0) + len(judgement.entries)
            self.changed()

    async def _range(self, origin: str, log: str, first: int) -> bytes:
        route = self.link.node.routes()[origin]
        if not route:
            found, closing = await self.link.thread(logs.read_range, self.link.engine, log, first, BATCH)
            return encode(log, found, closing) if found else b""
        return await self.link.request(f"rpc.{route[0]}.range", orjson.dumps({"log": log, "first": first}))
