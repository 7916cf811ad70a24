"""Erases on time what reporters left: looks for what is due, cleans the files after it, destroys the keys of past months.

Deleting a row leaves its bytes in pages and in older copies. So what is erased is overwritten where it stands, the write-ahead
log is emptied, a SQLite database is rewritten at most once a day and only if something was erased, and the keys of a month that
is over are destroyed, after which no copy of the database can be read, however old. On PostgreSQL the keys alone have to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy import Engine, Update, func, select, update

from services.case.intake import Surroundings
from services.case.reporters import Custody, erase, look_again, reporters
from shared import lease
from shared.database import Tx, now, reading
from shared.loops import progressed
from shared.telemetry import Gauge
from shared.vault import bucket_of
from shared.writer import Writer

logger = structlog.get_logger()
PAUSE, CHUNK = 10.0, 200
ALARM = timedelta(hours=24)
"""After this long nobody may call the node ready: it keeps what it may not keep any more."""
DAY = 24 * 3600

_OLDEST = select(func.min(reporters.c.expires_on))
_THERE = select(reporters.c.case_id).where(reporters.c.wrapped.is_not(None))
_UNSWEPT = select(reporters.c.case_id, reporters.c.bucket).where(reporters.c.wrapped.is_(None), reporters.c.bucket.is_not(None))


@dataclass
class Erasure:
    """The loop of one process; several on one database do no harm, since everything it does may be done twice."""

    engine: Engine
    writer: Writer
    custody: Custody
    around: Surroundings
    vacuum_bytes: int
    now: Callable[[], datetime] = now
    restored: bool = False
    """Whether what was erased before has been looked for once since the start."""

    async def turn(self) -> None:
        """One round, in a thread; says meanwhile that it goes on, because rewriting a database takes its time."""
        work = asyncio.ensure_future(asyncio.to_thread(self.round))
        while not (await asyncio.wait({work}, timeout=1))[0]:
            progressed()
        work.result()
        await asyncio.sleep(PAUSE)

    def round(self) -> None:
        """Erase what is due, sweep after it, destroy the keys of months that are over."""
        if not self.restored:
            self._bury_again()
        while self.writer.run(lambda tx: look_again(tx, self.custody, self._objections(tx), CHUNK)) == CHUNK:
            progressed()
        self._sweep()
        self._destroy()

    def _bury_again(self) -> None:
        """Erase once more what was erased before: the database may be an older copy of itself."""
        with reading(self.engine) as connection:
            there = set(connection.execute(_THERE).scalars())
        back = sorted(there.intersection(self.custody.vault.buried()))
        self.writer.run(lambda tx: erase(tx, back, "node", ["timer"], "erased before, and brought back by an older copy"))
        self.restored = True

    def _objections(self, tx: Tx) -> int:
        return self.around.policy.get(tx.connection).reopen_days

    def _sweep(self) -> None:
        """Leave nothing of what was erased in the database's files, and remember it where no older copy can forget it."""
        with reading(self.engine) as connection:
            waiting = {row.case_id: row.bucket for row in connection.execute(_UNSWEPT)}
        if not waiting:
            return
        self.custody.vault.bury(waiting.items())
        if self.engine.dialect.name == "sqlite":
            size = self._checkpointed()
            if size <= self.vacuum_bytes:
                # The holder is nobody: the lease only says when it was done last, in whatever process.
                if not lease.hold(self.engine, "vacuum", uuid4().hex, self.now(), seconds=DAY):
                    return
                self._plainly("VACUUM")
                self._checkpointed()
        swept = list(waiting)
        for start in range(0, len(swept), CHUNK):
            these = reporters.c.case_id.in_(swept[start : start + CHUNK])
            done = update(reporters).where(these, reporters.c.wrapped.is_(None)).values(bucket=None)
            self.writer.run(partial(_executed, done))
            progressed()
        logger.info("reporters_erased", count=len(waiting))

    def _checkpointed(self) -> int:
        """Empty the write-ahead log; answers how many bytes the database has. Raises RuntimeError where readers held it up."""
        until = monotonic() + 20
        while self._plainly("PRAGMA wal_checkpoint(TRUNCATE)")[0]:
            if monotonic() > until:
                raise RuntimeError("readers keep the write-ahead log from being emptied")
        return int(self._plainly("PRAGMA page_count")[0] * self._plainly("PRAGMA page_size")[0])

    def _plainly(self, statement: str) -> Any:
        """Run a statement that must not stand in a transaction; answers its first row."""
        raw = self.engine.raw_connection()
        try:
            return raw.driver_connection.execute(statement).fetchone()  # type: ignore[union-attr]
        finally:
            raw.close()

    def _destroy(self) -> None:
        """Destroy the keys of months that are over and hold nothing any more."""
        this = bucket_of(self.custody.day(self.now()))
        for bucket in self.custody.vault.buckets():
            held = select(reporters.c.case_id).where(reporters.c.bucket == bucket, reporters.c.wrapped.is_not(None)).limit(1)
            with reading(self.engine) as connection:
                needed = connection.execute(held).first() is not None
            if bucket < this and not needed:
                self.custody.vault.destroy(bucket)

    def overdue(self) -> timedelta:
        """For how long the oldest record has been kept past its last day, in the node's zone."""
        with reading(self.engine) as connection:
            oldest = connection.execute(_OLDEST).scalar()
        if oldest is None:
            return timedelta(0)
        due = datetime.fromisoformat(oldest).replace(tzinfo=self.custody.zone) + timedelta(days=1)
        return max(timedelta(0), self.now() - due)

    def check(self) -> str:
        """For readiness: nothing, or for how long something is overdue."""
        late = self.overdue()
        return "" if late <= ALARM else f"reporters' data should have been erased {late // timedelta(hours=1)} h ago"

    def measure(self) -> list[Gauge]:
        late = {self.custody.vault.node: self.overdue().total_seconds()}
        return [("sanji_reporter_overdue_seconds", "How long the oldest record is kept past its last day", "node", late)]


def _executed(done: Update, tx: Tx) -> int:
    return int(tx.execute(done).rowcount)
