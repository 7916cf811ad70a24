"""People who act at the same moment, over real HTTP on both databases: one success, one clear refusal, and no update is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from httpx import Client, Response

from services.case import domain
from tests.case.stories import CASES, LAMPS, PLACE, ROADS, SAID, Town, served_town
from tests.served import refused

THREADS, EACH = 16, 12


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    yield from served_town(request, tmp_path_factory)


def together(place: Town, case: str, version: int, *acts: tuple[str, str, dict[str, Any]]) -> list[Response]:
    """Each (action, role, what is said) by somebody of his own, all at one moment."""
    gate, url = Barrier(len(acts)), str(place.served.client.base_url)
    headers = [place.as_(role, name=f"{role} {n}") for n, (_, role, _) in enumerate(acts)]

    def one(n: int) -> Response:
        action, _, said = acts[n]
        body = {"action": action, "version": version, "opinion": "because"} | SAID.get(action, {}) | said
        with Client(base_url=url, timeout=30) as client:
            gate.wait()
            return client.post(f"{CASES}/{case}/actions", json=body, headers=headers[n])

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(one, range(len(acts))))


PAIRS = [
    ("filed", ("dispatch", "dispatcher", {"department": LAMPS}), ("dispatch", "dispatcher", {"department": ROADS})),
    ("filed", ("dispatch", "dispatcher", {}), ("send_back", "dispatcher", {})),
    ("done", ("reject", "department", {}), ("handle", "department", {})),
    ("postpone_review", ("grant", "dispatcher", {}), ("deny", "dispatcher", {})),
    ("checked", ("close", "shift_supervisor", {}), ("send_back", "shift_supervisor", {})),
    ("closed late", ("appeal", "department", {}), ("appeal", "department", {})),
]


@pytest.mark.parametrize(("state", "first", "second"), PAIRS, ids=lambda v: str(v[0]) if isinstance(v, tuple) else v)
def test_two_at_once(place: Town, state: str, first: Any, second: Any) -> None:
    case, acts = place.reach(state), (first, second)
    before = place.row(case)
    answers = together(place, case, before["version"], *acts)
    won, lost = sorted(answers, key=lambda answer: answer.status_code)
    assert won.status_code == 200, won.text
    conflict = refused(lost, 409, "/version")
    after, steps = place.row(case), place.timeline(case)
    assert after["version"] == before["version"] + 1 == won.json()["version"] == conflict["version"]
    done = acts[answers.index(won)][0]
    assert [(c["action"], c["source"], c["target"]) for c in conflict["changed"]] == [(done, before["state"], after["state"])]
    assert steps[-1]["action"] == done and conflict["state"] == after["state"]


def test_sixteen_act_at_random_and_no_update_is_lost(place: Town) -> None:
    place.set("09-30 17:00")
    cases = [place.report() for _ in range(3)] + [place.reach("dispatched"), place.reach("handled")]
    begun = {case: place.row(case)["version"] for case in cases}
    roles = sorted({r for s in domain.WORKFLOW for r in s.roles} - domain.PERSONS - {"integrator"})
    headers = {role: place.as_(role) for role in roles}
    url = str(place.served.client.base_url)

    def work(seed: int) -> list[tuple[str, int, int]]:
        dice, seen = random.Random(seed), []
        with Client(base_url=url, timeout=60) as client:
            for _ in range(EACH):
                case, role = dice.choice(cases), dice.choice(roles)
                now = client.get(f"{CASES}/{case}", headers=headers[role]).json()
                action = dice.choice([*now["allowed"], *now["allowed"], dice.choice(domain.ACTIONS)])
                body = {"action": action, "version": now["version"], "opinion": "because", "into": dice.choice(cases)}
                answer = client.post(f"{CASES}/{case}/actions", json=body | SAID.get(action, {}), headers=headers[role])
                seen.append((case, answer.status_code, answer.json().get("version", 0)))
        return seen

    with ThreadPoolExecutor(THREADS) as pool:
        seen = [one for found in pool.map(work, range(THREADS)) for one in found]
    statuses = {status for _, status, _ in seen}
    assert statuses <= {200, 403, 404, 409, 422} and 200 in statuses, statuses
    for case in cases:
        row, steps = place.row(case), place.timeline(case)
        won = sorted(version for of, status, version in seen if of == case and status == 200)
        assert won == list(range(begun[case] + 1, row["version"] + 1)), "each success is one version, and no two the same"
        assert [s["version"] for s in steps] == list(range(2, row["version"] + 1))
        assert all(a["target"] == b["source"] for a, b in zip(steps, steps[1:], strict=False))
    assert place.served.client.get("/readyz").json()["troubles"] == {}


def test_many_reports_at_once_have_numbers_of_their_own(place: Town) -> None:
    url, headers = str(place.served.client.base_url), place.as_("collector")

    def work(n: int) -> str:
        with Client(base_url=url, timeout=60) as client:
            return str(client.post(CASES, json=PLACE, headers=headers | {"Idempotency-Key": f"k{n // 2}"}).json()["number"])

    with ThreadPoolExecutor(THREADS) as pool:
        numbers = list(pool.map(work, range(2 * THREADS)))
    assert numbers[::2] == numbers[1::2] and len(set(numbers)) == THREADS, "the same key at the same moment is the same report"
