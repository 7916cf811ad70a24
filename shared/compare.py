"""Compares heads with each child, often, because a lost tail or a forked history leaves no gap to see."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

import orjson
import structlog
from nats.errors import Error as NatsError

from shared import broker
from shared.chain import EMPTY, Head
from shared.hear import Hearing
from shared.link import Link

logger = structlog.get_logger()
EVERY, STALLED, REVIVE = 1.0, 2.0, 15.0
"""Seconds between two comparisons, without progress until a log counts as stalled, and between two revivals of a source."""


@dataclass
class Ahead:
    """What a child said of one log: its last sequence and chain, when it said so, and what does not fit ours."""

    seq: int
    chain: str
    asked: float
    trouble: str = ""


@dataclass
class Comparison:
    """Keeps an eye on every log heard from below."""

    link: Link
    hearings: Sequence[Hearing]
    ahead: dict[str, Ahead] = field(default_factory=dict)
    _progress: dict[str, tuple[int, float]] = field(default_factory=dict)
    _revived: dict[str, float] = field(default_factory=dict)

    async def turn(self, child: str) -> None:
        """Ask `child` once for its heads and mend what stalls; runs at start, at reconnect and every second."""
        try:
            theirs = orjson.loads(await self.link.request(f"rpc.{child}.heads", b"", timeout=3))
        except (NatsError, TimeoutError):
            # A child out of reach is the page's business, not a reason to call this node unfit for work.
            await self._pause()
            return
        for hearing in self.hearings:
            ours = await self.link.thread(hearing.reader.verified)
            for origin, route in self.link.node.routes().items():
                if route[:1] == (child,):
                    log = f"{origin}/{hearing.service}"
                    (seq, chain), here = theirs.get(log, (0, "")), ours.get(log, EMPTY)
                    self.ahead[log] = Ahead(int(seq), str(chain), monotonic(), _trouble(here, int(seq), str(chain)))
                    await self._mend(hearing, origin, child, here.seq)
        await self._pause()

    async def _pause(self) -> None:
        self.link.reconnected.clear()
        try:
            await asyncio.wait_for(self.link.reconnected.wait(), EVERY)
        except TimeoutError:
            return

    async def _mend(self, hearing: Hearing, origin: str, child: str, seq: int) -> None:
        """Fetch what a log lacks when it stays behind without any progress."""
        log = f"{origin}/{hearing.service}"
        before, since = self._progress.get(log, (-1, monotonic()))
        if seq != before or seq >= self.ahead[log].seq:
            self._progress[log] = (seq, monotonic())
        elif monotonic() - since > STALLED and await self.link.mine(hearing.lease(origin)):
            await hearing.repair(origin)
            await self._revive(child)

    async def _revive(self, child: str) -> None:
        """Start a source again that stays silent although its node answers: the broker's own retry takes up to a minute."""
        if monotonic() - self._revived.get(child, 0.0) < REVIVE:
            return
        self._revived[child] = monotonic()
        if await broker.silent(self.link.nc, self.link.node.code, child, STALLED):
            logger.info("source_restarted", log=child)
            await broker.restart_source(self.link.nc, self.link.node.code, child)


def _trouble(ours: Head, seq: int, chain: str) -> str:
    """What only a restored or copied log can show: a child that knows less of its own than we do, or another history."""
    if seq < ours.seq:
        return "behind"
    return "fork" if seq == ours.seq and seq and chain != ours.chain.hex() else ""
