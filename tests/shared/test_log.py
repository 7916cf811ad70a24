"""The log on both databases: sealing, verifying, and each kind of bad delivery."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from deploy.migrate import migrate
from services.evaluation.handlers import READER, fold
from services.evaluation.queries import Filter, figures
from services.evaluation.recount import recount
from services.evaluation.tables import totals
from shared import log as logs
from shared.chain import EMPTY, Entry, Head, decode, encode, link
from shared.database import durable, open_engine
from shared.reader import Reader, waiting
from shared.replica import Apply, Duplicate, Gap, Wrong, judge
from tests.world import desk

LOG = "99/case"


def lived(engine: Engine, count: int = 3) -> list[Entry]:
    at = desk(engine)
    for _ in range(count):
        case = at.report()
        for action in ("file", "dispatch", "handle", "close"):
            at.clock.pass_(0.2)
            at.act(case, action)
    logs.seal(engine, LOG)
    return logs.read_range(engine, LOG, 1)[0]


def closing(entries: list[Entry], before: bytes = EMPTY.chain) -> bytes:
    for entry in entries:
        before = link(before, entry)
    return before


@pytest.fixture
def upper(tmp_path: Path) -> Reader:
    """A reader at another node, which has heard nothing yet."""
    engine = open_engine(f"sqlite:///{tmp_path}/upper.db")
    migrate(engine)
    return Reader(READER, engine, fold)


def test_the_settings_are_durable(engine: Engine) -> None:
    assert durable(engine)


def test_each_delivery(engine: Engine, upper: Reader) -> None:
    all_ = lived(engine)
    head, tail = all_[:5], all_[5:]
    assert isinstance(upper.take("99", "case", encode(LOG, tail, closing(all_))), Gap)
    assert isinstance(upper.take("99", "case", encode(LOG, head, closing(head))), Apply)
    assert isinstance(upper.take("99", "case", encode(LOG, head, closing(head))), Duplicate)
    assert isinstance(upper.take("99", "case", encode(LOG, all_, closing(all_))), Apply)
    assert recount(upper.engine) == []
    assert figures(upper.engine, ["origin"], Filter(), "2026-01-01", lambda d: (d,))[0]["closed"] == 3


def test_what_is_wrong_is_never_applied(engine: Engine, upper: Reader) -> None:
    all_ = lived(engine)
    forged = [*all_[:2], all_[2]._replace(body=all_[2].body.replace(b"lamps", b"roads")), *all_[3:]]
    assert isinstance(upper.take("99", "case", encode(LOG, forged, closing(all_))), Wrong)
    assert isinstance(upper.take("98", "case", encode(LOG, all_, closing(all_))), Wrong), "another account's log"
    assert isinstance(upper.take("99", "case", b"nonsense"), Wrong)
    odd = [all_[0]._replace(body=all_[0].body.replace(b"case.reported.v1", b"case.imagined.v1"))]
    assert isinstance(upper.take("99", "case", encode(LOG, odd, closing(odd))), Wrong)
    with upper.engine.begin() as c:
        assert c.execute(select(totals)).all() == []
        assert logs.head(c, READER, LOG) == EMPTY
    assert waiting(upper.engine, READER) == {"99/case": 3, "98/case": 1}
    assert isinstance(upper.take("99", "case", encode(LOG, all_, closing(all_))), Apply), "the true one still goes through"


def test_a_county_cannot_speak_of_anothers_case(engine: Engine, upper: Reader) -> None:
    all_ = lived(engine, 1)
    assert isinstance(upper.take("99", "case", encode(LOG, all_, closing(all_))), Apply)
    stolen = [Entry(1, 1, 1, e.subject, e.body.replace(b'"/99/case"', b'"/98/case"')) for e in all_[1:2]]
    assert isinstance(upper.take("98", "case", encode("98/case", stolen, closing(stolen))), Wrong)


def test_recount_sees_a_difference(engine: Engine) -> None:
    lived(engine)
    reader = Reader(READER, engine, fold)
    found, end = logs.read_range(engine, LOG, 1)
    reader.apply(LOG, found, end)
    assert recount(engine) == []
    with engine.begin() as c:
        c.execute(totals.update().values(closed=totals.c.closed + 1))
    assert len(recount(engine)) > 0
    recount(engine, mend=True)
    assert recount(engine) == []


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_judging_random_slices(data: st.DataObject) -> None:
    """Whatever slices arrive in whatever order, what was applied is always a prefix of the truth."""
    size = data.draw(st.integers(1, 12))
    truth = [Entry(1, n, n, "c", bytes([n])) for n in range(1, size + 1)]
    head: Head = EMPTY
    for _ in range(data.draw(st.integers(1, 10))):
        first = data.draw(st.integers(0, size - 1))
        part = truth[first : data.draw(st.integers(first + 1, size))]
        judgement = judge(head, part, closing(truth[: part[-1].seq]))
        if isinstance(judgement, Apply):
            head = judgement.head
        elif isinstance(judgement, Gap):
            assert judgement == Gap(head.seq + 1, part[0].seq - 1)
        else:
            assert isinstance(judgement, Duplicate)
            assert part[-1].seq <= head.seq
        assert head.chain == closing(truth[: head.seq])


@given(st.lists(st.binary(min_size=1, max_size=40).filter(lambda b: b"\n" not in b), min_size=1, max_size=9))
def test_a_message_reads_back(bodies: list[bytes]) -> None:
    entries = [Entry(1, n, 1, "s", b) for n, b in enumerate(bodies, 1)]
    assert decode(encode(LOG, entries, closing(entries))) == (LOG, entries, closing(entries))
