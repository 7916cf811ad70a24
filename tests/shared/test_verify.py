"""What `sanji verify` finds, on both databases: one byte of anything that is stored about a fact, and what is missing."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from contracts.case import CaseHandled
from deploy.verify import CHUNK, verify
from services.evaluation.handlers import READER, fold
from shared import log as logs
from shared.database import Tx
from shared.log import PUBLISHER, SEALER, Head, entries, heads, record, seal
from shared.reader import Reader
from tests.world import desk

OWN, OTHER = "99/case", "98/case"


@dataclass
class Kept:
    """A database with its own log, read by itself, and the replica of another's."""

    engine: Engine

    def faults(self) -> dict[str, str]:
        return {c.log: c.fault for c in verify(self.engine) if c.fault}

    def rows(self, table: Any, log: str) -> list[Any]:
        with self.engine.begin() as c:
            return list(c.execute(select(table).where(table.c.log == log).order_by(table.c.seq)))

    def put(self, table: Any, row: Any, **values: Any) -> bool:
        """Change one row behind everybody's back; False where the database itself refuses."""
        if table is entries:
            where: tuple[Any, ...] = (entries.c.id == row.id,)
        else:
            where = (heads.c.reader == row.reader, heads.c.log == row.log)
        try:
            with self.engine.begin() as c:
                c.execute(update(table).where(*where).values(**values))
            return True
        except IntegrityError:
            return False


@pytest.fixture
def kept(engine: Engine) -> Kept:
    for node in ("99", "98"):
        at = desk(engine, node)
        for _ in range(2):
            case = at.report()
            for action in ("file", "dispatch"):
                at.clock.pass_(0.2)
                at.act(case, action)
        seal(engine, f"{node}/case", 4)
        seal(engine, f"{node}/case")
        found, closing = logs.read_range(engine, f"{node}/case", 1)
        Reader(READER, engine, fold).apply(f"{node}/case", found, closing)
    with engine.begin() as c:
        last = logs.head(c, SEALER, OWN)
        logs.move_head(c, PUBLISHER, OWN, Head(0, 0, bytes(32)), last)
        # As at a node above: the replica has no sealer here.
        c.execute(delete(heads).where(heads.c.log == OTHER, heads.c.reader == SEALER))
    return Kept(engine)


def flips(value: bytes | int, dice: random.Random, size: int) -> Iterator[bytes | int]:
    """The value with one byte changed: at its ends and in between; a number as the database keeps it in `size` bytes."""
    if isinstance(value, int):
        raw = value.to_bytes(size, "big", signed=True)
        for n in range(size):
            spoilt = bytearray(raw)
            spoilt[n] ^= dice.choice((1, 0x80, 0xFF))
            yield int.from_bytes(spoilt, "big", signed=True)
        return
    for n in {0, len(value) - 1, *(dice.randrange(len(value)) for _ in range(3))}:
        spoilt = bytearray(value)
        spoilt[n] ^= dice.choice((1, 0x20, 0x80))
        yield bytes(spoilt)


def test_what_is_whole_proves_itself(kept: Kept) -> None:
    found = {c.log: c for c in verify(kept.engine)}
    assert {log: (c.facts, c.fault) for log, c in found.items()} == {OWN: (6, ""), OTHER: (6, "")}
    with kept.engine.begin() as c:
        assert found[OWN].chain == logs.head(c, SEALER, OWN).chain and found[OTHER].chain == logs.head(c, READER, OTHER).chain


@pytest.mark.parametrize("log", [OWN, OTHER])
@pytest.mark.parametrize(("name", "size"), [("body", 0), ("chain", 0), ("version", 4), ("epoch", 4), ("seq", 8)])
def test_one_byte_of_a_fact(kept: Kept, log: str, name: str, size: int) -> None:
    dice, tried = random.Random(f"{log} {name}"), 0
    for row in kept.rows(entries, log):
        value = getattr(row, name)
        for spoilt in flips(value if isinstance(value, int) else bytes(value), dice, size):
            if not kept.put(entries, row, **{name: spoilt}):
                continue
            faults = kept.faults()
            assert list(faults) == [log], f"{name} of {row.seq}: {value!r} -> {spoilt!r}"
            assert str(row.seq) in faults[log], faults
            kept.put(entries, row, **{name: value})
            tried += 1
    assert tried >= 20 and kept.faults() == {}


@pytest.mark.parametrize("log", [OWN, OTHER])
def test_another_subject(kept: Kept, log: str) -> None:
    for row in kept.rows(entries, log):
        kept.put(entries, row, subject=f"{row.subject[:-1]}~")
        assert list(kept.faults()) == [log] and str(row.seq) in kept.faults()[log]
        kept.put(entries, row, subject=row.subject)


@pytest.mark.parametrize(("name", "size"), [("seq", 8), ("epoch", 4), ("chain", 0)])
def test_one_byte_of_a_head(kept: Kept, name: str, size: int) -> None:
    dice, met = random.Random(name), set()
    for log in (OWN, OTHER):
        for row in kept.rows(heads, log):
            value = getattr(row, name)
            for spoilt in flips(value if isinstance(value, int) else bytes(value), dice, size):
                kept.put(heads, row, **{name: spoilt})
                faults = kept.faults()
                assert list(faults) == [log] and row.reader in faults[log], f"{row.reader} {name}: {spoilt!r}"
                assert str(spoilt if name == "seq" else row.seq) in faults[log]
                kept.put(heads, row, **{name: value})
                met.add((log, row.reader))
    assert met == {(OWN, SEALER), (OWN, READER), (OWN, PUBLISHER), (OTHER, READER)} and kept.faults() == {}


@pytest.mark.parametrize("log", [OWN, OTHER])
def test_what_is_missing(kept: Kept, log: str) -> None:
    """Any one fact, the first ones, the last ones, all of them; an empty place where a number belongs."""
    rows = kept.rows(entries, log)
    for gone in (*([r] for r in rows), rows[:3], rows[3:], rows):
        with kept.engine.begin() as c:
            c.execute(delete(entries).where(entries.c.id.in_([r.id for r in gone])))
        faults = kept.faults()
        assert list(faults) == [log] and f"facts from {gone[0].seq} to {gone[-1].seq} are missing" in faults[log]
        with kept.engine.begin() as c:
            c.execute(insert(entries), [dict(r._mapping) for r in gone])
        assert kept.faults() == {}
    for name in ("epoch", "version", "chain", "seq"):
        kept.put(entries, rows[2], **{name: None})
        assert list(kept.faults()) == [log] and "3" in kept.faults()[log], name
        kept.put(entries, rows[2], **{name: getattr(rows[2], name)})


def test_facts_that_changed_places(kept: Kept) -> None:
    first, second = kept.rows(entries, OWN)[1:3]
    kept.put(entries, first, body=second.body)
    kept.put(entries, second, body=first.body)
    assert "2" in kept.faults()[OWN]


def test_a_log_that_was_rewritten_to_its_end(kept: Kept) -> None:
    """Who computes every chain anew still does not fit what a reader has seen."""
    rows, chain = kept.rows(entries, OWN), bytes(32)
    for row in rows:
        entry = logs.Entry(row.epoch, row.seq, row.version, row.subject, bytes(row.body).replace(b"lamps", b"roads"))
        chain = logs.link(chain, entry)
        kept.put(entries, row, body=entry.body, chain=chain)
    for head in kept.rows(heads, OWN):
        if head.reader == SEALER:
            kept.put(heads, head, chain=chain)
    assert list(kept.faults()) == [OWN] and READER in kept.faults()[OWN]


def test_more_facts_than_are_read_at_once(engine: Engine) -> None:
    count = CHUNK + 3
    with engine.begin() as c:
        tx = Tx(c, "99", recorder=record)
        for n in range(count):
            tx.state(CaseHandled(time=datetime(2026, 3, 2, tzinfo=UTC), day="2026-03-02", case=f"c{n}"))
    while seal(engine, OWN, 1000):
        pass
    kept = Kept(engine)
    assert [(c.facts, c.fault) for c in verify(engine)] == [(count, "")]
    kept.put(entries, kept.rows(entries, OWN)[CHUNK], version=7)
    assert str(CHUNK + 1) in kept.faults()[OWN]


def test_a_log_that_grows_meanwhile_is_no_fault(kept: Kept) -> None:
    stop, grown = threading.Event(), 0

    def grow() -> None:
        nonlocal grown
        while not stop.is_set():
            with kept.engine.begin() as c:
                fact = CaseHandled(time=datetime(2026, 3, 2, tzinfo=UTC), day="2026-03-02", case=f"c{grown}")
                record(Tx(c, "99"), fact)
            grown += seal(kept.engine, OWN)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        for _ in range(60):
            assert kept.faults() == {}
    finally:
        stop.set()
        thread.join()
    assert grown > 5
