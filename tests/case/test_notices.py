"""Who is told what: rules, one's own notices, reminders told once for each clock, the weekly digest; on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, func, select, update

from services.case import book, digest, notices, outbox, reminders, telling
from services.case.book import Address
from services.case.commands import Report, report
from services.case.tables import cases
from services.case.telling import SUGGESTED, DigestRule, Rules, events
from shared.auth import Caller
from shared.clock import stamp
from shared.database import Tx, reading
from shared.log import record
from shared.writer import Writer
from tests import served
from tests.served import LEAF, ROOT, Served, refused
from tests.world import Desk, desk

API = "/api/case/v1"
ROW: dict[str, Any] = {
    "id": "case-1", "number": "99-20260302-00001", "version": 3, "state": "dispatched", "category": "E0101", "division": "99",
    "department": "lamps", "helpers": ["roads"], "handler": "hans", "pending": None, "due_at": "2026-03-03T01:00:00.000000Z",
}  # fmt: skip


def rule(event: str, kind: str, name: str | None = None, **more: Any) -> dict[str, Any]:
    return {"event": event, "audience": {"kind": kind, "name": name}, **more}


def rules(*found: dict[str, Any], **more: Any) -> Rules:
    return Rules.model_validate({"rules": found, **more})


def put(tx: Tx, wanted: Rules) -> None:
    book.put_rules(tx, wanted, book.current(tx.connection)[0], "boss")


def seen(engine: Engine, name: str, *roles: str, departments: tuple[str, ...] = (), **more: Any) -> list[str]:
    with reading(engine) as connection:
        caller = Caller(name, frozenset(roles), None, frozenset(departments))
        return [n["kind"] for n in notices.mine(connection, caller, **more)[0]]


def waiting(engine: Engine) -> list[dict[str, Any]]:
    with reading(engine) as connection:
        return outbox.page(connection, outbox.Sought(limit=500))[::-1]


# Rules -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [rule("reached", "role"), rule("reached", "role", "king"), rule("reached", "department", "lamps"), rule("flew", "handler"),
     rule("overdue", "handler", states=["filed"]), rule("reached", "handler", channels=[]), rule("reached", "handler", text="x"),
     rule("reached", "handler", channels=["webhook"]), rule("reached", "handler", states=["flown"])],
)  # fmt: skip
def test_a_rule_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        rules(wrong)


@pytest.mark.parametrize(
    ("before", "action", "after", "found"),
    [(None, "report", "reported", ["reached"]), ("dispatched", "assign", "handling", ["assigned", "reached"]),
     ("handling", "supervise", "handling", ["supervised"]), ("return_asked", "grant", "filed", ["returned", "reached"]),
     ("postpone_review", "grant", "handling", ["postponed", "reached"]), ("void_asked", "grant", "void", ["reached"]),
     ("reported", "amend", "reported", []), ("checking", "fail_check", "filed", ["reworked", "reached"])],
)  # fmt: skip
def test_what_a_step_means(before: str | None, action: str, after: str, found: list[str]) -> None:
    assert events({"state": before} if before else None, {"state": after}, action) == found


def test_each_hears_of_a_step_once(engine: Engine) -> None:
    wanted = rules(
        rule("assigned", "handler", channels=["inapp", "mail"]), rule("reached", "handler"), rule("reached", "department"),
        rule("reached", "helpers", states=["dispatched", "handling"]), rule("reached", "role", "leader", categories=["P"]),
        rule("assigned", "account", "hans", channels=["mail"]), rule("assigned", "role", "dispatcher", departments=["lamps"]),
    )  # fmt: skip
    with engine.begin() as connection:
        tx = Tx(connection, "99")
        put(tx, wanted)
        book.put_address(tx, "hans", Address.model_validate({"address": "hans@office.example"}), "boss")
        after = ROW | {"state": "handling"}
        notices.of_step(tx, ROW, after, "assign", actor="anna", at=tx.now())
    assert seen(engine, "hans", "handler", departments=("lamps",)) == ["assigned"]
    assert seen(engine, "kurt", "department", departments=("roads",)) == ["reached"]
    assert seen(engine, "kurt", "department") == ["reached"], "who acts for all departments hears it once"
    assert seen(engine, "kurt", "department", departments=("parks",)) == []
    assert seen(engine, "kurt", "leader") == []
    assert seen(engine, "dora", "dispatcher") == ["assigned"]
    (mail,) = waiting(engine)
    assert (mail["kind"], mail["target"], len(mail["payload"]["lines"])) == ("mail", "account:hans", 1)
    assert set(mail["payload"]["lines"][0]) == {"event", "at", "state", "number", "category", "division", "due_at"}


def test_nobody_hears_of_his_own_deed(engine: Engine) -> None:
    with engine.begin() as connection:
        tx = Tx(connection, "99")
        put(tx, rules(rule("assigned", "handler", channels=["inapp", "mail"]), rule("assigned", "role", "handler")))
        book.put_address(tx, "hans", Address.model_validate({"address": "h@o.example", "roles": ["handler"]}), "boss")
        notices.of_step(tx, ROW, ROW | {"state": "handling"}, "assign", actor="hans", at=tx.now())
    assert seen(engine, "hans", "handler") == [] and waiting(engine) == []
    assert seen(engine, "kurt", "handler") == ["assigned"]


def test_a_step_and_its_notice_are_there_together_or_not_at_all(engine: Engine) -> None:
    with engine.begin() as connection:
        put(Tx(connection, "99"), rules(rule("reached", "role", "leader", channels=["inapp", "mail"])))
    writer = Writer(engine, "99")

    def work(tx: Tx) -> None:
        notices.of_step(tx, None, ROW, "report", actor="anna", at=tx.now())
        raise ValueError

    with pytest.raises(ValueError):
        writer.run(work)
    writer.close()
    assert seen(engine, "boss", "leader") == [] and waiting(engine) == []


def test_telling_nobody_costs_next_to_nothing(engine: Engine) -> None:
    with engine.begin() as connection:
        tx, best = Tx(connection, "99"), 1.0
        for _ in range(20):
            begun = perf_counter()
            for _ in range(100):
                notices.of_step(tx, ROW, ROW | {"state": "handling"}, "assign", actor="anna", at=tx.now())
            best = min(best, (perf_counter() - begun) / 100)
    # One look-up by key; on PostgreSQL that is a round trip.
    assert best < (50e-6 if engine.dialect.name == "sqlite" else 1e-3), f"{best * 1e6:.0f} microseconds"


# Reading ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, engine, LEAF) as found:
        yield found


def named(node: Served, name: str, *roles: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {node.token(sub=name, sanji=[{'role': r, 'node': ROOT} for r in roles])}"}


def test_pages_of_notices_have_each_once(engine: Engine) -> None:
    """Whatever the page size: all of them, once, the newest first; a happening that several of one's targets hear is one."""
    with engine.begin() as connection:
        tx = Tx(connection, "99")
        put(tx, rules(rule("reached", "department"), rule("reached", "helpers"), rule("reached", "role", "department")))
        for n in range(23):
            notices.of_step(tx, None, ROW | {"id": f"case-{n}"}, "report", actor="anna", at=tx.now())
    role = frozenset({"department"})
    for caller in (Caller("k", role), Caller("k", role, None, frozenset({"lamps", "roads"}))):
        for limit in (1, 5, 23, 50):
            found, before = [], None
            while True:
                with reading(engine) as connection:
                    items, before = notices.mine(connection, caller, before=before, limit=limit)
                    unread = notices.count_unread(connection, caller)
                found += [i["event"] for i in items]
                if before is None:
                    break
            assert (len(found), len(set(found)), unread) == (23, 23, 23)
            assert found == sorted(found, reverse=True)


def test_reading_is_each_ones_own(node: Served) -> None:
    client, boss = node.client, named(node, "boss", "administrator")
    wanted = {"rules": [rule("commented", "role", "acceptor")]}
    known = client.get(f"{API}/notices/rules", headers=boss).json()
    assert (known["edition"], known["rules"]["rules"]) == (0, []) and len(known["suggested"]["rules"]) == len(SUGGESTED.rules)
    assert client.put(f"{API}/notices/rules", json={"edition": 0, "rules": wanted}, headers=boss).json()["edition"] == 1
    refused(client.put(f"{API}/notices/rules", json={"edition": 0, "rules": wanted}, headers=boss), 409, "/edition")
    refused(client.put(f"{API}/notices/rules", json={"edition": 1, "rules": wanted}, headers=named(node, "x", "leader")), 403)
    body = {"category": "E0101", "lon": 87.62, "lat": 43.72}
    case = client.post(f"{API}/cases", json=body, headers=named(node, "eyes", "collector")).json()["id"]
    for text in ("一", "二", "三"):
        sent = client.post(f"{API}/cases/{case}/comments", json={"text": text}, headers=named(node, "anna", "acceptor"))
        assert sent.status_code == 201
    bert, cora = named(node, "bert", "acceptor"), named(node, "cora", "acceptor")
    first = client.get(f"{API}/notices", headers=bert).json()
    assert first["unread"] == 3 and [n["case_id"] for n in first["items"]] == [case] * 3
    assert "一" not in str(first), "a notice says that somebody commented, not what"
    one = first["items"][1]["event"]
    assert client.post(f"{API}/notices/read", json={"events": [one, "nothing"]}, headers=bert).json() == {"read": 1}
    assert client.get(f"{API}/notices?unread=true", headers=bert).json()["unread"] == 2
    stranger = named(node, "d", "dispatcher")
    assert client.post(f"{API}/notices/read", json={"events": [one]}, headers=stranger).json() == {"read": 0}
    assert client.post(f"{API}/notices/read", json={}, headers=bert).json() == {"read": 2}
    after = client.get(f"{API}/notices", headers=bert).json()
    assert after["unread"] == 0 and all(n["read_at"] for n in after["items"])
    assert client.get(f"{API}/notices", headers=cora).json()["unread"] == 3
    assert client.get(f"{API}/notices", headers=named(node, "anna", "acceptor")).json()["unread"] == 0, "her own comments"
    refused(client.get(f"{API}/notices?unraed=true", headers=bert), 422)
    refused(client.get(f"{API}/notices", headers=node.as_platform()), 403)
    started = node.runtime.loops.states.keys()
    assert {"reminders", "digest", "outbox"} <= started


def test_addresses(node: Served) -> None:
    client, boss = node.client, named(node, "boss", "administrator")
    url = f"{API}/notices/addresses"
    good = {"address": "desk@office.example", "language": "en", "roles": ["leader"]}
    found = client.put(f"{url}/desk-1", json=good, headers=boss)
    assert found.status_code == 200 and found.json()["account"] == "desk-1", found.text
    for wrong in ("a b@x.example", "A <a@x.example>", "a@x", "a@x.example, b@x.example", "a@x.example\r\nBcc: c@y.example", "@x"):
        answer = client.put(f"{url}/desk-1", json=good | {"address": wrong}, headers=boss)
        assert answer.status_code == 422 or wrong == "a@x", wrong
    refused(client.put(f"{url}/desk-1", json=good | {"roles": ["king"]}, headers=boss), 422)
    refused(client.get(url, headers=named(node, "x", "leader")), 403)
    assert client.delete(f"{url}/desk-1", headers=boss).json() == {"removed": "desk-1"}
    refused(client.delete(f"{url}/desk-1", headers=boss), 404)
    assert client.get(url, headers=boss).json() == []


# Reminders ----------------------------------------------------------------------------------------------------------------


def clocked(at: Desk) -> str:
    """A case with a clock of 15 minutes for its acceptance, yellow after 12."""
    with at.engine.begin() as connection:
        tx = Tx(connection, "99", now=at.clock, recorder=record)
        return str(report(tx, at.around, Report("E0101", 1.0, 1.0))["id"])


def look(at: Desk) -> int:
    """What one look tells, as the loop does it."""
    found = 0
    while due := reminders.candidates(at.engine, at.clock()):
        with at.engine.begin() as connection:
            found += reminders.judge(Tx(connection, "99", now=at.clock), due, at.clock())
    with at.engine.begin() as connection:
        reminders.looked(Tx(connection, "99", now=at.clock), at.clock())
    return found


TIMELY = rules(
    rule("due_soon", "role", "acceptor", channels=["inapp", "mail"]), rule("overdue", "role", "acceptor"),
    rule("reply_due", "role", "leader"),
)  # fmt: skip


def ready(at: Desk, wanted: Rules = TIMELY) -> None:
    with at.engine.begin() as connection:
        tx = Tx(connection, "99", now=at.clock)
        put(tx, wanted)
        book.put_address(tx, "anna", Address.model_validate({"address": "a@o.example", "roles": ["acceptor"]}), "boss")
    look(at)


def test_yellow_and_red_are_told_once(engine: Engine) -> None:
    at = desk(engine)
    ready(at)
    for _ in range(3):
        clocked(at)
    assert look(at) == 0
    at.clock.pass_(0.2)
    assert look(at) == 0, "the last moment of green is green"
    at.clock.at += timedelta(microseconds=1)
    assert look(at) == 3 and look(at) == 0
    (mail,) = waiting(engine)
    assert len(mail["payload"]["lines"]) == 3, "one mail for all that one look found"
    at.clock.pass_(0.06)
    assert look(at) == 3
    at.clock.pass_(24)
    assert look(at) == 0
    assert sorted(seen(engine, "bert", "acceptor")) == ["due_soon"] * 3 + ["overdue"] * 3


def test_a_process_that_was_away_catches_up(engine: Engine) -> None:
    """Over a weekend a case turned yellow and red: it is overdue, and nobody is told any more that it soon will be."""
    at = desk(engine)
    ready(at)
    clocked(at)
    at.clock.pass_(60)
    assert look(at) == 1
    assert seen(engine, "bert", "acceptor") == ["overdue"]


def test_what_was_late_before_anybody_asked_is_not_told(engine: Engine) -> None:
    at = desk(engine)
    look(at)
    case = clocked(at)
    at.clock.pass_(1)
    look(at)
    ready(at)
    at.clock.pass_(1)
    assert look(at) == 0 and seen(engine, "bert", "acceptor") == []
    with engine.begin() as connection:
        connection.execute(update(cases).where(cases.c.id == case).values(changed_at=stamp(at.clock())))
    assert look(at) == 1, "once it changes it is"


def test_a_pause_is_the_same_clock_and_an_extension_is_another(engine: Engine) -> None:
    at = desk(engine)
    ready(at)
    case = clocked(at)
    at.clock.pass_(0.21)
    assert look(at) == 1

    def moved(minutes: int, **more: Any) -> None:
        with engine.begin() as connection:
            row = connection.execute(select(cases).where(cases.c.id == case)).mappings().one()
            later = {n: stamp(datetime.fromisoformat(row[n]) + timedelta(minutes=minutes)) for n in ("warn_at", "late_at")}
            clocks = dict(row["clocks"])
            clocks["acceptance"] = clocks["acceptance"] | more
            values = later | {"clocks": clocks, "changed_at": stamp(at.clock())}
            connection.execute(update(cases).where(cases.c.id == case).values(**values))

    moved(60)
    at.clock.pass_(1.01)
    assert look(at) == 0, "after a pause the same yellow comes again and was told"
    moved(60, moves=[{"code": "extended"}])
    at.clock.pass_(0.9)
    assert look(at) == 0
    at.clock.pass_(0.11)
    assert look(at) == 1
    at.clock.pass_(1)
    assert look(at) == 1
    assert seen(engine, "bert", "acceptor") == ["overdue", "due_soon", "due_soon"]


def test_a_supervision_that_nobody_answers(engine: Engine) -> None:
    at = desk(engine)
    ready(at)
    case = clocked(at)
    with engine.begin() as connection:
        reply_by = stamp(at.clock() + timedelta(hours=1))
        connection.execute(update(cases).where(cases.c.id == case).values(reply_by=reply_by, warn_at=None, late_at=None))
    at.clock.pass_(1.01)
    assert look(at) == 1 and look(at) == 0
    assert seen(engine, "boss", "leader") == ["reply_due"]


def test_two_copies_tell_once(engine: Engine) -> None:
    at = desk(engine)
    ready(at)
    for _ in range(reminders.CHUNK + 30):
        clocked(at)
    at.clock.pass_(0.21)
    writers = [Writer(engine, "99", now=at.clock) for _ in range(2)]

    async def both() -> None:
        turns = [asyncio.ensure_future(reminders.Reminders(engine, w).turn()) for w in writers]
        await asyncio.wait(turns, timeout=8)
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)

    asyncio.run(both())
    for writer in writers:
        writer.close()
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(notices.notices)).scalar_one() == reminders.CHUNK + 30
    assert sum(len(m["payload"]["lines"]) + m["payload"]["more"] for m in waiting(engine)) == reminders.CHUNK + 30


def test_old_notices_go(engine: Engine) -> None:
    at = desk(engine)
    ready(at)
    clocked(at)
    at.clock.pass_(1)
    assert look(at) == 1
    with engine.begin() as connection:
        tx = Tx(connection, "99", now=at.clock)
        assert notices.mark_read(tx, Caller("bert", frozenset({"acceptor"})), None) == 1
        assert notices.forget(tx, 100) == 0
        at.clock.at += notices.KEPT + timedelta(days=1)
        assert notices.forget(tx, 100) == 1
        assert connection.execute(select(func.count()).select_from(notices.read)).scalar_one() == 0


# The digest ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "zone", "name", "begin", "due"),
    [("2026-03-02T00:30:00+00:00", "Asia/Shanghai", "2026-W09", "2026-02-22T16:00:00+00:00", "2026-03-02T00:00:00+00:00"),
     ("2026-03-01T15:59:59+00:00", "Asia/Shanghai", "2026-W08", "2026-02-15T16:00:00+00:00", "2026-02-23T00:00:00+00:00"),
     ("2026-04-01T12:00:00+00:00", "Europe/Berlin", "2026-W13", "2026-03-22T23:00:00+00:00", "2026-03-30T06:00:00+00:00"),
     ("2027-01-05T12:00:00+00:00", "UTC", "2026-W53", "2026-12-28T00:00:00+00:00", "2027-01-04T08:00:00+00:00")],
)  # fmt: skip
def test_the_week_of_a_digest(at: str, zone: str, name: str, begin: str, due: str) -> None:
    found = digest.last_week(datetime.fromisoformat(at), ZoneInfo(zone), DigestRule(weekday=0, hour=8))
    assert found.name == name
    assert found.begin.astimezone(UTC) == datetime.fromisoformat(begin)
    assert found.due.astimezone(UTC) == datetime.fromisoformat(due)


WEEKLY = {"weekday": 0, "hour": 8, "roles": ["leader"], "departments": True}


def test_the_figures_are_those_of_the_cases(engine: Engine) -> None:
    at = desk(engine)
    at.clock.at = datetime(2026, 3, 4, 1, tzinfo=UTC)
    first, second, third = at.report(), at.report(), at.report()
    for case in (first, second):
        at.clock.pass_(0.1)
        at.act(case, "file")
        at.act(case, "dispatch")
    at.act(first, "handle")
    at.act(first, "close")
    at.clock.at = datetime(2026, 3, 9, 0, 0, 1, tzinfo=UTC)
    at.report()
    with engine.begin() as connection:
        connection.execute(update(cases).where(cases.c.id == third).values(reply_by=stamp(at.clock())))
        wanted = DigestRule.model_validate(WEEKLY)
        week = digest.last_week(at.clock(), ZoneInfo("Asia/Shanghai"), wanted)
        found = digest.figures(connection, wanted, week, at.clock())
        number = connection.execute(select(cases.c.number).where(cases.c.id == second)).scalar()
    assert week.name == "2026-W10" and set(found) == {"role:leader", "department:lamps"}
    oldest = found["department:lamps"].pop("oldest")
    assert oldest["number"] == number
    assert found["department:lamps"] == {"opened": 2, "closed": 1, "open": 1, "overdue": 1, "supervised": 0}
    assert found["role:leader"] | {"oldest": None} == {
        "opened": 3, "closed": 1, "open": 3, "overdue": 1, "supervised": 1, "oldest": None,
    }  # fmt: skip


def test_a_digest_is_made_once_a_week_by_however_many(engine: Engine) -> None:
    at = desk(engine)
    at.report()
    ready(at, rules(digest=WEEKLY))
    with engine.begin() as connection:
        tx = Tx(connection, "99", now=at.clock)
        wanted = {"address": "b@o.example", "channels": ["digest"], "roles": ["leader"], "language": "en"}
        book.put_address(tx, "boss", Address.model_validate(wanted), "boss")
    writers = [Writer(engine, "99", now=at.clock) for _ in range(3)]

    async def turns() -> None:
        work = [asyncio.ensure_future(digest.Digest(engine, w, at.around.zone).turn()) for w in writers]
        await asyncio.wait(work, timeout=2)
        for turn in work:
            turn.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    def made() -> list[tuple[str, str]]:
        with reading(engine) as connection:
            return [tuple(r) for r in connection.execute(select(digest.digests.c.week, digest.digests.c.target))]  # type: ignore[misc]

    at.clock.at = datetime(2026, 3, 8, 23, 59, tzinfo=UTC)
    asyncio.run(turns())
    assert made() == [], "a minute before eight"
    at.clock.at = datetime(2026, 3, 9, 0, 0, tzinfo=UTC)
    asyncio.run(turns())
    asyncio.run(turns())
    assert sorted(t for week, t in made() if week == "2026-W10") == ["", "role:leader"]
    mails = waiting(engine)
    assert [(m["target"], m["payload"]["week"]) for m in mails] == [("account:boss", "2026-W10")]
    assert seen(engine, "boss", "leader")[0] == "digest"
    with reading(engine) as connection:
        assert digest.mine(connection, Caller("boss", frozenset({"leader"})))[0]["figures"]["opened"] == 1
        assert digest.mine(connection, Caller("kurt", frozenset({"dispatcher"}))) == []
    for writer in writers:
        writer.close()


def test_every_suggested_rule_can_be_put_in_force(engine: Engine) -> None:
    with engine.begin() as connection:
        tx = Tx(connection, "99")
        put(tx, SUGGESTED)
        assert book.current(connection) == (1, SUGGESTED)
        assert {r.event for r in SUGGESTED.rules} <= set(telling.EVENTS)
