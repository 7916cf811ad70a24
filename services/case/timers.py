"""What happens by itself when its time has come: suspended cases wake, idempotency keys are forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from fastapi import FastAPI
from sqlalchemy import bindparam, delete, select

from services.case.commands import Routing, act
from services.case.tables import cases, requests
from shared.auth import Caller
from shared.clock import stamp, unstamp
from shared.database import Tx
from shared.errors import SanjiError
from shared.web import Runtime

TIMER = Caller("timer", frozenset({"timer"}))
MANY = 50
"""Cases that wake in one turn of the writer, so that it holds up nobody."""
KEPT = timedelta(days=7)
"""For how long a repeated report is known by its idempotency key."""
PAUSE = 15.0

_DUE = (
    select(cases.c.id, cases.c.wakes_at, cases.c.last_at)
    .where(cases.c.wakes_at <= bindparam("now"), cases.c.state == "suspended")
    .order_by(cases.c.wakes_at, cases.c.id)
    .limit(MANY)
    .offset(bindparam("stuck"))
)


class Woken(NamedTuple):
    """How many cases a turn looked at, and why those could not wake that could not."""

    seen: int
    stuck: list[str]


def wake(tx: Tx, around: Routing, stuck: int = 0) -> Woken:
    """Resume 恢复 the suspended cases whose day has come, but for the first `stuck`, which were tried before.

    The clock goes on from that day and not from when a node that was down comes to it. A case that cannot wake, such as into a
    year that is not announced, keeps no other one asleep.
    """
    due, why = tx.execute(_DUE, {"now": stamp(tx.now()), "stuck": stuck}).all(), []
    for row in due:
        try:
            with tx.attempt():
                act(tx, around, row.id, "resume", TIMER.roles, at=unstamp(max(row.wakes_at, row.last_at)), who=TIMER)
        except SanjiError as error:
            why.append(error.detail)
    return Woken(len(due), why)


def forget(tx: Tx) -> int:
    """Delete idempotency keys that nobody repeats any more; answers how many."""
    return int(tx.execute(delete(requests).where(requests.c.at < stamp(tx.now() - KEPT))).rowcount)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    """The timers of a node's process, supervised like every loop."""
    runtime: Runtime = app.state.runtime

    async def turn() -> None:
        stuck: list[str] = []
        more = True
        while more:
            work = partial(wake, around=runtime.extra["around"], stuck=len(stuck))
            woken = await asyncio.wrap_future(runtime.writer.submit(work))
            stuck, more = stuck + woken.stuck, woken.seen == MANY
        await asyncio.wrap_future(runtime.writer.submit(forget))
        if stuck:
            # Said by the loop, whose state readiness shows, because somebody has to do something about it.
            raise RuntimeError(f"{len(stuck)} suspended cases cannot wake: {stuck[0]}")
        await asyncio.sleep(PAUSE)

    runtime.loops.start("timers", turn)
    yield
    runtime.loops.drop("timers")
