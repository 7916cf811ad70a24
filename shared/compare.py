"""Compares heads with each child, often, because a lost tail or a forked history leaves no gap to see."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple

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


class Known(NamedTuple):
    """What a node answers of one log: its own sequence and chain, the furthest sequence it has heard of, and how old that is."""

    seq: int = 0
    chain: str = ""
    ahead: int = 0
    age: float = 0.0

    @classmethod
    def read(cls, said: Any) -> Known:
        """From a child's answer; what a later release may add is passed over. Raises ValueError for what no node would say."""
        known = cls(**{name: said[name] for name in cls._fields if name in said}) if isinstance(said, dict) else None
        if known is None or not (
            isinstance(known.chain, str)
            and isinstance(known.age, int | float)
            and 0 <= known.age < _MOST
            and all(type(n) is int and 0 <= n < _MOST for n in (known.seq, known.ahead))
        ):
            raise ValueError("no heads")
        return known


_MOST = 1 << 63
"""No log is as long, and no database counts further."""


@dataclass
class Ahead:
    """What is known of one log from below.

    `seq`: the furthest sequence that anybody on the way has heard of; `asked`: when the origin last answered the node above it;
    `since`: when we fell behind, None while in step; `trouble`: what does not fit our own copy. Times by the monotonic clock.
    """

    seq: int
    asked: float
    since: float | None = None
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
        # Ours first: what arrives while the child answers must not look as if the child knew less than we do.
        before = [await self.link.thread(hearing.reader.verified) for hearing in self.hearings]
        try:
            theirs = _heads(await self.link.request(f"rpc.{child}.heads", b"", timeout=3))
        except (NatsError, TimeoutError, ValueError):
            # A child out of reach or out of its mind is the page's business, not a reason to call this node unfit for work.
            await self._pause()
            return
        for hearing, ours in zip(self.hearings, before, strict=True):
            for origin, route in self.link.node.routes().items():
                if route[:1] == (child,):
                    log = f"{origin}/{hearing.service}"
                    self._note(log, theirs.get(log, Known()), ours.get(log, EMPTY), own=origin == child)
                    await self._mend(hearing, origin, child, ours.get(log, EMPTY).seq)
        await self._pause()

    def _note(self, log: str, theirs: Known, ours: Head, own: bool) -> None:
        now, old = monotonic(), self.ahead.get(log)
        seq = max(theirs.seq, theirs.ahead)
        since = (old.since if old and old.since is not None else now) if seq > ours.seq else None
        self.ahead[log] = Ahead(seq, now - theirs.age, since, _trouble(ours, theirs, own))

    def known(self) -> dict[str, tuple[int, float]]:
        """(furthest sequence heard of, seconds since the origin last answered) of every log from below, for the node above."""
        return {log: (a.seq, monotonic() - a.asked) for log, a in list(self.ahead.items())}

    def only(self, origins: Collection[str]) -> None:
        """Forget what was known of nodes that are no longer below."""
        for kept in (self.ahead, self._progress):
            for log in [log for log in kept if log.split("/")[0] not in origins]:
                del kept[log]

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


def _heads(answer: bytes) -> dict[str, Known]:
    """What a child says of its logs. Raises ValueError for what no node would say."""
    said = orjson.loads(answer)
    if not isinstance(said, dict):
        raise ValueError("no heads")
    return {log: Known.read(known) for log, known in said.items()}


def _trouble(ours: Head, theirs: Known, own: bool) -> str:
    """What only a restored or copied log can show: a child that knows less of its `own` than we do, or another history.

    Of a log that it only passes on, a child may well know less for a moment than we do.
    """
    if theirs.seq < ours.seq:
        return "behind" if own else ""
    return "fork" if theirs.seq == ours.seq and ours.seq and theirs.chain != ours.chain.hex() else ""
