"""Bad input over real HTTP: each gets a problem document of its own that names the field, and nothing is half done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from httpx import Response

from shared.auth import new_key
from tests.case.stories import API, CASES, PLACE, Town, served_town, trace
from tests.served import PLATFORM, refused

EVENTS = f"{API}/events"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    yield from served_town(request, tmp_path_factory)


@pytest.fixture
def untouched(place: Town) -> Iterator[Town]:
    """The node, which must be as it was when the test ends."""
    place.set("09-30 17:00")
    before = trace(place.served.runtime.engine)
    yield place
    assert trace(place.served.runtime.engine) == before, "nothing is half done"


def by_staff(town: Town, said: dict[str, Any]) -> Response:
    return town.served.client.post(CASES, json=PLACE | said, headers=town.as_("collector"))


def by_citizen(town: Town, said: dict[str, Any]) -> Response:
    return town.served.client.post(f"{API}/reports", json=PLACE | said)


REPORTS: list[tuple[dict[str, Any], str, str]] = [
    ({"category": "E0199"}, "/category", "no category E0199"),
    ({"category": "nonsense"}, "/category", "match"),
    ({"lon": 121.47, "lat": 31.23}, "/lon", "outside the node"),
    ({"lon": 87.62, "lat": -43.72}, "/lon", "outside the node"),
    ({"lon": 181.0}, "/lon", "180"),
    ({"lat": None}, "/lat", "belong together"),
    ({"lon": None, "lat": None}, "/lon", "say where"),
    ({"lon": None, "lat": None, "cell": "999999999999999"}, "/cell", "no grid cell 999999999999999"),
    ({"lon": None, "lat": None, "part": "9999999999999999"}, "/part", "no part"),
    ({"cell": "650102990001002"}, "/cell", "the point lies in cell"),
    ({"text": f"look {SCRIPT}"}, "/text", "no HTML"),
    ({"text": "look <img src=x onerror=y>"}, "/text", "no HTML"),
    ({"place": "<!-- by the gate -->"}, "/place", "no HTML"),
    ({"text": "x" * 2001}, "/text", "2000"),
    ({"text": "a\0b"}, "/text", "U+0000"),
    ({"answers": {"colour": "red"}}, "/answers/colour", "does not ask that"),
    ({"reporter": "somebody"}, "/reporter", "permitted"),
]  # fmt: skip
"""What is wrong with a report, the field that it is told of, and words of the reason."""


@pytest.mark.parametrize(("wrong", "field", "words"), REPORTS, ids=lambda v: str(v)[:40])
@pytest.mark.parametrize("way", [by_staff, by_citizen])
def test_a_report_that_cannot_be(untouched: Town, way: Any, wrong: dict[str, Any], field: str, words: str) -> None:
    answer = refused(way(untouched, wrong), 422, field)
    assert words in answer["detail"] and answer["type"] == "urn:sanji:problem:invalid"


def test_the_channel_is_one_that_is_known(untouched: Town) -> None:
    assert refused(by_staff(untouched, {"channel": "pigeon"}), 422)["field"] == "/channel"
    assert refused(by_citizen(untouched, {"channel": "collector"}), 422)["field"] == "/channel", "a citizen is no collector"


HTML_IN: list[tuple[str, str, str, dict[str, Any]]] = [
    ("handling", "finish", "handler", {"opinion": SCRIPT}),
    ("accepted", "decline", "shift_supervisor", {"opinion": "<b>no</b>"}),
    ("filed", "split", "dispatcher", {"parts": [{"text": SCRIPT}]}),
    ("dispatched", "assign", "department", {"handler": SCRIPT}),
    ("filed", "dispatch", "dispatcher", {"department": SCRIPT}),
]  # fmt: skip


@pytest.mark.parametrize(("state", "action", "role", "said"), HTML_IN, ids=lambda v: str(v)[:30])
def test_html_in_a_step(place: Town, state: str, action: str, role: str, said: dict[str, Any]) -> None:
    case = place.reach(state)
    before = trace(place.served.runtime.engine)
    field = "/parts/0/text" if "parts" in said else f"/{next(iter(said))}"
    refused(place.do(case, action, role, **said), 422, field)
    assert trace(place.served.runtime.engine) == before


def test_text_that_only_looks_like_html_is_kept_as_it_is(place: Town) -> None:
    place.set("09-30 17:00")
    case = place.report(text="water < 5 cm, 3>2 & \"so\" — 路灯不亮")
    assert place.get(case)["text"] == "water < 5 cm, 3>2 & \"so\" — 路灯不亮"


def event(number: str, step: str, time: str, subject: str = "", **data: Any) -> dict[str, Any]:
    named = {"specversion": "1.0", "id": number, "source": PLATFORM, "type": f"cn.sanji.platform.case.{step}.v1"}
    return named | {"subject": subject or number, "time": time, "data": data}


def pushed(place: Town, key: str, *events: dict[str, Any]) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}", "content-type": "application/cloudevents-batch+json"}
    answer = place.served.client.post(EVENTS, json=list(events), headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_a_platform_tells_of_times_that_cannot_be(place: Town) -> None:
    place.set("09-30 17:00")
    key = place.served.api_key()
    (taken,) = pushed(place, key, event("t", "reported", "2026-09-30T16:00:00+08:00", **PLACE))
    case, later = taken["case"], "2026-09-30T16:10:00+08:00"
    assert pushed(place, key, event("t1", "filed", later, "t"), event("t2", "handled", later, "t"))[1]["outcome"] == "refused"
    before = trace(place.served.runtime.engine)
    wrong = [
        (event("t3", "closed", "2026-09-30T15:59:59+08:00", "t"), "/time", "before the step that came before it"),
        (event("t4", "closed", "2026-09-30T16:09:59+08:00", "t"), "/time", "before the step that came before it"),
        (event("t5", "dispatched", "2026-09-30T17:02:01+08:00", "t", department="lamps"), "/time", "in the future"),
        (event("t6", "reported", "2026-10-01T08:00:00+08:00", **PLACE), "/time", "in the future"),
        (event("t7", "dispatched", "1899-12-31T08:00:00+08:00", "t", department="lamps"), "/time", "before 1900"),
        (event("t8", "dispatched", "2026-02-30T08:00:00+08:00", "t", department="lamps"), "/time", "day"),
        (event("t9", "dispatched", "2026-09-30T16:20:00", "t", department="lamps"), "/time", "needs its offset"),
        (event("ta", "closed", later, "never"), "/subject", "never reported here"),
        (event("tb", "reported", later, **PLACE | {"lon": 121.47}), "/data/lon", "outside the node"),
        (event("tc", "reported", later, **PLACE | {"category": "E0199"}), "/data/category", "no category E0199"),
        (event("t", "reported", later, **PLACE), "/id", "other content"),
        (event("td", "reworked", later, "t"), "/type", "cannot rework"),
    ]  # fmt: skip
    for told, field, words in wrong:
        (item,) = pushed(place, key, told)
        assert (item["outcome"], item["field"]) == ("refused", field) and words in item["reason"], (told, item)
    assert trace(place.served.runtime.engine) == before and place.row(case)["state"] == "filed"


def test_keys_and_tokens_of_others(untouched: Town) -> None:
    """A foreign node's key is not known here, a token of another node gives no role here, and no key speaks for two platforms."""
    foreign = new_key(untouched.served.runtime.engine, "650103", "integrator", PLATFORM)
    client = untouched.served.client
    case = {"action": "file", "version": 1}
    for method, path, body in (("POST", CASES, PLACE), ("POST", f"{CASES}/x/actions", case), ("GET", CASES, None)):
        answer = client.request(method, path, json=body, headers={"Authorization": f"Bearer {foreign}"})
        assert "belongs to another node" in refused(answer, 401)["detail"]
        unknown = {"Authorization": f"Bearer {foreign[:-1]}_"}
        assert "not known here" in refused(client.request(method, path, json=body, headers=unknown), 401)["detail"]
        elsewhere = {"Authorization": f"Bearer {untouched.served.token('collector', 'administrator', node='650103')}"}
        refused(client.request(method, path, json=body, headers=elsewhere), 403)
        assert refused(client.request(method, path, json=body), 401)["type"] == "urn:sanji:problem:unauthenticated"
    told = event("f", "reported", "2026-09-30T16:00:00+08:00", **PLACE) | {"source": "urn:platform:water"}
    (item,) = pushed(untouched, untouched.served.api_key(), told)
    assert (item["outcome"], item["field"]) == ("refused", "/source")


def test_a_platform_closes_no_case_of_the_staff(place: Town) -> None:
    """A case is closed after a check by somebody who had no hand in the work; a platform's key is no way around it."""
    case = place.reach("handled")
    before = trace(place.served.runtime.engine)
    answer = refused(place.do(case, "close", "integrator"), 403)
    assert "this case is worked on here" in answer["detail"]
    assert "close" not in place.get(case, "integrator")["allowed"] and trace(place.served.runtime.engine) == before


def test_a_wrong_role_a_stale_version_and_what_is_no_step(place: Town) -> None:
    case = place.reach("filed")
    before = place.row(case), place.timeline(case)
    role = refused(place.do(case, "dispatch", "collector"), 403)
    assert role["type"] == "urn:sanji:problem:forbidden" and "dispatcher" in role["detail"]
    stale = refused(place.do(case, "dispatch", "dispatcher", version=1), 409, "/version")
    assert stale["type"] == "urn:sanji:problem:conflict" and [c["action"] for c in stale["changed"]] == ["accept", "file"]
    refused(place.do(case, "close", "shift_supervisor"), 409, "/action")
    refused(place.do("nobody", "dispatch", "dispatcher", version=1), 404, "/case")
    for name, value in (("action", "destroy"), ("version", 0), ("version", -1), ("version", "3"), ("state", "closed"),
                        ("until", "tomorrow"), ("until", "2026-10-20"), ("helpers", "roads"), ("helpers", ["r"] * 21),
                        ("means", "magic"), ("result", "maybe"), ("lon", 1e300), ("parts", [{}] * 10)):  # fmt: skip
        body = {"action": "dispatch", "version": 3, "department": "lamps"} | {name: value}
        answer = place.served.client.post(f"{CASES}/{case}/actions", json=body, headers=place.as_("dispatcher"))
        refused(answer, 422, f"/{name}")
    assert before == (place.row(case), place.timeline(case))
    for condition in ("9", "x y", ""):
        filing = place.reach("accepted")
        refused(place.do(filing, "file", "shift_supervisor", condition=condition), 422, "/condition")
    checked = place.reach("checked")
    closing = refused(place.do(checked, "close", "shift_supervisor", closing="9"), 422, "/closing")
    assert "no filing condition 9" in closing["detail"] and place.row(checked)["state"] == "checked"


def test_a_correction_that_cannot_be(place: Town) -> None:
    case = place.reach("accepted")
    before = trace(place.served.runtime.engine)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"category": None}, "/category"), ({"category": "E0199"}, "/category"), ({"category": None, "lon": 87.6}, "/lat"),
        ({"category": None, "lon": 121.47, "lat": 31.23}, "/lon"), ({"category": None, "cell": "1"}, "/cell"),
        ({"category": None, "part": "9999999999999999"}, "/part"),
    ]  # fmt: skip
    for said, field in wrong:
        refused(place.do(case, "amend", "acceptor", **said), 422, field)
    assert trace(place.served.runtime.engine) == before


def test_the_same_key_with_another_body(place: Town) -> None:
    place.set("09-30 17:00")
    client, headers = place.served.client, place.as_("collector") | {"Idempotency-Key": "first-lamp"}
    first = client.post(CASES, json=PLACE | {"text": "dark"}, headers=headers)
    before = trace(place.served.runtime.engine)
    again = client.post(CASES, json=PLACE | {"text": "dark"}, headers=headers)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"]), "a repeat is the same report"
    for other in (PLACE | {"text": "bright"}, PLACE, PLACE | {"text": "dark", "category": "E0106"}):
        answer = refused(client.post(CASES, json=other, headers=headers), 409, "/idempotency-key")
        assert "other content" in answer["detail"]
    assert refused(client.post(CASES, json=PLACE, headers=headers | {"Idempotency-Key": "x" * 81}), 422)["field"].lower() == (
        "/idempotency-key"
    )
    assert trace(place.served.runtime.engine) == before
    somebody = place.as_("collector", name="another") | {"Idempotency-Key": "first-lamp"}
    assert client.post(CASES, json=PLACE, headers=somebody).json()["id"] != first.json()["id"], "keys are each caller's own"
    citizen = {"Idempotency-Key": "0123456789012345678901"}
    assert client.post(f"{API}/reports", json=PLACE, headers=citizen).status_code == 201
    refused(client.post(f"{API}/reports", json=PLACE | {"text": "more"}, headers=citizen), 409, "/idempotency-key")
    refused(client.post(f"{API}/reports", json=PLACE, headers={"Idempotency-Key": "short"}), 422)
