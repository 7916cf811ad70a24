"""The desk on both databases and over HTTP: whose case is whose, what comes first, counts, filters, many steps, timelines."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, update

from services.case import desk, domain, guards, lists
from services.case.desk import WAITS
from services.case.lists import Filters
from services.case.tables import cases
from shared import audit
from shared.auth import Caller
from shared.clock import stamp
from shared.database import reading
from shared.errors import Conflict, Forbidden, Invalid
from tests import served
from tests.case.clerks import Office
from tests.case.test_search import columns, explained, made
from tests.served import PLATFORM, Served, refused

NOW = datetime(2026, 3, 4, tzinfo=UTC)
API = "/api/case/v1"
ROLES = ("acceptor", "shift_supervisor", "dispatcher", "department", "handler", "collector", "checker")
Row = dict[str, Any]


def test_every_open_state_waits_for_somebody_who_can_go_on() -> None:
    assert {domain.STAGE_OF[s] for s, roles in WAITS.items() if roles == {"department"}} == {"handling"}
    alone = {s for s in domain.OPEN if s not in WAITS}
    assert alone == {"suspended"}, "only the timer"
    for state, roles in WAITS.items():
        assert roles and all(domain.allowed(state, frozenset({role})) for role in roles)
    assert set(WAITS) - domain.OPEN == {"appealed", "appeal_review"}
    assert not {"integrator", "reporter", "timer", "administrator", "leader"} & frozenset().union(*WAITS.values())
    assert set(lists.ENDED) == set(domain.STATES) - domain.OPEN - {"appealed", "appeal_review"}


def filled(engine: Engine, count: int = 700) -> list[Row]:
    """Cases in every state, with clocks before, at and after their limits, departments that lead and help, tasks for somebody."""
    dice = random.Random(21)
    rows = []
    for n in range(count):
        state = dice.choice(domain.STATES)
        late = NOW + timedelta(minutes=dice.randrange(-90, 90)) if state in domain.OPEN and dice.random() < 0.8 else None
        due = NOW + timedelta(minutes=dice.randrange(-90, 90)) if dice.random() < 0.6 else None
        task = {"assignee": dice.choice(("li", "wang"))} if state in desk.TASKS and dice.random() < 0.6 else None
        rows.append(
            made(n, dice) | {
                "state": state, "warn_at": late and stamp(late - timedelta(minutes=30)), "late_at": late and stamp(late),
                "due_at": due and stamp(due), "department": dice.choice(("lamps", "roads", "parks", None)), "pending": task,
                "helpers": dice.choice((None, None, ["lamps"], ["roads", "la_ps"])), "handler": dice.choice(("li", "wang", None)),
                "ended_at": None if state in domain.OPEN else stamp(NOW), "stage": domain.STAGE_OF.get(state),
                "reply_by": stamp(NOW) if n % 40 == 0 else None,
                "handled_at": stamp(NOW - timedelta(hours=1)) if n % 7 == 0 else None,
            }
        )  # fmt: skip
    with engine.begin() as connection:
        for row in rows:
            connection.execute(insert(cases), columns(row) | {"pending": row["pending"], "helpers": row["helpers"]})
    return rows


@pytest.fixture
def rows(engine: Engine) -> list[Row]:
    return filled(engine)


def waits(row: Row, who: Caller) -> bool:
    """Whose case it is, written anew."""
    if not WAITS.get(row["state"], frozenset()) & who.roles:
        return False
    match row["state"]:
        case "handling":
            return bool(row["handler"] == who.name)
        case "verifying" | "checking":
            return (row["pending"] or {}).get("assignee") in (None, who.name)
        case "dispatched" | "done" | "postpone_asked":
            return not who.departments or bool(who.departments & {row["department"], *(row["helpers"] or ())})
    return True


def order(row: Row, who: Caller) -> tuple[int, str, str]:
    mine = row["state"] in desk.TASKS and (row["pending"] or {}).get("assignee") == who.name
    return (0 if mine else 1, row["late_at"] or row["due_at"] or row["reported_at"], row["id"])


CALLERS = [
    *(Caller("li", frozenset({role})) for role in ROLES), Caller("li", frozenset(ROLES)),
    Caller("nobody", frozenset({"auditor"})),
    Caller("wang", frozenset({"department"}), None, frozenset({"lamps"})),
    Caller("wang", frozenset({"department", "handler"}), None, frozenset({"roads", "la_ps"})),
    Caller("wang", frozenset({"collector", "acceptor"})), Caller("x", frozenset({"handler"})),
]  # fmt: skip


def test_a_queue_is_what_waits_and_what_is_due_first(engine: Engine, rows: list[Row]) -> None:
    met = 0
    for who in CALLERS:
        expected = sorted((r for r in rows if waits(r, who)), key=lambda r: order(r, who))
        assert [r["id"] for r in walked(engine, who)] == [r["id"] for r in expected], who
        for light in ("green", "yellow", "red"):
            lit = [r["id"] for r in expected if guards.light(r, stamp(NOW)) == light]
            assert [r["id"] for r in walked(engine, who, light=light)] == lit
        for state in ("handling", "checking", "reported"):
            assert [r["id"] for r in walked(engine, who, states=[state])] == [r["id"] for r in expected if r["state"] == state]
        led = [r["id"] for r in expected if r["department"] == "roads"]
        assert [r["id"] for r in walked(engine, who, department="roads")] == led
        met += len(expected)
    assert met > 800


def walked(engine: Engine, who: Caller, limit: int = 17, **more: Any) -> Iterator[Row]:
    cursor: str | None = None
    while True:
        with reading(engine) as connection:
            found, cursor = desk.queue(
                connection, desk.asked(who, who.roles, None), NOW, cursor=cursor, limit=limit, **more
            )  # fmt: skip
        yield from found
        if cursor is None:
            return


def test_counts_are_those_of_the_queue(engine: Engine, rows: list[Row]) -> None:
    for who in CALLERS:
        with reading(engine) as connection:
            found = desk.counts(connection, desk.asked(who, who.roles, None), NOW)
        mine = [r for r in rows if waits(r, who)]
        for role in who.roles & frozenset().union(*WAITS.values()):
            of_role = [guards.light(r, stamp(NOW)) or "none" for r in mine if role in WAITS[r["state"]]]
            expected = {name: of_role.count(name) for name in ("green", "yellow", "red", "none")} | {"total": len(of_role)}
            assert found["roles"][role] == expected, (who, role)
        assert sum(s["total"] for s in found["states"].values()) == len(mine)
        assert set(found["roles"]) == set(who.roles & frozenset().union(*WAITS.values()))


def test_a_desk_of_another_role_and_a_made_up_cursor(engine: Engine) -> None:
    who = Caller("li", frozenset({"acceptor"}))
    with pytest.raises(Forbidden):
        desk.asked(who, who.roles, "dispatcher")
    for cursor in ("x", "===", "é", "MiBhIGI=", "MSBh"):
        with reading(engine) as connection, pytest.raises(Invalid) as wrong:
            desk.queue(connection, desk.asked(who, who.roles, None), NOW, cursor=cursor)
        assert wrong.value.field == "/cursor"


def test_a_desk_reads_only_what_is_open(engine: Engine, rows: list[Row]) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("the plan of a small table says nothing on PostgreSQL")
    who = Caller("li", frozenset({"acceptor", "department", "handler"}), None, frozenset({"lamps"}))
    for read in (desk.counts, desk.queue):
        plans = explained(engine, lambda c, read=read: read(c, desk.asked(who, who.roles, None), NOW))
        used = [step for step in plans if " case_cases " in f"{step} " and "autoindex" not in step]
        assert used and all("case_cases_desk" in s or "case_cases_helped" in s for s in used), plans


def listed(engine: Engine, asked: Filters) -> list[str]:
    ids: list[str] = []
    cursor: str | None = None
    while True:
        with reading(engine) as connection:
            page, cursor = lists.page(connection, asked, lambda d: (d,), NOW, cursor, 23)
        ids += [row["id"] for row in page]
        if cursor is None:
            return ids


def late(row: Row) -> bool:
    return row["ended_at"] is None and row["due_at"] is not None and row["due_at"] < (row["handled_at"] or stamp(NOW))


def test_every_filter_of_a_list(engine: Engine, rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    tests: dict[str, tuple[Any, Any]] = {
        "stage": ("handling", lambda r: r["stage"] == "handling"), "department": ("roads", lambda r: r["department"] == "roads"),
        "light": ("yellow", lambda r: guards.light(r, stamp(NOW)) == "yellow" and r["state"] not in lists.ENDED),
        "overdue": (True, late), "supervised": (True, lambda r: r["reply_by"] is not None and r["ended_at"] is None),
        "channel": ("hotline", lambda r: True), "part": (rows[5]["part"], lambda r: r["part"] == rows[5]["part"]),
        "state": ("closed", lambda r: r["state"] == "closed"), "category": ("E0102", lambda r: r["category"] == "E0102"),
        "condition": ("7", lambda r: False), "cell": ("990101001001001", lambda r: False), "parent": ("c1", lambda r: False),
    }  # fmt: skip
    dice = random.Random(9)
    orders = {
        None: (lambda r: (r["changed_at"], r["id"]), False), "changed": (lambda r: (r["changed_at"], r["id"]), False),
        "reported": (lambda r: (r["reported_at"], r["id"]), True), "due": (lambda r: (r["due_at"] or "", r["id"]), False),
    }  # fmt: skip
    for few in (2000, 3):
        monkeypatch.setattr(lists, "FEW", few)
        for _ in range(60):
            names, sort = dice.sample(sorted(tests), dice.choice((0, 1, 1, 2, 3))), dice.choice([*orders])
            negative = {n for n in names if n in ("overdue", "supervised") and dice.random() < 0.5}
            asked = Filters(sort=sort, **{n: tests[n][0] is not True if n in negative else tests[n][0] for n in names})
            expected = [r for r in rows if all(tests[n][1](r) != (n in negative) for n in names)]
            if sort == "due":
                expected = [r for r in expected if r["state"] not in lists.ENDED and r["due_at"]]
            key, backwards = orders[sort]
            assert listed(engine, asked) == [r["id"] for r in sorted(expected, key=key, reverse=backwards)], asked  # type: ignore[arg-type]


def test_a_window_makes_short_pages_and_loses_nothing(engine: Engine, rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.listing.WINDOW", 50)
    monkeypatch.setattr(lists, "FEW", 3)
    roads, void = Filters(department="roads", category="E0102"), Filters(sort="reported", state="void")
    for asked in (Filters(channel="leader"), roads, void):
        exact = [name for name in ("channel", "department", "category", "state") if getattr(asked, name) is not None]
        wanted = [row["id"] for row in rows if all(getattr(asked, name) == row[name] for name in exact)]
        assert sorted(listed(engine, asked)) == sorted(wanted)


@pytest.fixture
def office(engine: Engine) -> Office:
    return Office(engine)


@pytest.fixture
def node(office: Office, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, office.engine) as found:
        yield found


def by(node: Served, name: str, *roles: str, **grant: str) -> dict[str, str]:
    """Somebody with roles at the node; `grant` says for which department."""
    grants = [{"role": role, "node": served.LEAF, **grant} for role in roles]
    return {"Authorization": f"Bearer {node.token(sub=name, sanji=grants)}"}


def test_a_desk_over_http(office: Office, node: Served) -> None:
    mine, theirs = office.report(text="一"), office.report(text="二")
    for case, department in ((mine, "lamps"), (theirs, "roads")):
        office.lead(case, "file")
        office.do(case, "dispatch", department=department, helpers=["parks"])

    def ids(headers: dict[str, str], **query: Any) -> list[str]:
        answer = node.client.get(f"{API}/queue", params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    lamps, parks = by(node, "l", "department", department="lamps"), by(node, "p", "department", department="parks")
    assert ids(lamps) == [mine] and sorted(ids(parks)) == sorted([mine, theirs])
    assert sorted(ids(by(node, "a", "department"))) == sorted([mine, theirs]) and ids(by(node, "d", "dispatcher")) == []
    office.do(mine, "assign", handler="wang")
    assert ids(by(node, "wang", "handler")) == [mine] and ids(by(node, "li", "handler")) == [] and ids(lamps) == []
    assert ids(by(node, "wang", "handler"), light="red") == [mine] and ids(by(node, "wang", "handler"), light="green") == []
    counts = node.client.get(f"{API}/queue/counts", headers=by(node, "wang", "handler", "acceptor")).json()
    assert counts["roles"]["handler"]["red"] == 1 and counts["roles"]["acceptor"]["total"] == 0
    assert counts["states"] == {"handling": counts["roles"]["handler"]}
    refused(node.client.get(f"{API}/queue?role=checker", headers=lamps), 403, "/role")
    refused(node.client.get(f"{API}/queue?colour=red", headers=lamps), 422, "/colour")
    refused(node.client.get(f"{API}/queue", headers=node.as_platform()), 403)


def test_saved_filters(node: Served) -> None:
    li, wang = by(node, "li", "acceptor", "dispatcher"), by(node, "wang", "acceptor")
    body = {"name": "本周超期", "query": {"overdue": True, "text": "路灯"}, "shared_with": "acceptor"}
    made = node.client.post(f"{API}/filters", json=body, headers=li)
    assert made.status_code == 201 and made.json()["query"] == body["query"] and made.json()["mine"] is True
    where = f"{API}/filters/{made.json()['id']}"
    (seen,) = node.client.get(f"{API}/filters", headers=wang).json()
    assert seen["name"] == "本周超期" and seen["mine"] is False
    refused(node.client.put(where, json=body, headers=wang), 404)
    refused(node.client.delete(where, headers=wang), 404)
    wrong = [({"colour": "red"}, "/query/colour"), ({"bbox": "1"}, "/bbox"), ({"text": "。"}, "/text")]
    for query, field in (*wrong, ({"state": "x"}, "/query/state")):
        refused(node.client.post(f"{API}/filters", json=body | {"name": "x", "query": query}, headers=li), 422, field)
    refused(node.client.post(f"{API}/filters", json=body, headers=li), 409, "/name")
    with_others = body | {"name": "y", "shared_with": "checker"}
    refused(node.client.post(f"{API}/filters", json=with_others, headers=li), 403, "/shared_with")
    refused(node.client.post(f"{API}/filters", json=body | {"name": "<b>"}, headers=li), 422, "/name")
    changed = node.client.put(where, json=body | {"shared_with": None, "query": {"sort": "due"}}, headers=li)
    assert changed.json()["query"] == {"sort": "due"} and node.client.get(f"{API}/filters", headers=wang).json() == []
    used = node.client.get(f"{API}/cases", params=changed.json()["query"], headers=li)
    assert used.status_code == 200, "what is kept are parameters of the list"
    for n in range(49):
        assert node.client.post(f"{API}/filters", json=body | {"name": f"n{n}"}, headers=li).status_code == 201
    refused(node.client.post(f"{API}/filters", json=body | {"name": "one more"}, headers=li), 409)
    assert node.client.delete(where, headers=li).status_code == 204
    assert len(node.client.get(f"{API}/filters", headers=li).json()) == 49


def test_many_steps_at_once(office: Office, node: Served) -> None:
    reports = [office.report(text=str(n)) for n in range(120)]
    for case in reports[:3]:
        office.do(case, "refuse")
    headers = by(node, "boss", "shift_supervisor")
    items = [{"case": case, "version": 1, "action": "file", "condition": "1"} for case in reports]
    items[60]["case"], items[61]["condition"], items[62]["version"] = "nobody", "99", 7
    answer = node.client.post(f"{API}/actions", json={"items": items}, headers=headers)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["done"], told["repeated"], told["refused"]) == (114, 0, 6)
    assert [i["case"] for i in told["items"]] == [i["case"] for i in items]
    problems = [(i["problem"]["status"], i["problem"].get("field")) for i in told["items"] if i["problem"]]
    assert problems == [(409, "/version")] * 3 + [(404, "/case"), (422, "/condition"), (409, "/version")]
    assert office.row(reports[0])["state"] == "refused" and office.row(reports[61])["version"] == 1
    assert all(office.row(case)["state"] == "filed" for case in reports[3:60])
    again = node.client.post(f"{API}/actions", json={"items": items}, headers=headers).json()
    assert (again["done"], again["repeated"], again["refused"]) == (0, 114, 6), "sent again, nothing is done twice"
    assert all(office.row(case)["version"] == 2 for case in reports[3:60])
    other = node.client.post(f"{API}/actions", json={"items": items[3:5]}, headers=by(node, "o", "shift_supervisor")).json()
    assert other["refused"] == 2, "somebody else's step was not his"
    first = {"case": reports[4], "version": 2, "action": "dispatch", "department": "lamps"}
    two = [first, {"case": reports[4], "version": 3, "action": "handle"}]
    both = node.client.post(f"{API}/actions", json={"items": two}, headers=by(node, "b", "dispatcher", "department")).json()
    assert both["done"] == 2 and both["items"][1]["state"] == "handled", "in their order"
    refused(node.client.post(f"{API}/actions", json={"items": []}, headers=headers), 422, "/items")
    refused(node.client.post(f"{API}/actions", json={"items": items * 2}, headers=headers), 422, "/items")
    refused(node.client.post(f"{API}/actions", json={"items": [items[0] | {"x": 1}]}, headers=headers), 422, "/items/0/x")
    refused(node.client.post(f"{API}/actions", json={"items": items[:1]}, headers={"Authorization": "x"}), 401)
    with reading(office.engine) as connection:
        steps = [e for e in audit.page(connection, audit.Sought(action="file", limit=1000))]
    assert len(steps) == 114, "each step in the audit log, and no step that was refused"


def test_a_step_that_fails_leaves_nothing_of_itself(office: Office) -> None:
    case = office.report()
    with pytest.raises(Conflict):
        office.do(case, "close", role="shift_supervisor")
    assert office.row(case)["version"] == 1


def test_a_timeline_tells_everything_in_order(office: Office, node: Served) -> None:
    case = office.report(text="secret words", channel="hotline", application="app-1")
    office.do(case, "ask_verification", assignee="li")
    office.lead(case, "verify", "file", "dispatch", "handle")
    office.do(case, "rework", opinion="还是不亮")
    answer = node.client.get(f"{API}/cases/{case}/timeline", headers=node.as_("auditor"))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    entries = told["entries"]
    assert [e["version"] for e in entries] == list(range(1, told["version"] + 1))
    assert [e["action"] for e in entries] == ["report", "ask_verification", "verify", "file", "dispatch", "handle", "rework"]
    assert all(a["target"] == b["source"] for a, b in zip(entries, entries[1:], strict=False)) and entries[0]["source"] is None
    assert entries[0]["target"] == "reported" and entries[0]["actor"] is None
    assert entries[0]["detail"] == {"channel": "hotline", "application": "app-1", "provenance": "live"}
    last = entries[-1]
    assert (last["actor"], last["opinion"], last["department"]) == ("the dispatcher", "还是不亮", "lamps")
    assert last["roles"] == ["dispatcher"] and "moved_to" in last["clock"]
    assert entries[1]["detail"] == {"assignee": "li"} and "secret" not in answer.text
    refused(node.client.get(f"{API}/cases/nobody/timeline", headers=node.as_("auditor")), 404, "/case")


def test_a_platform_sees_the_steps_of_its_own_cases_and_nobody(office: Office, node: Served) -> None:
    event = {"specversion": "1.0", "id": "1", "source": PLATFORM, "subject": "s", "type": "cn.sanji.platform.case.reported.v1",
             "time": "2026-03-01T08:00:00+08:00", "data": {"category": "E0101", "lon": 87.62, "lat": 43.72}}  # fmt: skip
    key = node.as_platform()
    pushed = node.client.post(f"{API}/events", json=event, headers=key | {"content-type": "application/cloudevents+json"}).json()
    case = pushed["items"][0]["case"]
    body = {"action": "file", "version": 1, "condition": "1", "opinion": "by hand"}
    boss = by(node, "boss", "shift_supervisor")
    assert node.client.post(f"{API}/cases/{case}/actions", json=body, headers=boss).status_code == 200
    answer = node.client.get(f"{API}/cases/{case}/timeline", headers=key)
    entries = answer.json()["entries"]
    assert [e["action"] for e in entries] == ["report", "file"] and "boss" not in answer.text
    assert not {"actor", "roles", "opinion", "detail", "noted_at"} & entries[1].keys()
    refused(node.client.get(f"{API}/cases/{office.report()}/timeline", headers=key), 404, "/case")


def test_a_timeline_of_a_thing_put_right_at_once(office: Office, node: Served) -> None:
    case = office.report(self_handled=True)
    with office.tx() as tx:
        tx.execute(update(cases).where(cases.c.id == case).values(version=1))
        assert tx.execute(select(cases.c.state).where(cases.c.id == case)).scalar_one() == "self_handled"
    (entry,) = node.client.get(f"{API}/cases/{case}/timeline", headers=node.as_("auditor")).json()["entries"]
    assert entry["target"] == "self_handled"
