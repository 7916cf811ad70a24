"""Ratings once for each ending, rewards for the first valid report, a ledger that only grows, payment to whoever has the code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from services.case import rewards
from services.case.rewards import Reward
from shared.auth import Caller
from shared.errors import Conflict, NotFound
from tests import served
from tests.case.clerks import Office, short
from tests.served import LEAF, Served, refused

API = "/api/case/v1"
BOSS = Caller("the boss", frozenset({"administrator"}))
PLACE = {"category": "E0101", "lon": 87.62, "lat": 43.72}


@pytest.fixture
def office(engine: Engine) -> Office:
    found = Office(engine)
    with found.tx() as tx:
        rules = [
            Reward(id="lamps", categories=["P01"], points=7, daily_cap=7),
            Reward(id="any", areas=["99"], points=5, daily_cap=12),
        ]
        assert rewards.change(tx, found.around.rewards, rules, 0, BOSS) == 1
    return found


def purse(office: Office) -> str:
    with office.tx() as tx:
        return rewards.open_purse(tx, None)


def report(office: Office, code: str, **more: Any) -> str:
    case = office.report(channel="public", **more)
    with office.tx() as tx:
        rewards.contribute(tx, case, code, None)
    return case


def filed(office: Office, case: str) -> str:
    office.lead(case, "ask_verification", "verify", "file")
    return case


def holds(office: Office, code: str) -> int:
    with office.tx() as tx:
        return rewards.left(tx.connection, str(rewards.purse_of(tx.connection, code)["hash"]))


def test_the_first_valid_report_earns_and_no_other(office: Office) -> None:
    mine, yours = purse(office), purse(office)
    first, second = report(office, mine), report(office, yours)
    assert holds(office, mine) == 0, "nothing before it is filed"
    filed(office, second)
    assert holds(office, yours) == 0, "an earlier report of the same is still open"
    filed(office, first)
    assert holds(office, mine) == 5
    false = report(office, mine, lon=3.0, lat=3.0)
    office.lead(false, "ask_verification")
    office.do(false, "verify", result="not_exist")
    office.do(false, "refuse", reason="not_found")
    again = report(office, mine, lon=1.0, lat=1.0)
    office.do(again, "merge", into=first)
    assert holds(office, mine) == 5


def test_the_cap_of_a_day_is_the_rules_own(office: Office) -> None:
    code = purse(office)
    for n in range(4):
        filed(office, report(office, code, lon=1.0 + n, lat=4.0))
    assert holds(office, code) == 12
    filed(office, report(office, code, category="P0101", lon=9.0, lat=9.0))
    assert holds(office, code) == 19
    office.clock.pass_(24)
    filed(office, report(office, code, lon=9.0, lat=1.0))
    assert holds(office, code) == 24


def test_what_turns_out_void_is_taken_back_once(office: Office) -> None:
    code = purse(office)
    case = filed(office, report(office, code))
    office.lead(case, "ask_void", "deny", "ask_void", "grant")
    assert holds(office, code) == 0
    with office.engine.connect() as connection:
        rows = connection.execute(text("SELECT kind, points FROM case_points ORDER BY at, id")).all()
    assert [tuple(r) for r in rows] == [("earned", 5), ("taken_back", -5)]


def test_the_code_pays_and_nothing_else(office: Office) -> None:
    code = purse(office)
    filed(office, report(office, code))
    with office.tx() as tx:
        assert rewards.pay(tx, office.around, code.lower().replace("-", " "), 3, BOSS) == 2
    with office.tx() as tx, pytest.raises(Conflict):
        rewards.pay(tx, office.around, code, 3, BOSS)
    wrong = ("A" if code[0] != "A" else "B") + code[1:]
    with office.tx() as tx, pytest.raises(NotFound):
        rewards.pay(tx, office.around, wrong, 1, BOSS)
    assert holds(office, code) == 2


@pytest.mark.parametrize("statement", ["UPDATE case_points SET points = 1000", "DELETE FROM case_points"])
def test_the_ledger_only_grows(office: Office, statement: str) -> None:
    filed(office, report(office, purse(office)))
    with pytest.raises(DBAPIError), office.engine.begin() as connection:
        connection.execute(text(statement))


# Over HTTP --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, engine, LEAF) as found:
        yield found


def act(node: Served, case: str, *steps: tuple[str, str, dict[str, Any]]) -> None:
    for action, role, more in steps:
        version = node.client.get(f"{API}/cases/{case}", headers=node.as_("auditor")).json()["version"]
        headers = {"Authorization": f"Bearer {node.token(role, sub=f'the {role}')}"}
        body = {"action": action, "version": version} | more
        answer = node.client.post(f"{API}/cases/{case}/actions", json=body, headers=headers)
        assert answer.status_code == 200, answer.text


CLOSE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ask_verification", "acceptor", {}), ("verify", "collector", {"result": "exist"}),
    ("file", "shift_supervisor", {"condition": "1"}), ("dispatch", "dispatcher", {"department": "lamps"}),
    ("handle", "department", {}), ("ask_check", "acceptor", {}), ("pass_check", "checker", {}),
    ("close", "shift_supervisor", {"means": "service", "closing": "1"}),
)  # fmt: skip


def citizen(node: Served, **more: Any) -> tuple[str, dict[str, str]]:
    """(case id, the header of its code)."""
    answer = node.client.post(f"{API}/reports", json=PLACE | more)
    assert answer.status_code == 201, answer.text
    rows = node.client.get(f"{API}/cases", params={"limit": 1000}, headers=node.as_("auditor")).json()["items"]
    case = next(r["id"] for r in rows if r["number"] == answer.json()["number"])
    return case, {"X-Tracking-Code": answer.json()["tracking_code"]}


def rate(node: Served, code: dict[str, str], **body: Any) -> httpx.Response:
    return node.client.post(f"{API}/reports/mine/rating", json=body, headers=code)


def test_everybody_rates_an_ending_once(node: Served) -> None:
    case, code = citizen(node)
    refused(rate(node, code, score=3), 409, "/case")
    act(node, case, *CLOSE)
    refused(rate(node, code), 422, "/score")
    refused(rate(node, code, score=4), 422, "/score")
    refused(rate(node, code, score=3, reasons=["because"]), 422)
    assert rate(node, code, score=1, reasons=["not_solved"], text="still there").status_code == 201
    refused(rate(node, code, score=3), 409, "/case")
    assert node.client.post(f"{API}/reports/mine/reopening", json={"opinion": "still there"}, headers=code).status_code == 200
    act(node, case, *CLOSE[2:])
    assert rate(node, code, score=3).status_code == 201
    where = f"{API}/cases/{case}/ratings"
    visit = {"by": "visit", "score": None}
    assert node.client.post(where, json=visit, headers=node.as_("acceptor")).status_code == 201
    third = {"by": "third_party", "score": 2}
    assert node.client.post(where, json=third, headers=node.as_("evaluator")).status_code == 201
    refused(node.client.post(where, json=third, headers=node.as_("evaluator")), 409, "/case")
    refused(node.client.post(where, json=third, headers=node.as_("department")), 403)
    found = node.client.get(where, headers=node.as_("evaluator")).json()
    assert [(r["by"], r["score"]) for r in found] == [("reporter", 1), ("reporter", 3), ("visit", None), ("third_party", 2)]
    with node.runtime.engine.connect() as connection:
        assert short(connection, case).count("rated") == 3


def test_me_too_and_the_rating_of_the_case_it_went_into(node: Served) -> None:
    head, _ = citizen(node)
    near = node.client.get(f"{API}/duplicates", params=PLACE).json()
    assert [n["id"] for n in near] == [head] and "text" not in near[0]
    refused(node.client.post(f"{API}/reports", json=PLACE | {"joins": "nothing"}), 404, "/into")
    again, code = citizen(node, joins=head)
    followed = node.client.get(f"{API}/reports/mine", headers=code).json()
    assert followed["merged"] and followed["phase"]["code"] == "received"
    act(node, head, *CLOSE)
    assert rate(node, code, score=2).status_code == 201
    found = node.client.get(f"{API}/cases/{head}/duplicates", headers=node.as_("acceptor")).json()
    assert [r["id"] for r in found["behind"]] == [again] and found["near"] == []


def test_a_group_and_a_purse_over_http(node: Served) -> None:
    group = {"code": "lane-7", "kind": "merchants", "name_zh": "七号巷商户", "name_en": "Merchants of lane 7"}
    assert node.client.post(f"{API}/groups", json=group, headers=node.as_("administrator")).status_code == 201
    refused(node.client.post(f"{API}/groups", json=group, headers=node.as_("administrator")), 409, "/code")
    rules = {"edition": 0, "rules": [{"id": "all", "points": 5, "daily_cap": 5}]}
    changed = node.client.put(f"{API}/rewards", json=rules, headers=node.as_("administrator"))
    assert changed.json()["edition"] == 1, changed.text
    refused(node.client.put(f"{API}/rewards", json=rules, headers=node.as_("administrator")), 409, "/edition")
    refused(node.client.post(f"{API}/purses", json={"group": "nobody"}), 404, "/group")
    code = node.client.post(f"{API}/purses", json={"group": "lane-7"}).json()["purse_code"]
    refused(node.client.post(f"{API}/reports", json=PLACE | {"purse": "x"}), 404, "/purse")
    case, _ = citizen(node, purse=code)
    act(node, case, *CLOSE)
    mine = {"X-Purse-Code": code}
    assert node.client.get(f"{API}/purses/mine", headers=mine).json()["points"] == 5
    refused(node.client.get(f"{API}/purses/mine", headers={"X-Purse-Code": "1"}), 404, "/purse")
    paid = node.client.post(f"{API}/purses/payouts", json={"points": 5}, headers=mine | node.as_("acceptor"))
    assert paid.json() == {"points": 0}, paid.text
    refused(node.client.post(f"{API}/purses/payouts", json={"points": 1}, headers=mine | node.as_("acceptor")), 409, "/points")
    refused(node.client.post(f"{API}/purses/payouts", json={"points": 1}, headers=mine), 401)
    assert node.client.post(f"{API}/groups/lane-7/end", headers=node.as_("administrator")).status_code == 204
    refused(node.client.post(f"{API}/reports", json=PLACE | {"group": "lane-7"}), 404, "/group")
    with node.runtime.engine.connect() as connection:
        assert code not in str(connection.execute(text("SELECT * FROM case_purses")).all())
