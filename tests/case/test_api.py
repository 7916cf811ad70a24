"""The case service as a clerk and a reader meet it, over real HTTP on both databases."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from tests import served
from tests.served import LEAF, PLATFORM, Served, refused

API = "/api/case/v1"
CASES, EVENTS = f"{API}/cases", f"{API}/events"
PLACE = {"category": "E0101", "lon": 87.62, "lat": 43.72}
STAFF = ("collector", "acceptor", "shift_supervisor", "dispatcher", "department", "checker")


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, engine, LEAF) as found:
        yield found


def ask(node: Served, _query: str | dict[str, Any] = "", /, **headers: str) -> httpx.Response:
    return node.client.get(CASES, params=_query, headers=node.as_("auditor") | headers)


def listed(node: Served, **query: Any) -> list[dict[str, Any]]:
    answer = ask(node, query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def report(node: Served, **more: Any) -> dict[str, Any]:
    answer = node.client.post(CASES, json=PLACE | more, headers=node.as_("collector"))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def as_(node: Served, role: str) -> dict[str, str]:
    """Somebody of one role: who checks is not who worked."""
    return {"Authorization": f"Bearer {node.token(role, sub=f'the {role}')}"}


def act(node: Served, case: str, action: str, version: int, role: str, **more: Any) -> httpx.Response:
    body = {"action": action, "version": version} | more
    return node.client.post(f"{CASES}/{case}/actions", json=body, headers=as_(node, role))


def fill(node: Served, count: int) -> None:
    """`count` cases in both categories on six cells, every fifth of them filed."""

    def event(n: int, step: str, data: dict[str, Any]) -> dict[str, Any]:
        named = {"specversion": "1.0", "id": f"{n}-{step}", "source": PLATFORM, "subject": str(n), "data": data}
        return named | {"type": f"cn.sanji.platform.case.{step}.v1", "time": "2026-03-01T08:00:00+08:00"}

    told = []
    for n in range(count):
        place = {"category": "E0102" if n % 2 else "E0101", "lon": 87.598 + n % 3 * 0.009, "lat": 43.74 + n % 2 * 0.009}
        told += [event(n, "reported", place), *([] if n % 5 else [event(n, "filed", {})])]
    headers = node.as_platform() | {"content-type": "application/cloudevents-batch+json"}
    assert node.client.post(EVENTS, json=told, headers=headers).json()["accepted"] == len(told)


def test_a_life_by_staff_says_at_each_step_who_may_go_on(node: Served) -> None:
    case = report(node, text="a lamp by the gate; Mr. Li, 13800000000")
    steps: list[tuple[str, str, dict[str, str]]] = [
        ("file", "shift_supervisor", {"condition": "1"}), ("dispatch", "dispatcher", {"department": "lamps"}),
        ("handle", "department", {}), ("rework", "dispatcher", {"opinion": "still dark"}), ("handle", "department", {}),
        ("ask_check", "acceptor", {}), ("pass_check", "checker", {}),
        ("close", "shift_supervisor", {"means": "service", "closing": "1"}),
    ]  # fmt: skip
    for version, (action, role, more) in enumerate(steps, 1):
        for other in STAFF:
            found = node.client.get(f"{CASES}/{case['id']}", headers=as_(node, other))
            if action not in found.json()["allowed"]:
                refused(act(node, case["id"], action, version, other, **more), 403)
        answer = act(node, case["id"], action, version, role, **more)
        assert answer.status_code == 200 and answer.json()["version"] == version + 1, answer.text
    closed = answer.json()
    assert (closed["state"], closed["on_time"], closed["means"], closed["allowed"]) == ("closed", True, "service", [])
    assert "13800000000" not in ask(node).text and "text" not in closed
    whole = node.client.get(f"{CASES}/{case['id']}", headers=node.as_("auditor")).json()
    assert whole["total"]["ended"] == whole["ended_at"] and 0 <= whole["total"]["seconds"] < 600 and whole["text"]
    assert [c["stage"] for c in whole["clocks"]] == ["acceptance", "dispatch", "handling", "closing", "check"]


def test_a_conflict_says_what_is_possible_now(node: Served) -> None:
    case = report(node)["id"]
    problem = refused(act(node, case, "close", 1, "shift_supervisor"), 409, "/action")
    assert {"file", "refuse", "ask_verification"} <= set(problem["allowed"]) and problem["state"] == "reported"
    assert refused(act(node, case, "file", 2, "shift_supervisor", condition="1"), 409, "/version")["version"] == 1
    refused(act(node, case, "file", 1, "shift_supervisor"), 422, "/condition")
    refused(act(node, case, "file", 1, "shift_supervisor", condition="99"), 422, "/condition")
    assert act(node, case, "file", 1, "shift_supervisor", condition="1").status_code == 200
    late = refused(act(node, case, "file", 1, "shift_supervisor", condition="1"), 409, "/version")
    assert [(c["version"], c["action"], c["source"], c["target"]) for c in late["changed"]] == [(2, "file", "reported", "filed")]
    refused(act(node, case, "dispatch", 2, "dispatcher"), 422, "/department")
    for missing in ("nothing", case[:-1], f"{case}0"):
        refused(act(node, missing, "file", 1, "shift_supervisor"), 404, "/case")
        refused(node.client.get(f"{CASES}/{missing}", headers=node.as_("auditor")), 404, "/case")


REPORTS: list[tuple[str, Any]] = [
    ("category", "X9"), ("category", 5), ("category", None), ("category", "e0101"), ("lon", 0.0), ("lon", "87"), ("lon", None),
    ("lon", True), ("lat", 91), ("text", "<b>dark</b>"), ("cell", "650102990001002"), ("cell", "1"), ("part", "a b"),
    ("answers", "red"), ("application", "a b"), ("lat", []),
    ("channel", "pigeon"), ("text", "x" * 2001), ("text", "a\0b"), ("text", 5),
    ("reporter", "Mr. Li"), ("provenance", "live"),
]  # fmt: skip
ACTIONS: list[tuple[str, Any]] = [
    ("action", "delete"), ("action", None), ("version", "1"), ("version", None), ("version", 1.5), ("version", True),
    ("department", "a b"), ("department", ""), ("department", "x" * 81), ("reason", "because"), ("at", "2026-03-01T00:00:00Z"),
]  # fmt: skip


def test_a_report_or_a_step_that_cannot_be(node: Served) -> None:
    for name, value in REPORTS:
        refused(node.client.post(CASES, json=PLACE | {name: value}, headers=node.as_("collector")), 422, f"/{name}")
    asked = node.client.post(CASES, json=PLACE | {"answers": {"colour": "red"}}, headers=node.as_("collector"))
    refused(asked, 422, "/answers/colour")
    assert listed(node) == []
    where = f"{CASES}/{report(node)['id']}/actions"
    for name, value in ACTIONS:
        body = {"action": "file", "version": 1} | {name: value}
        refused(node.client.post(where, json=body, headers=node.as_("shift_supervisor")), 422, f"/{name}")
    late = {"action": "file", "version": 10**30}
    refused(node.client.post(where, json=late, headers=node.as_("shift_supervisor")), 422, "/version")
    headers = node.as_("collector")
    for content in (b"", b"{", b"[]", b"5", b"\xff", b"[" * 100_000):
        for kind in ("application/json", "text/plain"):
            wrong = "/body" if kind == "application/json" and content not in (b"", b"[]", b"5") else "/"
            refused(node.client.post(CASES, content=content, headers=headers | {"content-type": kind}), 422, wrong)
    assert [r["version"] for r in listed(node)] == [1]


def test_a_question_that_cannot_be(node: Served) -> None:
    wrong = [
        "stat=closed", "state=opne", "state=", "category=e0101", "category=%00", "category=", "limit=0", "limit=1001",
        "limit=ten", "limit=", "bbox=", "bbox=1,2,3", "bbox=9,9,1,1", "cursor=%00", "cursor=x", "cursor=", "format=xml",
        "Area=65", "sort=id",
        "changed_since=yesterday", "changed_since=", "reported_from=0001-01-01T00:00:00%2B23:59", "reported_to=2026-03-01",
    ]  # fmt: skip
    for query in wrong:
        refused(ask(node, query), 422, f"/{query.partition('=')[0]}")
    for case in ("%00", "x" * 41, "a%20b", "%E6%A1%88"):
        refused(node.client.get(f"{CASES}/{case}", headers=node.as_("auditor")), 422, "/case_id")


def test_pages_and_filters(node: Served) -> None:
    fill(node, 24)
    rows = listed(node, limit=1000)
    paged: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 7}
    while True:
        answer = ask(node, query)
        paged += answer.json()["items"]
        query["cursor"] = answer.json()["next"]
        assert answer.headers.get("x-next-cursor") == query["cursor"]
        if query["cursor"] is None:
            break
    assert paged == rows and len({r["id"] for r in rows}) == 24
    street = rows[0]["division"][:9]
    assert listed(node, state="filed") == [r for r in rows if r["state"] == "filed"] != []
    assert listed(node, category="E0102") == [r for r in rows if r["category"] == "E0102"] != rows
    assert listed(node, area=street) == [r for r in rows if r["division"].startswith(street)] != []
    assert listed(node, area=LEAF) == listed(node, area="650100") == rows and listed(node, area="650103") == []
    box = [r for r in rows if r["lon"] <= 87.6 and r["lat"] <= 43.745]
    assert listed(node, bbox="87.59,43.73,87.60,43.745") == box != []
    since = rows[5]["changed_at"]
    assert listed(node, changed_since=since) == [r for r in rows if r["changed_at"] >= since] != rows
    geo = ask(node, {"format": "geojson", "limit": 5})
    assert geo.headers["content-type"] == "application/geo+json"
    assert [f["id"] for f in geo.json()["features"]] == [r["id"] for r in rows[:5]] and geo.json()["next"]
    table = ask(node, {"format": "csv"})
    assert [r["number"] for r in csv.DictReader(io.StringIO(table.text))] == [r["number"] for r in rows]


def test_what_has_not_changed_is_not_sent_again_and_what_is_sent_is_packed(node: Served) -> None:
    fill(node, 12)
    packed = {"accept-encoding": "gzip"}
    first, plain = ask(node, **packed), ask(node, **{"accept-encoding": "identity"})
    with node.client.stream("GET", CASES, headers=node.as_("auditor") | packed) as raw:
        assert raw.headers["content-encoding"] == "gzip"
        assert gzip.decompress(b"".join(raw.iter_raw())) == first.content == plain.content
    assert "content-encoding" not in plain.headers and plain.headers["etag"] == first.headers["etag"]
    known = {"if-none-match": first.headers["etag"]}
    again = ask(node, **known)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    refused(node.client.get(CASES, headers=known), 401)
    report(node)
    assert ask(node, **known).status_code == 200


def test_what_is_not_there_is_a_problem_too(node: Served) -> None:
    refused(node.client.get(f"{API}/nothing"), 404)
    refused(node.client.delete(CASES), 405)
    refused(node.client.get(EVENTS), 405)
    table = node.client.get(f"{API}/workflow").json()
    assert {(s["source"], s["action"]) for s in table} >= {("reported", "file"), ("handled", "close")}
