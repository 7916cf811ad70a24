"""Group commit: use cases of many requests run one after another in one transaction.

One durable commit costs a disk flush whatever it holds, so a few dozen use cases share it. Where one fails, all are rolled back
and run again, each in a savepoint of its own, so that it costs the others nothing; nobody is answered before the commit. A use
case therefore has no effect but on its transaction.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import perf_counter
from typing import Any, TypeVar

from sqlalchemy import Engine

from shared.database import Tx
from shared.errors import Busy
from shared.log import later, write

T = TypeVar("T")
Work = Callable[[Tx], Any]
Item = tuple[Work, Future[Any]]


class Writer:
    """Runs use cases durably. `submit` answers with a Future that is done after the commit; a full queue raises Busy."""

    def __init__(self, engine: Engine, node: str, *, group: int = 128, bound: int = 2000) -> None:
        self.engine, self.node, self.group = engine, node, group
        self._queue: queue.Queue[Item | None] = queue.Queue(bound)
        self._closed = False
        self.seconds, self.commits = 0.0, 0
        self.committed: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name=f"writer-{node}", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Tx], T]) -> Future[T]:
        if self._closed:
            raise Busy("the node is stopping", retry_after=5)
        future: Future[T] = Future()
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
        if not self._closed:
            self._closed = True
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
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[Item]) -> None:
        begun = perf_counter()
        try:
            done = self._together(batch)
        except Exception:
            # One of them failed, so that all were rolled back: again, each with a savepoint of its own.
            done = self._apart(batch)
        self.seconds, self.commits = self.seconds + perf_counter() - begun, self.commits + 1
        for future, result in done:
            future.set_result(result)
        self.committed()

    def _together(self, batch: list[Item]) -> list[tuple[Future[Any], Any]]:
        """All use cases in one transaction; raises the first error of any, with nothing done."""
        with self.engine.begin() as connection:
            tx = Tx(connection, self.node, recorder=later)
            done = [(future, work(tx)) for work, future in batch]
            write(connection, tx.pending)
        return done

    def _apart(self, batch: list[Item]) -> list[tuple[Future[Any], Any]]:
        """The same with a savepoint each, so that only what fails fails."""
        done: list[tuple[Future[Any], Any]] = []
        try:
            with self.engine.begin() as connection:
                tx = Tx(connection, self.node, recorder=later)
                for work, future in batch:
                    try:
                        with tx.attempt():
                            done.append((future, work(tx)))
                    except Exception as error:
                        future.set_exception(error)
                write(connection, tx.pending)
        except Exception as error:
            # Unknown is not failed: the caller gets an error and repeats with the same idempotency key.
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return []
        return done
