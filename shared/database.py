"""Opens a node's database (SQLite or PostgreSQL, by URL alone) and gives use cases their transaction."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.exc import OperationalError

from contracts.base import Fact
from shared.errors import Busy

metadata = MetaData()
"""Tables of the machinery; every service has a MetaData of its own."""

_TURNS: WeakKeyDictionary[Engine, threading.Lock] = WeakKeyDictionary()

SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    # NORMAL loses acknowledged commits in a power cut.
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=10000",
    "secure_delete=ON",
)


def now() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    """A sortable unique id: 48 bits of milliseconds, then randomness (the layout of UUIDv7)."""
    stamp = int(now().timestamp() * 1000)
    rest = uuid.uuid4().int & ((1 << 76) - 1)
    value = (stamp << 80) | (0x7 << 76) | rest
    value = (value & ~(0b11 << 62)) | (0b10 << 62)
    return str(uuid.UUID(int=value))


@dataclass
class Tx:
    """One transaction of a use case: the connection, the clock and the source of ids."""

    connection: Connection
    node: str
    now: Callable[[], datetime] = now
    new_id: Callable[[], str] = new_id
    recorder: Callable[[Tx, Fact], None] | None = None
    pending: list[dict[str, Any]] = field(default_factory=list)
    """Facts stated and not written yet: a group commit writes those of all its use cases at once."""

    def state(self, fact: Fact) -> None:
        """Write `fact` into the node's own log, together with the rows of this transaction."""
        if self.recorder is None:
            raise RuntimeError("this transaction states no facts")
        self.recorder(self, fact)

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        return self.connection.execute(statement, parameters)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What happens inside, rows and facts, happens wholly or not at all; the transaction goes on either way."""
        before = len(self.pending)
        # By hand, because this runs thousands of times a second and the library's nested transaction costs as much as a use case.
        self.connection.exec_driver_sql("SAVEPOINT item")
        try:
            yield
        except BaseException:
            self.connection.exec_driver_sql("ROLLBACK TO SAVEPOINT item")
            self.connection.exec_driver_sql("RELEASE SAVEPOINT item")
            del self.pending[before:]
            raise
        self.connection.exec_driver_sql("RELEASE SAVEPOINT item")


def open_engine(url: str) -> Engine:
    """An engine with our settings: on SQLite WAL, FULL sync and BEGIN IMMEDIATE; on PostgreSQL psycopg 3."""
    # An error tells its statement and never its values: what a citizen wrote must not come into a log by a failing insert.
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"), hide_parameters=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        # A deferred transaction that later wants to write fails at once, whatever busy_timeout says.
        event.listen(engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE" if _writes(c) else "BEGIN"))
    return engine


def _writes(connection: Connection) -> bool:
    return not connection.get_execution_options().get("reads_only", False)


def _prepare_sqlite(raw: Any, _record: object) -> None:
    raw.isolation_level = None
    for pragma in SQLITE_PRAGMAS:
        raw.execute(f"PRAGMA {pragma}")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection for queries: one snapshot, no write lock."""
    options: dict[str, Any] = {"reads_only": True}
    if engine.dialect.name == "postgresql":
        # Its default lets every statement see what was committed a moment ago, so that sums on one page would differ.
        options["isolation_level"] = "REPEATABLE READ"
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes. On SQLite the threads of a process take turns here: its own way of waiting is to sleep and
    try again, which costs tens of milliseconds and is not fair.

    Raises Busy where another process, such as a recount, holds the database for longer than we wait; nothing was done then.
    """
    lock = _TURNS.setdefault(engine, threading.Lock()) if engine.dialect.name == "sqlite" else nullcontext()
    with lock, engine.connect() as connection:
        try:
            transaction = connection.begin()
        except OperationalError as error:
            if "locked" not in str(error.orig):
                raise
            raise Busy("another process holds the database", retry_after=5) from error
        with transaction:
            yield connection


def bulk(connection: Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Run `statement` for many rows by the driver's own means; the library's preparation of each row costs more than the write.

    `rows` name every parameter; values are of types that both drivers take as they are (text, number, bool, bytes, None).
    """
    if connection.dialect.name != "sqlite":
        connection.execute(statement, rows)
        return
    compiled = statement.compile(dialect=connection.dialect, column_keys=sorted(rows[0]))
    names = compiled.positiontup
    connection.exec_driver_sql(compiled.string, [tuple(map(row.__getitem__, names)) for row in rows])


def durable(engine: Engine) -> bool:
    """Whether a commit survives a power cut as far as the settings go; readiness asks this."""
    with reading(engine) as connection:
        if engine.dialect.name == "sqlite":
            return int(connection.execute(text("PRAGMA synchronous")).scalar_one()) >= 2
        return str(connection.execute(text("SHOW fsync")).scalar_one()) == "on"
