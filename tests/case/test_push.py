"""What a platform pushes, on both databases: each outcome, each field, and that what is refused leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select

from contracts.base import Fact
from contracts.case import CaseClosed
from services.case.push import SHAPES, again, take
from services.case.tables import cases, numbers, platform_cases, pushed, quarantine
from shared.clock import stamp
from shared.database import Tx
from shared.errors import Conflict, NotFound
from shared.log import entries, later, write
from tests.world import Around, Clock

SOURCE, PREFIX = "urn:platform:roads", "cn.sanji.platform.case."
PLACE = {"category": "E0101", "lon": 1.0, "lat": 1.0}
Event = dict[str, Any]


@dataclass
class Post:
    """A county that takes events; `recorder` may refuse a fact."""

    engine: Engine
    clock: Clock = field(default_factory=Clock)
    around: Around = field(default_factory=Around)
    recorder: Callable[[Tx, Fact], None] = later

    def run(self, work: Callable[[Tx], Any]) -> Any:
        with self.engine.begin() as c:
            tx = Tx(c, "99", now=self.clock, recorder=self.recorder)
            found = work(tx)
            write(c, tx.pending)
        orjson.dumps(found)
        return found

    def push(self, *events: Any) -> list[Event]:
        answers: list[Event] = self.run(lambda tx: [take(tx, self.around, SOURCE, e) for e in events])
        return answers

    def event(self, id: str, step: str = "reported", hours: float = 0, **more: Any) -> Event:
        self.clock.pass_(hours)
        data = {"reported": PLACE, "dispatched": {"department": "lamps"}, "refused": {"reason": "other"}}.get(step, {})
        named = {"specversion": "1.0", "id": id, "source": SOURCE, "type": f"{PREFIX}{step}.v1", "subject": "s"}
        return named | {"time": self.clock.at.isoformat(), "data": data} | more

    def left(self) -> dict[str, Any]:
        """Everything that an event can leave behind, but for the quarantine."""
        tables = (cases, numbers, platform_cases, pushed, entries)
        with self.engine.begin() as c:
            return {t.name: sorted(map(tuple, c.execute(select(t))), key=str) for t in tables}

    def waiting(self) -> dict[str, Any]:
        """Items of the quarantine by the event's id."""
        with self.engine.begin() as c:
            return {row.event_id: row for row in c.execute(select(quarantine).where(quarantine.c.replayed_at.is_(None)))}

    def state(self) -> tuple[str, int]:
        with self.engine.begin() as c:
            return tuple(c.execute(select(cases.c.state, cases.c.version)).one())  # type: ignore[return-value]

    def facts(self) -> list[str]:
        with self.engine.begin() as c:
            found = c.execute(select(entries.c.type).order_by(entries.c.id)).scalars()
            return [t.removeprefix("cn.sanji.case.").removesuffix(".v1") for t in found]


@pytest.fixture
def post(engine: Engine) -> Post:
    return Post(engine)


def outcome(answer: Event) -> tuple[str, str | None]:
    return answer["outcome"], answer.get("field")


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_a_life_is_taken_once(post: Post) -> None:
    steps = ("reported", "filed", "dispatched", "handled", "reworked", "handled", "closed")
    events = [post.event(f"e{n}", step, 1) for n, step in enumerate(steps)]
    first = post.push(*events)
    assert {outcome(a) for a in first} == {("accepted", None)} and len({a["case"] for a in first}) == 1
    assert post.state() == ("closed", 7) and post.facts() == list(steps)
    before = post.left()
    shuffled = [dict(reversed(e.items())) for e in reversed(events)]
    assert [a["outcome"] for a in post.push(*shuffled)] == ["duplicate"] * 7, "the order of the keys says nothing"
    assert {a["case"] for a in post.push(*events)} == {first[0]["case"]}
    assert post.left() == before and post.waiting() == {}


def test_the_same_id_with_other_content(post: Post) -> None:
    post.push(post.event("a"))
    before = post.left()
    other = post.event("a", data=PLACE | {"lat": 2.0})
    assert outcome(post.push(other)[0]) == ("refused", "/id")
    assert post.left() == before and post.waiting()["a"].event == other


def test_one_bad_item_costs_the_others_nothing(post: Post) -> None:
    odd: list[Any] = [5, "x", None, [], True, nested(500), {}, {"id": nested(500)}, {"id": "deep", "data": {"x": nested(500)}}]
    odd += [post.event("key", data=PLACE | {"k" * 5000: 1}), post.event("nul", data=PLACE | {"text": "a\0b"})]
    batch = [e for n, bad in enumerate(odd) for e in (bad, post.event(f"g{n}", subject=f"s{n}"))]
    answers = post.push(*batch)
    assert [a["outcome"] for a in answers] == ["refused", "accepted"] * len(odd)
    assert len(post.waiting()) == len(odd) and post.facts() == ["reported"] * len(odd)
    assert [a["id"] for a in answers[::2]] == [None] * 8 + ["deep", "key", "nul"]
    assert post.waiting()["nul"].event["data"]["text"] == "a\N{REPLACEMENT CHARACTER}b", "kept as far as a database can"


WRONG: list[tuple[str, str, Any]] = [
    ("", "specversion", "0.3"), ("", "specversion", 1.0), ("", "specversion", None), ("", "id", ""), ("", "id", "x" * 121),
    ("", "id", 5), ("", "id", None), ("", "source", "urn:platform:water"), ("", "source", ""), ("", "source", "x" * 201),
    ("", "type", PREFIX + "reported.v2"), ("", "type", "x" * 81), ("", "type", None), ("", "time", "2026-03-01T00:00:00"),
    ("", "time", "yesterday"), ("", "time", 1772323200), ("", "time", "1772323200"), ("", "time", "2026-02-30T00:00:00Z"),
    ("", "time", "0001-01-01T00:00:00Z"), ("", "time", "1899-12-31T23:59:59Z"), ("", "time", "2026-03-02T01:02:00.001Z"),
    ("", "time", None), ("", "subject", ""), ("", "subject", "x" * 121), ("", "subject", 7), ("", "data", []),
    ("", "data", None), ("", "data", "x"), ("", "data_base64", "e30="),
    ("reported", "category", "X9"), ("reported", "category", "E" * 21), ("reported", "category", None),
    ("reported", "lon", "1"), ("reported", "lon", 181), ("reported", "lon", 11.0), ("reported", "lon", None),
    ("reported", "lon", True), ("reported", "lat", -91),
    ("reported", "lat", [1]), ("reported", "channel", "pigeon"), ("reported", "provenance", "true"),
    ("reported", "dataset", "a b"), ("reported", "dataset", "x" * 81), ("reported", "text", "x" * 2001), ("reported", "text", 5),
    ("reported", "reporter", "Mr. Li"), ("filed", "due", "2026-03-01"), ("filed", "due", "0999-01-01T00:00:00Z"),
    ("filed", "limit", 3), ("dispatched", "department", ""), ("dispatched", "department", "a b"),
    ("dispatched", "department", None), ("dispatched", "department", "x" * 81),
    ("dispatched", "department", "路灯"), ("refused", "reason", "because"),
    ("refused", "reason", None), ("handled", "by", "x"), ("reworked", "by", "x"), ("closed", "on_time", True),
]  # fmt: skip


def test_every_wrong_value_names_its_field_and_leaves_nothing(post: Post) -> None:
    post.push(post.event("r"), post.event("f", "filed"), post.event("r2", subject="s2"))
    before, subjects = post.left(), {"": "new", "reported": "new", "filed": "s2", "refused": "s2"}
    for n, (step, name, value) in enumerate(WRONG):
        event = post.event(f"w{n}", step or "reported", subject=subjects.get(step, "s"))
        event["data"] = dict(event["data"])
        (event["data"] if step else event)[name] = value
        pointer, known = f"/data/{name}" if step else f"/{name}", post.waiting()
        assert outcome(post.push(event)[0]) == ("refused", pointer), (step, name, value)
        assert post.left() == before, (step, name, value)
        (held,) = (row for id, row in post.waiting().items() if id not in known)
        assert (held.field, held.event, held.source) == (pointer, event, SOURCE)
    for name in ("specversion", "id", "source", "type", "time", "subject"):
        event = post.event("m", subject="new")
        del event[name]
        assert outcome(post.push(event)[0]) == ("refused", f"/{name}")
    assert {s for s, _, _ in WRONG} - {""} == {t.removeprefix(PREFIX).removesuffix(".v1") for t in SHAPES}
    assert post.left() == before


def test_depth_and_nul_at_their_limits(post: Post) -> None:
    """The event itself is one level, an extension attribute with seven lists makes eight."""
    assert outcome(post.push(post.event("a", trace=nested(7)))[0]) == ("accepted", None)
    assert outcome(post.push(post.event("b", subject="b", trace=nested(8)))[0]) == ("refused", "/")
    written = post.event("c", subject="c", data=PLACE | {"text": "\\u0000 is written so"})
    assert outcome(post.push(written)[0]) == ("accepted", None)
    for n, part in enumerate(({"subject": "\0"}, {"\0": 1}, {"data": PLACE | {"text": "\\\0"}}, {"id": "d\0"})):
        assert outcome(post.push(post.event(f"n{n}", subject=f"n{n}") | part)[0]) == ("refused", "/"), part


def test_steps_out_of_order(post: Post) -> None:
    assert outcome(post.push(post.event("x", "filed"))[0]) == ("refused", "/subject"), "never reported"
    post.push(post.event("r"))
    assert outcome(post.push(post.event("r2"))[0]) == ("refused", "/subject"), "reported before"
    for step in ("dispatched", "handled", "reworked", "closed"):
        assert outcome(post.push(post.event(f"x-{step}", step))[0]) == ("refused", "/type"), step
    early = post.event("early", "filed", time="2026-03-01T00:00:00Z")
    assert outcome(post.push(early)[0]) == ("refused", "/time")
    post.push(post.event("f", "filed", 1), post.event("d", "dispatched", 3))
    between = stamp(post.clock.at)
    for step in ("handled", "closed"):
        event = post.event(f"b-{step}", step, time="2026-03-02T02:30:00Z")
        assert outcome(post.push(event)[0]) == ("refused", "/time"), "after the filing, but before it was given to anybody"
    assert outcome(post.push(post.event("h", "handled", time=between))[0]) == ("accepted", None), "the same moment is in order"
    post.push(post.event("w", "reworked", 2))
    assert outcome(post.push(post.event("h2", "handled", time=between))[0]) == ("refused", "/time"), "it was sent back since then"
    assert post.state() == ("dispatched", 5)


def test_a_clock_may_run_ahead_a_little(post: Post) -> None:
    assert outcome(post.push(post.event("a", time="2026-03-02T01:02:00Z"))[0]) == ("accepted", None)
    assert outcome(post.push(post.event("b", "filed", time="2026-03-02T01:02:00.000001Z"))[0]) == ("refused", "/time")
    post.clock.pass_(0.001)
    assert outcome(post.push(post.event("b", "filed", time="2026-03-02T01:02:00.000001Z"))[0]) == ("accepted", None)
    assert post.waiting() == {}


@pytest.mark.parametrize("state", ["filed", "dispatched", "handled"])
def test_a_close_states_the_steps_before_it_or_none(post: Post, state: str) -> None:
    steps = ("reported", "filed", "dispatched", "handled")
    steps = steps[: steps.index(state) + 1]
    post.push(*(post.event(s, s, 0.1) for s in steps))
    before = post.left()

    def full(tx: Tx, fact: Fact) -> None:
        if isinstance(fact, CaseClosed):
            raise Conflict("the log takes no end today")
        later(tx, fact)

    post.recorder = full
    close, report = post.event("c", "closed", 0.1), post.event("n", subject="n")
    assert [a["outcome"] for a in post.push(close, report)] == ["refused", "accepted"]
    post.recorder = later
    kept = post.left()
    assert post.facts() == [*steps, "reported"], "no fact of a step that was taken back"
    assert set(map(repr, before["case_cases"])) < set(map(repr, kept["case_cases"]))
    assert len(kept["log_entries"]) == len(steps) + 1
    assert outcome(post.push(close)[0]) == ("accepted", None) and post.waiting() == {}
    assert post.facts()[len(steps) + 1 :] == ["dispatched", "handled", "closed"][steps.index(state) - 1 :]


def test_what_was_refused_is_taken_when_corrected(post: Post) -> None:
    post.push(post.event("a", data=PLACE | {"lon": 11}), {"subject": "nameless"}, post.event("c", data=PLACE | {"category": "X"}))
    first, third = (post.waiting()[id] for id in "ac")
    (nameless,) = (row for id, row in post.waiting().items() if id.startswith("unnamed-"))

    def fields() -> dict[str, str]:
        return {row.id: row.field for row in post.waiting().values()}

    def try_(item: Any, event: Any = None) -> Event:
        answer: Event = post.run(lambda tx: again(tx, post.around, item.id, event))
        return answer

    assert outcome(try_(first)) == ("refused", "/data/lon")
    assert outcome(try_(first, post.event("a", data=PLACE | {"lat": 99}))) == ("refused", "/data/lat")
    assert fields() == {first.id: "/data/lat", nameless.id: "/specversion", third.id: "/data/category"}
    assert outcome(try_(first, post.event("a"))) == ("accepted", None)
    assert outcome(try_(nameless, post.event("found", "filed"))) == ("accepted", None), "by an id that it did not have before"
    assert set(fields()) == {third.id}
    assert post.push(post.event("c", subject="c"))[0]["outcome"] == "accepted"
    assert fields() == {}, "sent right by the platform itself"
    before = post.left()
    assert outcome(try_(first, post.event("a"))) == ("duplicate", None)
    assert outcome(try_(first, {"id": "spoilt"}))[0] == "refused" and post.waiting() == {}, "what is done stays done"
    assert post.left() == before
    with pytest.raises(NotFound):
        post.run(lambda tx: again(tx, post.around, "nothing"))


def test_an_item_with_a_used_id_is_settled_by_what_was_taken(post: Post) -> None:
    good = post.event("a")
    post.push(good, post.event("a", data=PLACE | {"lat": 5.0}))
    (item,) = post.waiting().values()
    assert post.run(lambda tx: again(tx, post.around, item.id, good))["outcome"] == "duplicate"
    assert post.waiting() == {}


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_nothing_that_is_json_breaks_it(post: Post, data: st.DataObject) -> None:
    """Any value anywhere: an answer that says what became of it, and a refused one leaves nothing."""
    event = post.event(data.draw(st.text(max_size=3)), data.draw(st.sampled_from(["reported", "filed", "dispatched", "closed"])))
    event["data"] = dict(event["data"])
    inside = data.draw(st.sampled_from([event, event["data"]]))
    inside[data.draw(st.sampled_from([*sorted(inside), "trace"]) | st.text())] = data.draw(json)
    before = post.left()
    answers = post.push(event, data.draw(json))
    assert {a["outcome"] for a in answers} <= {"accepted", "duplicate", "refused"}
    if all(a["outcome"] == "refused" for a in answers):
        assert post.left() == before
    with post.engine.begin() as c:
        assert c.execute(select(func.count()).select_from(entries)).scalar_one() >= len(before["log_entries"])
