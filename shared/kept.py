"""Values made from tables and kept in memory until somebody, in whatever process, changes what they are made from."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from sqlalchemy import BigInteger, Column, Connection, String, Table, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from shared.database import metadata

T = TypeVar("T")

versions = Table(
    "kept_versions",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""One row for each kept value that was ever changed; its version is drawn anew in the transaction of the change."""

_VERSION = select(versions.c.version).where(versions.c.name == bindparam("of"))
_BUMP = {
    name: dialect.insert(versions)
    .values(name=bindparam("of"), version=bindparam("new"))
    .on_conflict_do_update(index_elements=["name"], set_={"version": bindparam("new")})
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


class Kept(Generic[T]):
    """What `load` makes of the tables, made anew when the version under `name` has moved.

    The version is read in the caller's own transaction, so that a use case never decides by a value older than what it reads
    beside it; that is one look-up by key, and making the value is not. Not safe to share between databases.
    """

    def __init__(self, name: str, load: Callable[[Connection], T]) -> None:
        self.name, self._load = name, load
        self._held: tuple[int, T] | None = None
        self._asked: tuple[weakref.ref[object], T] | None = None
        self._moving: weakref.ref[object] | None = None

    def get(self, connection: Connection) -> T:
        transaction, asked = connection.get_transaction(), self._asked
        # Once in a transaction is enough: whoever changes the value in another one waits for its end, or is not seen by it.
        if asked is not None and transaction is not None and asked[0]() is transaction:
            return asked[1]
        version = connection.execute(_VERSION, {"of": self.name}).scalar() or 0
        held = self._held
        if held is None or held[0] != version:
            held = (version, self._load(connection))
            self._held = held
        if transaction is not None and not (self._moving and self._moving() is transaction):
            self._asked = (weakref.ref(transaction), held[1])
        return held[1]

    def changed(self, connection: Connection) -> None:
        """Say in the transaction of a change that every kept copy is out of date once it commits.

        The version is drawn and not counted: what somebody reads in a transaction that is rolled back is kept under a version
        that nobody ever draws again. From here on this transaction asks each time, because a part of it may be taken back.
        """
        transaction = connection.get_transaction()
        self._asked, self._moving = None, weakref.ref(transaction) if transaction is not None else None
        connection.execute(_BUMP[connection.dialect.name], {"of": self.name, "new": secrets.randbits(62)})
