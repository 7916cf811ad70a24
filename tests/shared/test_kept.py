"""Kept values: made once, made anew after a change by anybody, and never from a transaction that was rolled back."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from shared.database import Tx
from shared.kept import Kept


def test_made_anew_only_after_a_change(engine: Engine) -> None:
    made: list[int] = []
    kept = Kept("list", lambda c: made.append(int(c.execute(text("SELECT 1")).scalar_one())) or len(made))
    other = Kept("list", lambda c: "other")
    with engine.begin() as c:
        assert kept.get(c) == kept.get(c) == 1
    with engine.begin() as c:
        other.changed(c)
    with engine.begin() as c:
        assert kept.get(c) == kept.get(c) == 2


def test_what_was_rolled_back_is_forgotten(engine: Engine) -> None:
    with engine.begin() as c:
        c.execute(text("CREATE TABLE t (v INTEGER)"))
        c.execute(text("INSERT INTO t VALUES (1)"))
    kept = Kept("t", lambda c: c.execute(text("SELECT v FROM t")).scalar_one())
    with engine.connect() as c, c.begin() as transaction:
        c.execute(text("UPDATE t SET v = 2"))
        kept.changed(c)
        assert kept.get(c) == 2
        transaction.rollback()
    with engine.begin() as c:
        assert kept.get(c) == 1
        c.execute(text("UPDATE t SET v = 3"))
        kept.changed(c)
    with engine.begin() as c:
        assert kept.get(c) == 3


def test_a_part_that_is_taken_back_is_forgotten_in_the_same_transaction(engine: Engine) -> None:
    with engine.begin() as c:
        c.execute(text("CREATE TABLE t (v INTEGER)"))
        c.execute(text("INSERT INTO t VALUES (1)"))
    kept = Kept("t", lambda c: c.execute(text("SELECT v FROM t")).scalar_one())
    with engine.begin() as c:
        tx = Tx(c, "99")
        assert kept.get(c) == 1
        with pytest.raises(ValueError), tx.attempt():
            c.execute(text("UPDATE t SET v = 2"))
            kept.changed(c)
            assert kept.get(c) == 2
            raise ValueError
        assert kept.get(c) == 1
