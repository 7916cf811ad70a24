"""Transactions on both databases: one snapshot for a reader, whole or nothing for an attempt, turns for writers."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, func, insert, select

from shared.database import Tx, bulk, metadata, new_id, open_engine, reading, writing
from shared.errors import Busy
from shared.lease import leases

ROW = {"name": "n", "holder": "h", "until": "u"}


def count(connection: object) -> int:
    return int(connection.execute(select(func.count()).select_from(leases)).scalar_one())  # type: ignore[attr-defined]


def test_a_reader_sees_one_snapshot(engine: Engine) -> None:
    """What is committed while somebody reads changes nothing in what they still read: sums on one page fit together."""
    with reading(engine) as connection:
        assert count(connection) == 0
        with writing(engine) as other:
            other.execute(insert(leases), ROW)
        assert count(connection) == 0
    with reading(engine) as connection:
        assert count(connection) == 1


def test_an_attempt_takes_rows_and_facts_back(engine: Engine) -> None:
    with writing(engine) as connection:
        tx = Tx(connection, "99")
        tx.pending.append({"kept": 1})
        with pytest.raises(ValueError, match="no"), tx.attempt():
            tx.execute(insert(leases), ROW)
            tx.pending.append({"lost": 1})
            raise ValueError("no")
        with tx.attempt():
            tx.execute(insert(leases), ROW | {"name": "m"})
        assert tx.pending == [{"kept": 1}]
    with reading(engine) as connection:
        assert [r.name for r in connection.execute(select(leases))] == ["m"]


def test_many_threads_write_without_an_error(engine: Engine) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for n in range(20):
                with writing(engine) as connection:
                    connection.execute(insert(leases), ROW | {"name": f"{number}-{n}"})
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with reading(engine) as connection:
        assert count(connection) == 120


def test_bulk_writes_what_the_library_would(engine: Engine) -> None:
    with writing(engine) as connection:
        bulk(connection, insert(leases), [{"until": str(n), "name": f"n{n}", "holder": "h"} for n in range(50)])
    with reading(engine) as connection:
        found = {(r.name, r.holder, r.until) for r in connection.execute(select(leases))}
    assert found == {(f"n{n}", "h", str(n)) for n in range(50)}


def test_a_database_that_another_process_holds_is_busy_not_broken(tmp_path: Path) -> None:
    """A long recount must make callers wait and try again, not tell them that something went wrong inside."""
    engine = open_engine(f"sqlite:///{tmp_path}/node.db")
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout=100"))
    metadata.create_all(engine)
    other = sqlite3.connect(tmp_path / "node.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy), writing(engine) as connection:
        connection.execute(insert(leases), ROW)
    other.execute("ROLLBACK")
    with writing(engine) as connection:
        connection.execute(insert(leases), ROW)
    with reading(engine) as connection:
        assert count(connection) == 1
    engine.dispose()
    other.close()


def test_ids_sort_by_time_and_are_unique() -> None:
    made = [new_id() for _ in range(2000)]
    assert len(set(made)) == 2000
    assert [i[:13] for i in made] == sorted(i[:13] for i in made)
    assert {i[14] for i in made} == {"7"} and {i[19] for i in made} <= set("89ab")
