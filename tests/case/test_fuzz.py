"""Every documented operation with made-up parameters and bodies, as everybody: an answer that is documented, and never a 500."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import Engine, func, select

from deploy.routers import openapi
from services.case.tables import cases
from shared.auth import ROLES
from shared.log import entries
from tests import served
from tests.served import LEAF, PLATFORM, Served, refused

ROUNDS = 60
ENDLESS = "/api/evaluation/v1/live"
OPERATIONS = [(p, m) for p, methods in openapi()["paths"].items() for m in methods if p != ENDLESS]
TEXTS = (
    "", " ", "0", "-1", "1e9", "9" * 400, "E0101", "e0101", "closed", "650102", "650102990001", "origin,category", "area,day",
    "day", "2026-03-01", "2026-02-30", "2026-03-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    "87.5,43.7,87.7,43.9", "nan,nan,nan,nan", "\0", "a\0b", "\x7f", "案件", "\U0001f6a8", "é" * 300, "' OR 1=1 --", "%00", "%",
    "../../etc/passwd", "json", "geojson", "csv", "null", "true", "[]", "{}", "MjAyNi0wMy0wMVQwMDowMDowMC4wMDAwMDBaIGMx", "a b",
    "file", "<script>", "${x}", "\r\nx: y",
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (0, 1, -1, 2**31, 2**63, -(2**63), 10**30, 0.5, 1e308, 87.62, 43.72, True, False)
KINDS = (
    "application/json", "application/json", "application/cloudevents+json", "application/cloudevents-batch+json",
    "application/x-ndjson", "text/plain",
)  # fmt: skip
RIGHT: dict[str, Any] = {"category": "E0101", "lon": 87.62, "lat": 43.72, "action": "file", "version": 1, "event": {}}


def value(dice: random.Random, depth: int = 3) -> Any:
    """Any JSON value."""
    kind = dice.randrange(7 if depth else 4)
    if kind < 4:
        return (dice.choice(TEXTS), dice.choice(NUMBERS), None, dice.choice(TEXTS))[kind]
    inner = [value(dice, depth - 1) for _ in range(dice.randrange(4))]
    return inner if kind < 5 else dict(zip((dice.choice(TEXTS) for _ in inner), inner, strict=True))


def event(dice: random.Random) -> Any:
    """Half a pushed event, half nonsense."""
    steps = ("reported", "filed", "dispatched", "handled", "closed", "imagined")
    made = {"specversion": "1.0", "id": f"e{dice.randrange(40)}", "source": PLATFORM, "subject": f"s{dice.randrange(8)}"}
    made |= {"type": f"cn.sanji.platform.case.{dice.choice(steps)}.v1", "time": "2026-03-01T00:00:00Z"}
    made["data"] = {k: RIGHT[k] for k in ("category", "lon", "lat")} if dice.random() < 0.6 else value(dice)
    if dice.random() < 0.5:
        made[dice.choice([*made, dice.choice(TEXTS)])] = value(dice)
    return made if dice.random() < 0.9 else value(dice)


def body(dice: random.Random, properties: dict[str, Any]) -> bytes:
    """Bytes for a body: an object with the documented properties, events, any JSON, or no JSON at all."""
    match dice.randrange(6):
        case 0:
            return dice.choice([b"", b"{", b"\xff", b"[" * 3000, b'{"x": NaN}', b'"\\ud800"', b"null", b"0"])
        case 1:
            return json.dumps(value(dice)).encode()
        case 2 | 3 if not properties:
            return json.dumps([event(dice) for _ in range(dice.randrange(5))]).encode()
    wrong = dice.choice([*properties, None, None])
    made = {k: value(dice) if k == wrong else RIGHT[k] for k in properties if k in RIGHT or k == wrong}
    return json.dumps(made | ({dice.choice(TEXTS): 1} if dice.random() < 0.2 else {})).encode()


class Fuzz:
    """Asks one node made-up questions as everybody in turn."""

    def __init__(self, node: Served) -> None:
        self.node, self.document = node, openapi()
        self.callers = [{}, {"Authorization": "Bearer sanji.x.y"}, *(node.as_(r) for r in sorted(ROLES))]
        self.callers += [{"Authorization": f"Bearer {node.api_key(r)}"} for r in ("integrator", "administrator")]

    def ask(self, path: str, method: str, dice: random.Random) -> httpx.Response:
        operation, where, query = self.document["paths"][path][method], path, {}
        for parameter in operation.get("parameters", []):
            text = dice.choice(TEXTS)
            if parameter["in"] == "path":
                where = where.replace(f"{{{parameter['name']}}}", quote(text or "-", safe=""))
            elif dice.random() < 0.3:
                query[parameter["name"]] = text
        if dice.random() < 0.1:
            query[dice.choice(TEXTS)] = "1"
        allowed = [self.node.as_(role) for one in operation.get("security", []) for role in one["bearer"]]
        headers, content = dict(dice.choice(dice.choice([self.callers, allowed or self.callers]))), b""
        if method == "post":
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            name = schema.get("$ref", "").rpartition("/")[2]
            content = body(dice, self.document["components"]["schemas"].get(name, {}).get("properties", {}))
            headers["content-type"] = dice.choice(KINDS)
        return self.node.client.request(method, where, params=query, headers=headers, content=content)

    def judge(self, path: str, method: str, answer: httpx.Response) -> None:
        asked = answer.request
        what = f"{method} {asked.url} {asked.content[:300]!r}: {answer.status_code} {answer.text[:200]}"
        documented = self.document["paths"][path][method]["responses"]
        # A made-up part of a path may lead to no route at all.
        assert str(answer.status_code) in {*documented, "404", "405"} and answer.status_code < 500, what
        if answer.status_code >= 400:
            problem = refused(answer, answer.status_code)
            assert answer.status_code != 422 or problem.get("field"), what


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, engine, LEAF) as found:
        yield found


def test_made_up_questions_get_documented_answers(node: Served) -> None:
    fuzz, statuses = Fuzz(node), set[int]()
    for path, method in OPERATIONS:
        dice = random.Random(f"{method} {path}")
        for _ in range(ROUNDS):
            answer = fuzz.ask(path, method, dice)
            fuzz.judge(path, method, answer)
            statuses.add(answer.status_code)
    assert {200, 201, 401, 403, 404, 422} <= statuses, "all kinds of answers were met"
    assert node.client.get("/readyz").json()["troubles"] == {}
    with node.runtime.engine.begin() as c:
        steps = c.execute(select(func.sum(cases.c.version))).scalar_one()
        facts = c.execute(select(func.count()).select_from(entries)).scalar_one()
    assert steps == facts > 5, "a fact for every step, and no more"
