"""Every refusal of the workflow over real HTTP: state, role, version, guard and need; each says why and leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from httpx import Response
from sqlalchemy import Engine

from services.case import domain
from shared.auth import ROLES
from tests.case.stories import LAMPS, ROADS, Town, served_town, trace
from tests.served import refused

STAFF = sorted(ROLES - {"integrator"})
SOURCES = {"filed": "returned", "closed": "closed late"}
"""Where a state can be reached in several ways: the one in which most is possible."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    yield from served_town(request, tmp_path_factory)


def engine(place: Town) -> Engine:
    return place.served.runtime.engine


@pytest.mark.parametrize("state", domain.STATES)
def test_who_may_not_and_what_cannot_be(place: Town, state: domain.State) -> None:
    """In each state every action that it has by every role that lacks it, and every action that it lacks by everybody."""
    case = place.reach(SOURCES.get(state, state))
    other = place.report()
    before = trace(engine(place))
    version = place.row(case)["version"]
    listed = {s.action: s.roles for s in domain.steps(state)}
    for action in domain.ACTIONS:
        if action not in listed:
            answer = refused(place.do(case, action, *STAFF, version=version, into=other), 409, "/action")
            assert answer["state"] == state and answer["allowed"] == [s.action for s in domain.steps(state)]
            assert f"a case that is {state} cannot {action}" in answer["detail"]
            continue
        for role in sorted(ROLES - listed[action]):
            answer = refused(place.do(case, action, role, version=version, into=other), 403)
            assert all(name in answer["detail"] for name in listed[action]), answer
    assert trace(engine(place)) == before


NEEDS = [(s.source, s.action, need) for s in domain.WORKFLOW for need in s.needs if s.roles - domain.PERSONS - {"integrator"}]


@pytest.mark.parametrize("source", sorted({source for source, _, _ in NEEDS}))
def test_what_must_be_said(place: Town, source: str) -> None:
    case = place.reach(SOURCES.get(source, source))
    if "reply_supervision" in {action for s, action, _ in NEEDS if s == source}:
        place.done(case, "supervise", "leader", reply_by="2026-12-31T12:00:00+08:00")
    before = trace(engine(place))
    for state, action, need in NEEDS:
        if state == source:
            (step,) = (s for s in domain.steps(source) if s.action == action)  # type: ignore[arg-type]
            role = min(step.roles - domain.PERSONS - {"integrator"})
            wanted = need.replace("_", " ")
            for empty in (None, *([""] if need == "opinion" else [[]] if need == "parts" else [])):
                answer = refused(place.do(case, action, role, **({"into": case} | {need: empty})), 422, f"/{need}")
                assert answer["detail"] == f"to {action} needs a {wanted}"
    assert trace(engine(place)) == before


def guarded(answer: Response, status: int, words: str, field: str | None = None) -> None:
    found = refused(answer, status, field)
    assert words in found["detail"], found


def test_a_stale_version_says_what_changed(place: Town) -> None:
    case = place.reach("handling")
    before = trace(engine(place))
    answer = refused(place.do(case, "finish", "handler", version=2), 409, "/version")
    assert answer["version"] == 5 and answer["state"] == "handling"
    assert [(c["version"], c["action"], c["source"], c["target"], c["roles"]) for c in answer["changed"]] == [
        (3, "file", "accepted", "filed", "shift_supervisor"), (4, "dispatch", "filed", "dispatched", "dispatcher"),
        (5, "assign", "dispatched", "handling", "department"),
    ]  # fmt: skip
    assert all("actor" not in change for change in answer["changed"]), "what was done, not by whom"
    assert refused(place.do(case, "finish", "handler", version=6), 409, "/version")["changed"] == []
    assert trace(engine(place)) == before


def test_some_channels_are_verified_first(place: Town) -> None:
    place.set("09-30 17:00")
    case = place.report("acceptor", channel="hotline")
    for action, role in (("accept", "acceptor"), ("file", "shift_supervisor")):
        guarded(place.do(case, action, role), 409, "a report by hotline is verified on the spot first", "/action")
        assert place.get(case, role)["barred"][action] == "a report by hotline is verified on the spot first"
    for result, possible in (("not_exist", False), ("unable", True), ("exist", True)):
        place.done(case, "ask_verification", "acceptor")
        place.done(case, "verify", "collector", result=result)
        assert ("accept" in place.get(case, "acceptor")["allowed"]) is possible
    place.done(case, "ask_verification", "acceptor")
    place.done(case, "recall", "acceptor")
    guarded(place.do(case, "accept", "acceptor"), 409, "verified on the spot first")
    seen = place.reach("verifying")
    place.done(seen, "verify", "collector", result="not_exist")
    guarded(place.do(seen, "file", "shift_supervisor"), 409, "the collector found no problem there")
    place.done(seen, "refuse", "acceptor", reason="not_found")


def test_a_department_acts_for_its_own_cases_only(place: Town) -> None:
    case = place.reach("filed")
    place.done(case, "dispatch", "dispatcher", helpers=[ROADS])
    before = trace(engine(place))
    for of in (ROADS, "parks"):
        for action in ("assign", "ask_return", "ask_postponement", "ask_suspension", "handle"):
            guarded(place.do(case, action, "department", of=of), 403, "this case lies with another department")
        assert place.get(case, "department", of=of)["allowed"] == []
    assert trace(engine(place)) == before
    place.done(case, "assign", "department", of=LAMPS, handler="li")
    for name, of in (("li", "parks"), ("wang", LAMPS), ("wang", ROADS)):
        words = "another department" if of == "parks" else "assigned to somebody else"
        guarded(place.do(case, "finish", "handler", name=name, of=of), 403, words)
    place.done(case, "finish", "handler", name="li", of=ROADS)
    guarded(place.do(case, "handle", "department", of=ROADS), 403, "another department")
    place.done(case, "handle", "department", of=LAMPS)


def test_an_assignment_is_taken_back_before_a_case_is_given_back(place: Town) -> None:
    case = place.reach("handling")
    assert "unassign" in refused(place.do(case, "ask_return", "department"), 409, "/action")["allowed"]
    place.done(case, "unassign", "department")
    place.done(case, "ask_return", "department")


def test_who_gave_a_case_back_gets_it_again_only_with_a_reason(place: Town) -> None:
    case = place.reach("returned")
    before = trace(engine(place))
    answer = refused(place.do(case, "dispatch", "dispatcher", opinion=None), 409, "/department")
    assert answer["returned_by"] == [LAMPS] and "gave this case back" in answer["detail"]
    for forward in ("handle", "ask_check", "close", "finish"):
        refused(place.do(case, forward, "dispatcher", "acceptor", "shift_supervisor", "department"), 409, "/action")
    assert trace(engine(place)) == before
    place.done(case, "dispatch", "dispatcher", opinion=None, department=ROADS)


def test_a_failed_check_goes_to_the_same_department_or_says_why_not(place: Town) -> None:
    case = place.reach("failed")
    guarded(place.do(case, "dispatch", "dispatcher", department=ROADS, opinion=None), 409, f"goes back to {LAMPS}", "/department")
    place.done(case, "dispatch", "dispatcher", opinion=None)


def test_more_time_at_most_twice_and_not_when_late(place: Town) -> None:
    case = place.reach("postpone_review")
    place.done(case, "deny", "dispatcher")
    for n, by in enumerate(("handler", "department")):
        # Refused ones do not count, neither by the department nor by the dispatcher.
        place.done(case, "ask_postponement", by)
        place.done(case, "deny", "department")
        place.done(case, "ask_postponement", by)
        refused(place.do(case, "grant", "dispatcher"), 409, "/action")
        place.done(case, "endorse", "department")
        assert place.done(case, "grant", "dispatcher")["postponements"] == n + 1
    words = "more time was granted 2 times, which is as often as it may be"
    guarded(place.do(case, "ask_postponement", "handler"), 409, words, "/action")
    assert place.get(case, "handler", name="wang")["barred"]["ask_postponement"] == words
    late = place.reach("handling")
    place.set("10-09 17:21")
    guarded(place.do(late, "ask_postponement", "handler"), 409, "the handling is overdue", "/action")
    place.set("10-09 17:20")
    place.done(late, "ask_postponement", "handler")


def test_a_suspension_ends_within_a_year_happens_once_and_lets_nobody_work(place: Town) -> None:
    case = place.reach("handling")
    for until in ("2026-09-30T17:30:00+08:00", "2026-09-01T00:00:00+08:00", "2027-09-30T17:31:00+08:00"):
        guarded(place.do(case, "ask_suspension", "handler", until=until), 422, "ends within 365 days", "/until")
    place.done(case, "ask_suspension", "handler", until="2026-10-08T09:00:00+08:00")
    place.set("10-08 09:00")
    guarded(place.do(case, "grant", "dispatcher"), 409, "has passed", "/action")
    place.done(case, "deny", "dispatcher")
    place.done(case, "ask_suspension", "handler")
    place.done(case, "grant", "dispatcher")
    assert place.get(case, "department", "handler")["allowed"] == []
    for work in ("assign", "finish", "handle", "ask_postponement", "ask_return", "ask_suspension"):
        refused(place.do(case, work, "department"), 409, "/action")
    place.done(case, "resume", "dispatcher")
    guarded(place.do(case, "ask_suspension", "department"), 409, "suspended 1 times", "/action")


def test_nobody_checks_what_he_had_a_hand_in(place: Town) -> None:
    def barred(case: str) -> None:
        for name in ("wang", "the department"):
            for action in ("pass_check", "fail_check"):
                guarded(place.do(case, action, "checker", name=name), 403, "who had a hand in the work cannot check it")
            assert "pass_check" in place.get(case, "checker", name=name)["barred"]

    case = place.reach("checking")
    barred(case)
    place.done(case, "recall", "checker")
    place.done(case, "rework", "dispatcher")
    place.done(case, "handle", "department", name="another clerk")
    place.done(case, "ask_check", "acceptor")
    barred(case)
    place.done(case, "fail_check", "checker")
    place.done(case, "dispatch", "dispatcher", department=ROADS)
    place.done(case, "handle", "department", name="the roads", of=ROADS)
    place.done(case, "ask_check", "acceptor")
    barred(case)
    guarded(place.do(case, "pass_check", "checker", name="the roads"), 403, "a hand in the work")
    place.done(case, "pass_check", "checker")
    place.done(case, "close", "shift_supervisor")


def test_a_photo_where_the_policy_wants_one_and_desks_that_are_one(place: Town) -> None:
    """The policy is one for the node: it is put back as it was."""
    case = place.reach("checked")
    refused(place.do(case, "close", "acceptor"), 403)
    change(place, {"after_photo": True, "merged_roles": {"acceptor": ["shift_supervisor", "dispatcher"]}})
    try:
        assert "close" in place.get(case, "acceptor")["allowed"]
        place.done(case, "close", "acceptor")
        assert place.timeline(case)[-1]["roles"] == "shift_supervisor", "the role by which it was done"
        late = place.reach("handling")
        guarded(place.do(late, "finish", "handler"), 409, "a photo of the place after the work", "/photos")
        refused(place.do(late, "finish", "acceptor"), 403)
        for wrong in ({"department": ["checker"]}, {"acceptor": ["administrator"]}):
            refused(put(place, {"merged_roles": wrong}), 422, "/policy/merged_roles")
        appealed = place.reach("filed")
        place.done(appealed, "force_close", "administrator")
    finally:
        change(place, {})
    refused(place.do(place.reach("checked"), "close", "acceptor"), 403)


def put(place: Town, policy: dict[str, Any]) -> Response:
    client = place.served.client
    edition = client.get("/api/case/v1/policy").json()["edition"]
    body = {"edition": edition, "policy": policy}
    return client.put("/api/case/v1/policy", json=body, headers=place.as_("administrator"))


def change(place: Town, policy: dict[str, Any]) -> None:
    answer = put(place, policy)
    assert answer.status_code == 200, answer.text


def test_an_appeal_is_heard_once_by_two_and_only_if_late(place: Town) -> None:
    guarded(place.do(place.reach("closed"), "appeal", "department"), 409, "only a case that was handled late", "/action")
    case = place.reach("closed late")
    guarded(place.do(case, "appeal", "department", of=ROADS), 403, "another department")
    place.done(case, "appeal", "department", of=LAMPS)
    place.done(case, "endorse", "dispatcher", name="chen")
    for action in ("grant", "deny"):
        guarded(place.do(case, action, "acceptor", name="chen"), 403, "by somebody else than the first")
    found = place.done(case, "grant", "acceptor")
    assert (found["state"], found["on_time"], found["appealed"]) == ("closed", False, "granted"), "late it stays"
    guarded(place.do(case, "appeal", "department"), 409, "an appeal is heard once", "/action")
    denied = place.reach("appealed")
    place.done(denied, "deny", "dispatcher")
    guarded(place.do(denied, "appeal", "department"), 409, "an appeal is heard once", "/action")


def test_a_supervision_is_answered_once_and_by_a_later_moment(place: Town) -> None:
    case = place.reach("handling")
    guarded(place.do(case, "reply_supervision", "department"), 409, "no supervision of this case waits", "/action")
    guarded(place.do(case, "supervise", "leader", reply_by="2026-09-30T17:30:00+08:00"), 422, "a later moment", "/reply_by")
    place.done(case, "supervise", "leader")
    guarded(place.do(case, "reply_supervision", "department", of=ROADS), 403, "another department")
    assert place.done(case, "reply_supervision", "department", of=LAMPS)["reply_by"] is None
    guarded(place.do(case, "reply_supervision", "department"), 409, "no supervision of this case waits", "/action")
    assert [(f["fact"], f["answered"]) for f in place.facts(case) if f["fact"] == "supervised"] == [
        ("supervised", False), ("supervised", True),
    ]  # fmt: skip
    place.done(case, "supervise", "leader")
    assert place.done(case, "force_close", "administrator")["reply_by"] is None, "nobody can answer any more"
