"""What a faulty or hostile child may put into a batch: it is refused, kept aside within bounds, and stops nobody's reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from deploy.migrate import migrate
from services.evaluation.handlers import READER, fold
from shared import log as logs
from shared.chain import EMPTY, Entry, encode, link
from shared.database import open_engine
from shared.reader import KEPT, Reader, quarantine
from shared.replica import Apply, Duplicate, Wrong
from tests.world import desk

LOG = "99/case"


def closing(entries: list[Entry], before: bytes = EMPTY.chain) -> bytes:
    for entry in entries:
        before = link(before, entry)
    return before


@pytest.fixture
def truth(tmp_path: Path) -> list[Entry]:
    """The log of one case from report to close."""
    below = open_engine(f"sqlite:///{tmp_path}/below.db")
    migrate(below)
    at = desk(below)
    case = at.report()
    for action in ("file", "dispatch", "handle", "close"):
        at.clock.pass_(0.2)
        at.act(case, action)
    logs.seal(below, LOG)
    return logs.read_range(below, LOG, 1)[0]


def batch(log: str, lines: list[bytes], chain: bytes = bytes(32)) -> bytes:
    return b"\n".join([f"{log} {chain.hex()}".encode(), *lines])


def held(engine: Engine) -> list[tuple[str, bytes, int]]:
    with engine.begin() as connection:
        rows = connection.execute(select(quarantine).order_by(quarantine.c.id))
        return [(row.log, bytes(row.message), row.times) for row in rows]


def late(entry: Entry, year: bytes) -> Entry:
    return entry._replace(body=entry.body.replace(b'"time":"2026', b'"time":"' + year))


@pytest.mark.parametrize(
    "position",
    [b"4294967296 1 1", b"2147483648 1 1", b"-1 1 1", b"1 1 2147483648", b"1 1 -1", b"0 1 1", b"1 0 1", b"1 1 0", b"+1 1 1",
     b"1_0 1 1", b"01 1 1", b"1 18446744073709551616 1", b"1 9223372036854775808 1", b"1 1 " + b"9" * 4000,
     b"1 1 " + b"9" * 5000],
    ids=range(15),
)  # fmt: skip
def test_positions_that_no_log_has_are_refused(engine: Engine, truth: list[Entry], position: bytes) -> None:
    reader = Reader(READER, engine, fold)
    message = batch(LOG, [b" ".join([position, truth[0].subject.encode(), truth[0].body])])
    assert isinstance(reader.take("99", "case", message), Wrong)
    assert held(engine) == [(LOG, message, 1)]
    assert isinstance(reader.take("99", "case", encode(LOG, truth, closing(truth))), Apply), "the true one still goes through"


@pytest.mark.parametrize(
    "named", ["98/case", "\0\x01/case", "x" * 5000, "\x7f"], ids=["another", "control", "long", "delete"]
)
def test_names_of_logs_that_are_none_are_refused(engine: Engine, truth: list[Entry], named: str) -> None:
    reader = Reader(READER, engine, fold)
    assert isinstance(reader.take("99", "case", encode(named, truth, closing(truth))), Wrong)
    assert [log for log, _, _ in held(engine)] == [LOG]


@pytest.mark.parametrize("error", [KeyError("k"), OverflowError("o"), AttributeError("a"), ValueError("v")], ids=repr)
def test_what_the_folding_stumbles_over_is_kept_aside(engine: Engine, truth: list[Entry], error: Exception) -> None:
    def stumble(*_: object) -> None:
        raise error

    broken = Reader(READER, engine, stumble)
    assert broken.take("99", "case", encode(LOG, truth, closing(truth))) == Wrong(f"cannot be folded: {type(error).__name__}")
    assert len(held(engine)) == 1
    assert isinstance(Reader(READER, engine, fold).take("99", "case", encode(LOG, truth, closing(truth))), Apply)


def test_our_own_troubles_are_no_fault_of_the_batch(engine: Engine, truth: list[Entry]) -> None:
    def unwell(*_: object) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError):
        Reader(READER, engine, unwell).take("99", "case", encode(LOG, truth, closing(truth)))
    assert held(engine) == []


def test_a_child_cannot_fill_its_parents_disk_with_what_is_wrong(engine: Engine) -> None:
    reader = Reader(READER, engine, fold)
    messages = [b"nonsense %d" % n for n in range(3 * KEPT)]
    for message in [*messages, messages[-1], messages[-1]]:
        assert isinstance(reader.take("99", "case", message), Wrong)
        assert len(held(engine)) <= KEPT
    assert isinstance(reader.take("98", "case", b"nonsense"), Wrong)
    kept = [message for log, message, _ in held(engine) if log == LOG]
    assert kept == [messages[0], *messages[-KEPT + 1 :]], "the first, because it began there, and the last"
    assert held(engine)[-2:] == [(LOG, messages[-1], 3), ("98/case", b"nonsense", 1)]
    assert reader.counts["quarantined"] == 3 * KEPT + 3, "all are counted"


@pytest.mark.parametrize("together", [False, True])
def test_another_history_behind_the_head_is_no_repetition(engine: Engine, truth: list[Entry], together: bool) -> None:
    """A child restored from an old copy that went on differently: taken for known, its facts would vanish without a trace."""
    reader = Reader(READER, engine, fold)
    assert isinstance(reader.take("99", "case", encode(LOG, truth, closing(truth))), Apply)
    other = [*truth[:2], late(truth[2], b"2027")]
    assert other != truth[:3]
    forked, known = encode(LOG, other, closing(other)), encode(LOG, truth[:3], closing(truth[:3]))
    take: Callable[[bytes], object] = lambda m: reader.take_all("99", "case", [known, m] if together else [m])[-1]  # noqa: E731
    assert take(forked) == Wrong("another history at sequence 3")
    assert [message for _, message, _ in held(engine)] == [forked]
    assert isinstance(take(known), Duplicate)


def test_a_batch_is_cut_by_its_bytes(engine: Engine) -> None:
    bodies = [b"x" * 1000] * 10 + [b"y" * 5000] + [b"z"]
    rows = [{"log": LOG, "fact_id": f"f{n}", "subject": "s", "type": "t", "body": body} for n, body in enumerate(bodies)]
    with engine.begin() as connection:
        logs.write(connection, rows)
    assert logs.seal(engine, LOG) == len(rows)
    everything, end = logs.read_range(engine, LOG, 1)
    assert [e.body for e in everything] == bodies and end == closing(everything)
    first, sizes, chain = 1, [], EMPTY.chain
    while (part := logs.read_range(engine, LOG, first, size=3500))[0]:
        found, end = part
        assert end == closing(found, chain)
        first, chain = first + len(found), end
        sizes.append([len(e.body) for e in found])
    assert sizes == [[1000] * 3, [1000] * 3, [1000] * 3, [1000], [5000], [1]]
