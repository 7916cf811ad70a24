"""Group commit: use cases of many requests run one after another in one transaction.

One durable commit costs a disk flush whatever it holds, so a few dozen use cases share it. Where one fails, all are rolled back
and run again, each in a savepoint of its own, so that it costs the others nothing; nobody is answered before the commit. A use
case therefore has no effect but on its transaction. Where the commit itself fails, nobody knows whether it was done: then
everybody gets the error, nothing is run again, and a caller repeats with the same idempotency key.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from time import perf_counter
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, text

from shared.database import Tx, now, writing
from shared.errors import Busy
from shared.log import later, write

T = TypeVar("T")
Work = Callable[[Tx], Any]
Item = tuple[Work, Future[Any]]
_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended(:writer, 0))")


class Undone(Exception):
    """A use case failed before the commit, so that certainly nothing of its group was done; the cause says why."""


class Writer:
    """Runs use cases durably. `submit` answers with a Future that is done after the commit; a full queue raises Busy."""

    def __init__(
        self, engine: Engine, node: str, *, group: int = 128, bound: int = 2000, now: Callable[[], datetime] = now
    ) -> None:
        self.engine, self.node, self.group, self.now = engine, node, group, now
        self._queue: queue.Queue[Item | None] = queue.Queue(bound)
        self._closed, self._door = False, threading.Lock()
        self.seconds, self.commits = 0.0, 0
        self.committed: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name=f"writer-{node}", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Tx], T]) -> Future[T]:
        future: Future[T] = Future()
        # Together, so that nothing can be accepted behind the mark that ends the queue, where nobody would ever take it.
        with self._door:
            if self._closed:
                raise Busy("the node is stopping", retry_after=5)
            try:
                self._queue.put_nowait((work, future))
            except queue.Full:
                raise Busy("more is waiting to be written than this node can take") from None
        return future

    def run(self, work: Callable[[Tx], T]) -> T:
        """Submit and wait; for callers that have a thread to spare."""
        return self.submit(work).result()

    @property
    def depth(self) -> int:
        return self._queue.qsize()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Finish what was accepted, then stop."""
        with self._door:
            first, self._closed = not self._closed, True
        if first:
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            first = self._queue.get()
            batch = [] if first is None else [first]
            running = first is not None
            while running and len(batch) < self.group:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    running = False
                else:
                    batch.append(item)
            # From here on a caller who goes away cannot take the work back; who went before is not waited for.
            batch = [item for item in batch if item[1].set_running_or_notify_cancel()]
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[Item]) -> None:
        begun = perf_counter()
        done: list[tuple[Future[Any], Any]] = []
        try:
            done = self._written(batch)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        self.seconds, self.commits = self.seconds + perf_counter() - begun, self.commits + 1
        for future, result in done:
            future.set_result(result)
        self.committed()

    def _written(self, batch: list[Item]) -> list[tuple[Future[Any], Any]]:
        """The results of what succeeded, committed; what failed has its error. Raises where the commit itself fails."""
        try:
            return self._together(batch)
        except Undone:
            return self._apart(batch)

    @contextmanager
    def _turn(self) -> Iterator[Connection]:
        """One group at a time over all copies on one database, as SQLite has it anyway.

        So no two groups lock rows in opposite order, and changes become visible in the order of their instants, which is what
        whoever reads pages of changes relies on.
        """
        with writing(self.engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(_TURN, {"writer": f"writer {self.node}"})
            yield connection

    def _together(self, batch: list[Item]) -> list[tuple[Future[Any], Any]]:
        """All use cases in one transaction; raises Undone with the first error of any."""
        with self._turn() as connection:
            tx = Tx(connection, self.node, now=self.now, recorder=later)
            try:
                done = [(future, work(tx)) for work, future in batch]
                write(connection, tx.pending)
            except Exception as error:
                raise Undone from error
        return done

    def _apart(self, batch: list[Item]) -> list[tuple[Future[Any], Any]]:
        """The same with a savepoint each, so that only what fails fails."""
        done: list[tuple[Future[Any], Any]] = []
        with self._turn() as connection:
            tx = Tx(connection, self.node, now=self.now, recorder=later)
            connection.exec_driver_sql("SAVEPOINT whole")
            for work, future in batch:
                try:
                    with tx.attempt():
                        done.append((future, work(tx)))
                except Exception as error:
                    future.set_exception(error)
                    # A full disk makes SQLite roll everything back, not only this: then the mark is gone and this raises, too.
                    connection.exec_driver_sql("RELEASE SAVEPOINT whole")
                    connection.exec_driver_sql("SAVEPOINT whole")
            write(connection, tx.pending)
        return done
