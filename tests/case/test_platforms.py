"""The push interface as a county's platform meets it, over real HTTP on both databases; and what waits to be corrected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, insert

from services.case.tables import quarantine
from shared.auth import new_key
from tests import served
from tests.served import LEAF, PLATFORM, Served, refused

API = "/api/case/v1"
CASES, EVENTS, WAITING = f"{API}/cases", f"{API}/events", f"{API}/quarantine"
PLACE = {"category": "E0101", "lon": 87.62, "lat": 43.72}


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, engine, LEAF) as found:
        yield found


def event(id: str, step: str = "reported", **more: Any) -> dict[str, Any]:
    named = {"specversion": "1.0", "id": id, "source": PLATFORM, "type": f"cn.sanji.platform.case.{step}.v1", "subject": id}
    return named | {"time": "2026-03-01T08:00:00+08:00", "data": PLACE if step == "reported" else {}} | more


def sent(node: Served, content: bytes, headers: dict[str, str]) -> dict[str, Any]:
    answer = node.client.post(EVENTS, content=content, headers=node.as_platform() | headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def push(node: Served, *events: Any) -> dict[str, Any]:
    return sent(node, orjson.dumps(events), {"content-type": "application/cloudevents-batch+json"})


def states(node: Served) -> list[str]:
    answer = node.client.get(CASES, params={"limit": 1000}, headers=node.as_("auditor"))
    return sorted(row["state"] for row in answer.json()["items"])


def test_the_four_forms_say_the_same(node: Served) -> None:
    one, lines = event("a"), [event("c"), event("d")]
    structured = {"content-type": "application/cloudevents+json; charset=utf-8"}
    assert sent(node, orjson.dumps(one), structured)["accepted"] == 1
    batch = {"content-type": "Application/CloudEvents-Batch+JSON"}
    assert sent(node, orjson.dumps([one, event("b")]), batch)["duplicate"] == 1
    text = b"\n".join([orjson.dumps(lines[0]), b"", b"not JSON", orjson.dumps(lines[1]) + b"\r", b""])
    answer = sent(node, text, {"content-type": "application/x-ndjson"})
    assert [i["outcome"] for i in answer["items"]] == ["accepted", "refused", "accepted"], "a line costs only itself"

    def binary(event: dict[str, Any]) -> dict[str, str]:
        return {"content-type": "application/json"} | {f"ce-{n}": v for n, v in event.items() if n != "data"}

    answer = sent(node, orjson.dumps(PLACE), binary(event("%E6%A1%88 1", subject="e")))
    assert answer["items"][0] | {"case": None} == {"id": "案 1", "outcome": "accepted", "case": None}
    assert sent(node, b"", binary(event("f", "filed", subject="e")))["accepted"] == 1, "no body is no data"
    assert states(node) == ["filed", *["reported"] * 4]


def test_a_push_that_cannot_be_read(node: Served) -> None:
    one, batch = "application/cloudevents+json", "application/cloudevents-batch+json"
    bodies = [(one, b) for b in (b"", b"{", b"{}{}", b"\xff", b'{"id": NaN}')]
    bodies += [(batch, b) for b in (b"[", b"{}", b"[]", b"5", b"null", b"[" * 5000, b'["\xff"]', b'["\\ud800"]', b"[1e999]")]
    bodies += [(batch, b"[" + b"0," * 5000 + b"0]"), ("application/x-ndjson", b"\n \n"), ("application/x-ndjson", b"")]
    for kind, content in bodies:
        refused(node.client.post(EVENTS, content=content, headers=node.as_platform() | {"content-type": kind}), 422, "/body")
    kinds = ("application/json", "text/plain", "application/cloudevents", "application/cloudevents-batch", ";")
    for headers in ({}, *({"content-type": kind} for kind in kinds)):
        refused(node.client.post(EVENTS, content=b"{}", headers=node.as_platform() | headers), 422, "/content-type")
    assert states(node) == []


def test_a_large_push_with_every_kind_of_bad_item(node: Served) -> None:
    """More than share a turn of the writer; the bad ones wait in the quarantine, the good ones are there."""
    deep = b"[" * 500 + b"]" * 500
    bad = [b"5", b"null", b"[]", b"{}", b'{"id": ' + deep + b"}", orjson.dumps(event("d")).replace(b'"E0101"', deep)]
    bad += [orjson.dumps(e) for e in (event("long", data=PLACE | {"x" * 9000: 1}), event("odd", "imagined"))]
    good = [orjson.dumps(event(f"g{n}")) for n in range(230)]
    whole = b"[" + b",".join([*good[:99], *bad, *good[99:]]) + b"]"
    answer = sent(node, whole, {"content-type": "application/cloudevents-batch+json"})
    assert (answer["accepted"], answer["duplicate"], answer["refused"]) == (230, 0, len(bad))
    assert [i["outcome"] for i in answer["items"][99 : 99 + len(bad)]] == ["refused"] * len(bad)
    assert [i["id"] for i in answer["items"] if i["outcome"] == "accepted"] == [f"g{n}" for n in range(230)]
    assert states(node) == ["reported"] * 230
    again = sent(node, b"\n".join(good), {"content-type": "application/x-ndjson"})
    assert (again["accepted"], again["duplicate"]) == (0, 230)


def test_who_sees_what_waits_and_who_settles_it(node: Served) -> None:
    push(node, event("a", data=PLACE | {"lon": 0.0, "text": "Mr. Li called"}), "x")
    boss, mine = node.as_("administrator"), node.as_platform()
    other = {"Authorization": f"Bearer {new_key(node.runtime.engine, LEAF, 'integrator', 'urn:platform:water')}"}
    with_key = {"Authorization": f"Bearer {new_key(node.runtime.engine, LEAF, 'administrator', 'urn:desk')}"}
    assert [len(node.client.get(WAITING, headers=h).json()) for h in (boss, mine, other, with_key)] == [2, 2, 0, 2]
    refused(node.client.get(WAITING, headers=node.as_("integrator")), 403)
    item = next(i for i in node.client.get(WAITING, headers=mine).json() if i["event_id"] == "a")
    assert (item["field"], item["event"]["data"]["lon"]) == ("/data/lon", 0.0)
    replay = f"{WAITING}/{item['id']}/replay"
    refused(node.client.post(replay, json={}, headers=mine), 403)
    again = node.client.post(replay, json={}, headers=boss).json()
    assert (again["outcome"], again["field"]) == ("refused", "/data/lon")
    done = node.client.post(replay, json={"event": event("a2")}, headers=boss).json()
    assert done["outcome"] == "accepted" and len(node.client.get(WAITING, headers=boss).json()) == 1
    assert node.client.post(replay, json={"event": event("a2")}, headers=boss).json()["outcome"] == "duplicate"
    foreign = event("b", source="urn:platform:water")
    assert push(node, foreign)["items"][0]["field"] == "/source", "no key speaks for another platform"


def test_a_correction_that_is_none(node: Served) -> None:
    push(node, event("a", "filed"))
    headers = node.as_("administrator") | {"content-type": "application/json"}
    (item,) = node.client.get(WAITING, headers=headers).json()
    replay = f"{WAITING}/{item['id']}/replay"
    deep = b'{"x": ' + b"[" * 900 + b"]" * 900 + b"}"
    for event_ in (b'{"id": "\\ud800"}', b'{"x": 123456789012345678901234567890}', b"5", b"[]", b'"x"', deep):
        refused(node.client.post(replay, content=b'{"event": ' + event_ + b"}", headers=headers), 422, "/event")
    for content, wrong in ((b'{"evnt": {}}', "/evnt"), (b"[]", "/"), (b"5", "/"), (b"{", "/body"), (b"\xff", "/body")):
        refused(node.client.post(replay, content=content, headers=headers), 422, wrong)
    assert node.client.get(WAITING, headers=headers).json() == [item]
    refused(node.client.post(f"{WAITING}/nothing/replay", json={}, headers=headers), 404, "/item")
    refused(node.client.post(f"{WAITING}/%00/replay", json={}, headers=headers), 422, "/item")


def test_the_quarantine_is_listed_oldest_first_in_a_firm_order(node: Served) -> None:
    same = {"source": PLATFORM, "event": {}, "reason": "x", "received_at": "2026-03-01T00:00:00.000000Z"}
    ids = [f"q{n:02d}" for n in range(20)]
    with node.runtime.engine.begin() as c:
        c.execute(insert(quarantine), [same | {"id": i, "event_id": i} for i in reversed(ids)])
    for limit in (1, 7, 20):
        found = node.client.get(WAITING, params={"limit": limit}, headers=node.as_platform()).json()
        assert [i["id"] for i in found] == ids[:limit]
