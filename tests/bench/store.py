"""Raw SQLite for the baselines: the same rows into the same tables, with the same durability and the same grouping."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

Row = tuple[object, ...]


def newest(path: Path, table: str, count: int) -> list[Row]:
    """The `count` rows of a node's table that were written last, in order of writing."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows: list[Row] = connection.execute(f"SELECT * FROM {table} ORDER BY rowid DESC LIMIT {count}").fetchall()
    return rows[::-1]


class Raw:
    """An empty database of ours with some of a node's tables; `indexes` says whether with their indexes and constraints."""

    def __init__(self, path: Path, like: Path, tables: Sequence[str], indexes: bool = True) -> None:
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(f"file:{like}?mode=ro", uri=True)) as known:
            schema = {t: self._schema(known, t) for t in tables}
            widths = {t: len(known.execute(f"PRAGMA table_info({t})").fetchall()) for t in tables}
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        for table, statements in schema.items():
            plain = [f"CREATE TABLE {table} ({', '.join(f'c{n}' for n in range(widths[table]))})"]
            for statement in statements if indexes else plain:
                self.connection.execute(statement)
        self._inserts = {t: f"INSERT INTO {t} VALUES ({','.join('?' * n)})" for t, n in widths.items()}

    def _schema(self, known: sqlite3.Connection, table: str) -> list[str]:
        rows = known.execute("SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type DESC", (table,))
        return [r[0] for r in rows if not r[0].startswith("CREATE TRIGGER")]

    def commit(self, rows: dict[str, Sequence[Row]]) -> None:
        """Insert rows by table in one durable transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        for table, some in rows.items():
            self.connection.executemany(self._inserts[table], some)
        self.connection.execute("COMMIT")

    def close(self) -> None:
        self.connection.close()
