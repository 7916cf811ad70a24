"""The recount on both databases: it finds what was spoilt, by name, mends it on demand, and counts right while facts arrive."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, select, text, update

from deploy.migrate import migrate
from services.evaluation.handlers import READER, fold
from services.evaluation.recount import recount
from services.evaluation.tables import cases, totals
from shared.database import open_engine
from shared.log import entries, heads
from shared.reader import Reader
from tests.evaluation.lives import heard, sealed, tables, told_by
from tests.evaluation.walks import ORIGINS

TOLD = {origin: told_by(origin, 20, seed=3) for origin in ORIGINS}
STRANGE = {"origin": "11", "division": "11", "category": "E1", "channel": "hotline", "provenance": "live", "open": True}


@pytest.fixture
def told(engine: Engine) -> Engine:
    heard(engine, TOLD)
    return engine


def change(engine: Engine, statement: Any) -> None:
    with engine.begin() as c:
        c.execute(statement)


def one(engine: Engine, table: Any) -> Any:
    with engine.begin() as c:
        return dict(c.execute(select(table).order_by(*table.primary_key.columns).limit(1)).mappings().one())


def test_what_is_right_has_no_difference_and_stays(told: Engine) -> None:
    with told.begin() as c:
        arrived = dict(map(tuple, c.execute(select(cases.c.id, cases.c.changed_at))))
    before = tables(told)
    assert recount(told) == [] and tables(told) == before
    with told.begin() as c:
        assert dict(map(tuple, c.execute(select(cases.c.id, cases.c.changed_at)))) == arrived, "asking changes nothing"
    assert recount(told, mend=True) == [] and tables(told) == before


def planted(engine: Engine) -> list[tuple[Any, str]]:
    """(what somebody spoils, what the recount has to name)."""
    total, case = one(engine, totals), one(engine, cases)
    this = [totals.c[k] == total[k] for k in ("origin", "division", "category", "day", "provenance")]
    key = " ".join(total[k] for k in ("origin", "division", "category", "day", "provenance"))
    fresh = total | {"day": "1999-01-01"}
    spoilt: list[tuple[Any, str]] = [
        *((update(totals).where(*this).values({q: totals.c[q] + 1}), f"total {key}") for q in ("reported", "closed", "exempted")),
        (delete(totals).where(*this), f"total {key}"), (insert(totals).values(**fresh), "1999-01-01"),
        (delete(cases).where(cases.c.id == case["id"]), f"case {case['id']}"),
        (insert(cases).values(STRANGE | {"id": "x", "reported_at": "2026"}), "case x"),
    ]  # fmt: skip
    wrong = {"state": "odd", "open": not case["open"], "seconds": 1, "due_at": "2026", "division": "65", "lon": 1.0}
    wrong |= {"exempt": not case["exempt"], "counted": "R1999-01-01", "part": "P9"}
    spoilt += [(update(cases).where(cases.c.id == case["id"]).values({k: v}), f"case {case['id']}") for k, v in wrong.items()]
    return spoilt


def test_every_planted_difference_is_named_and_mended(told: Engine) -> None:
    before = tables(told)
    damages = planted(told)
    assert len(damages) >= 12
    for statement, name in damages:
        change(told, statement)
        spoilt = tables(told)
        assert spoilt != before
        (found,) = recount(told)
        assert name in found and "kept" in found and "recounted" in found, found
        assert tables(told) == spoilt, "without being told it mends nothing"
        assert len(recount(told, mend=True)) == 1
        assert tables(told) == before and recount(told) == []


def test_several_differences_are_all_named(told: Engine) -> None:
    with told.begin() as c:
        c.execute(update(totals).values(reported=totals.c.reported + 1))
        c.execute(delete(cases))
    found = recount(told)
    assert len(found) == sum(len(rows) for rows in tables(told).values()) + 20 * len(ORIGINS)
    recount(told, mend=True)
    assert recount(told) == []


def test_facts_beyond_the_head_are_not_counted_yet(told: Engine) -> None:
    with told.begin() as c:
        head = c.execute(select(heads.c.seq).where(heads.c.reader == READER, heads.c.log == "650102/case")).scalar_one()
        last = c.execute(select(entries).where(entries.c.log == "650102/case", entries.c.seq == head)).mappings().one()
        ahead = dict(last) | {"id": None, "seq": head + 1, "fact_id": "ahead", "body": b"not looked at"}
        c.execute(insert(entries), {k: v for k, v in ahead.items() if k != "id"})
    assert recount(told) == []


def test_facts_that_are_gone_are_not_passed_over(told: Engine) -> None:
    """A recount of what is left would call the rest right."""
    for gone in ((entries.c.seq > 40,), (entries.c.seq > 0,)):
        with told.begin() as c:
            c.execute(delete(entries).where(entries.c.log == "654002/case", *gone))
        before = tables(told)
        for mend in (False, True):
            with pytest.raises(RuntimeError, match="654002/case lacks"):
                recount(told, mend=mend)
        assert tables(told) == before


def test_what_an_older_release_folded_is_filled(empty_engine: Engine) -> None:
    """Its cases do not say what they count for; until a recount mended that, nothing could be taken back from totals."""
    old = {c.name: STRANGE.get(c.name) for c in cases.c if c.name not in ("part", "exempt", "counted")}
    columns, values = ", ".join(f'"{name}"' for name in old), ", ".join(f":{name}" for name in old)
    migrate(empty_engine, "evaluation_0002")
    with empty_engine.begin() as c:
        c.execute(text(f"INSERT INTO evaluation_cases ({columns}) VALUES ({values})"), old | {"id": "a", "reported_at": "2026"})
    migrate(empty_engine)
    kept = one(empty_engine, cases)
    assert (kept["part"], kept["exempt"], kept["counted"]) == (None, False, "")
    change(empty_engine, delete(cases))
    heard(empty_engine, TOLD)
    before = tables(empty_engine)
    change(empty_engine, update(cases).values(exempt=False, counted=""))
    change(empty_engine, update(totals).values(exempted=0))
    assert len(recount(empty_engine, mend=True)) >= 20 * len(ORIGINS) and tables(empty_engine) == before


@pytest.mark.parametrize("mend", [False, True])
def test_it_counts_right_while_facts_arrive(engine: Engine, tmp_path: Path, mend: bool) -> None:
    """As copies on one database do it: readers with an engine of their own fold while another process recounts and mends."""
    done, failures = threading.Event(), list[BaseException]()

    def hear(origin: str) -> None:
        own = open_engine(engine.url.render_as_string(hide_password=False))
        reader, (facts, chains) = Reader(READER, own, fold), sealed(origin, TOLD[origin])
        try:
            for n in range(0, len(facts), 2):
                reader.apply(f"{origin}/case", facts[n : n + 2], chains[min(n + 2, len(facts)) - 1])
                time.sleep(0.005)
        except BaseException as error:
            failures.append(error)
        finally:
            own.dispose()

    threads = [threading.Thread(target=hear, args=(origin,)) for origin in ORIGINS]

    def watch() -> None:
        for thread in threads:
            thread.join()
        done.set()

    for thread in threads:
        thread.start()
    threading.Thread(target=watch).start()
    times = 0
    while not done.is_set():
        assert recount(engine, mend=mend) == []
        times += 1
        time.sleep(0.02)
    assert failures == [] and times > 2 and recount(engine) == []
    alone = open_engine(f"sqlite:///{tmp_path}/alone.db")
    migrate(alone)
    heard(alone, TOLD)
    assert tables(engine) == tables(alone), "nothing was lost or counted twice"
