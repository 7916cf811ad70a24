"""OpenAPI and AsyncAPI: the documents are valid, every reference resolves, and what they say is what the code does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from sqlalchemy import Engine

from contracts.base import REGISTRY
from contracts.case import CaseHandled
from deploy.asyncapi import example
from deploy.document import GENERATED
from deploy.openapi import describe
from deploy.render import render
from deploy.routers import ROUTERS, openapi
from deploy.topology import load
from shared import broker
from shared.auth import Guard, allow, public
from shared.bus import Bus
from shared.chain import EMPTY, Entry, Head, decode, encode, link
from shared.database import Tx
from shared.errors import Busy, Conflict, Forbidden, Invalid, NotFound, SanjiError, Unauthenticated
from shared.log import read_range, record, seal
from shared.loops import Loops
from shared.problems import install
from shared.replica import Apply, judge
from shared.settings import load as load_node
from tests.events import values

ROOT = Path(__file__).resolve().parents[2]
DEMO = load(ROOT / "deploy" / "topologies" / "demo.toml")
Document = dict[str, Any]


def stored(name: str) -> Document:
    found: Document = orjson.loads((GENERATED / name).read_bytes())
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def resolve(reference: str, document: Document) -> Any:
    """What `reference` points at, in `document` or in a file beside it. Raises KeyError or OSError."""
    name, _, pointer = reference.partition("#")
    found: Any = stored(name) if name else document
    for part in pointer.split("/")[1:]:
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


@pytest.mark.parametrize("name", ["asyncapi.json", *(f"openapi/{n}.json" for n in (*ROUTERS, "sanji"))])
def test_every_reference_resolves(name: str) -> None:
    document = stored(name)
    found = list(references(document))
    assert len(found) > 5
    for reference in found:
        resolve(reference, document)


# OpenAPI ---------------------------------------------------------------------------------------------------------------------


def operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


@pytest.mark.parametrize("name", [*ROUTERS, "sanji"])
def test_openapi_is_valid(name: str) -> None:
    document = stored(f"openapi/{name}.json")
    assert document["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_the_combined_document_holds_all_operations() -> None:
    whole = dict(operations(openapi()))
    parts = {name: set(dict(operations(stored(f"openapi/{name}.json")))) for name in ROUTERS}
    assert set(whole) == set.union(*parts.values())
    assert set.intersection(*parts.values()) == {"get /livez", "get /readyz", "get /metrics"}
    ids = [operation["operationId"] for operation in whole.values()]
    assert len(ids) == len(set(ids)) >= 15


def test_every_operation_says_who_may_call_and_which_problems_come_back() -> None:
    document = openapi()
    routes = [route for router in ROUTERS.values() for route in router.routes]
    for route in routes:
        guard = next(d.call for d in route.dependant.dependencies if isinstance(d.call, Guard))
        for method in route.methods:
            operation = document["paths"][route.path_format][method.lower()]
            roles = [scope for alternative in operation["security"] for scope in alternative["bearer"]]
            assert roles == sorted(guard.roles or ())
            assert {"401", "403"} <= set(operation["responses"]) if roles else "401" not in operation["responses"]
            assert {"404", "422", "429", "500", "503"} <= set(operation["responses"])
            assert ("409" in operation["responses"]) == (method != "GET")
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    content = (resolve(answer["$ref"], document) if "$ref" in answer else answer)["content"]
                    assert list(content) == ["application/problem+json"], f"{method} {route.path} {status}"


def test_a_route_without_a_guard_cannot_be_described() -> None:
    router = APIRouter()
    router.add_api_route("/open", lambda: None)
    with pytest.raises(ValueError, match="/open has 0 guards"):
        describe("x", [router])


def test_what_a_route_says_of_itself_is_kept() -> None:
    router = APIRouter()
    mine = {503: {"description": "as the route has it"}}
    router.add_api_route("/api/x", lambda: None, methods=["POST"], dependencies=[public("a test")], responses=mine)
    assert describe("x", [router])["paths"]["/api/x"]["post"]["responses"]["503"]["description"] == "as the route has it"


def test_problems_are_as_documented() -> None:
    """Each kind of error, answered over HTTP, fits the documented schema and is among the documented statuses."""
    raised: dict[str, Exception] = {
        "invalid": Invalid("no", field="/a"), "missing": NotFound("no"), "conflict": Conflict("no", allowed=["x"], version=2),
        "forbidden": Forbidden("no"), "unknown": Unauthenticated("no"), "busy": Busy("no"), "other": SanjiError("no"),
        "bug": RuntimeError("inside"),
    }  # fmt: skip

    def fail(kind: str, number: int) -> None:
        raise raised[kind]

    def router(guard: Any) -> APIRouter:
        found = APIRouter()
        found.add_api_route("/api/{kind}", fail, methods=["POST"], dependencies=[guard])
        return found

    async def ask(app: FastAPI) -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            return [await client.post(f"/api/{k}?number={n}") for k, n in (*((k, "1") for k in raised), ("busy", "x"))]

    app = FastAPI()
    install(app)
    app.include_router(router(public("so that every error gets through")))
    document = describe("x", [router(allow("auditor"))])
    check = Draft202012Validator({"$ref": "#/components/schemas/Problem", "components": document["components"]})
    answers = asyncio.run(ask(app))
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        assert str(answer.status_code) in document["paths"]["/api/{kind}"]["post"]["responses"]
        check.validate(answer.json())
    assert [a.status_code for a in answers] == [422, 404, 409, 403, 401, 503, 500, 500, 422]
    assert not check.is_valid({"title": "x", "status": 200})


# AsyncAPI --------------------------------------------------------------------------------------------------------------------


def payload(name: str) -> Draft202012Validator:
    """Of a message."""
    return Draft202012Validator(stored("asyncapi.json")["components"]["schemas"][name])


def test_asyncapi_has_what_the_specification_requires() -> None:
    document = stored("asyncapi.json")
    assert document["asyncapi"] == "3.0.0" and {"title", "version"} <= set(document["info"])
    for server in document["servers"].values():
        assert server["protocol"] == "nats" and set(re.findall(r"\{(\w+)\}", server["host"])) == set(server["variables"])
    for channel in document["channels"].values():
        assert set(re.findall(r"\{(\w+)\}", channel["address"] or "")) == set(channel.get("parameters", {}))
        assert channel["messages"]
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        for part in (operation, *([operation["reply"]] if "reply" in operation else [])):
            channel = part["channel"]["$ref"]
            assert all(m["$ref"].startswith(f"{channel}/messages/") for m in part["messages"])
    names = [name for part in document["components"].values() for name in part]
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)
    assert set(REGISTRY) <= set(document["components"]["messages"])


def test_the_example_batch_proves_itself_and_its_bodies_fit_their_schemas() -> None:
    log, entries, closing = decode(example().encode())
    assert log == "9901/case" and isinstance(judge(EMPTY, entries, closing), Apply)
    assert payload("batch").is_valid(example())
    for entry in entries:
        body = orjson.loads(entry.body)
        Draft202012Validator(stored(f"facts/{body['type']}.json")).validate(body)


own = CaseHandled.model_json_schema()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(values(own, own), min_size=1, max_size=4), st.integers(1, 2**31), st.integers(1, 2**60))
def test_every_batch_has_the_documented_form(bodies: list[dict[str, Any]], epoch: int, first: int) -> None:
    facts = [CaseHandled.model_validate(body) for body in bodies]
    entries = [Entry(epoch, first + n, n + 1, f.subject, f.body(f"f{n}", "9901")) for n, f in enumerate(facts)]
    chain = bytes(32)
    for entry in entries:
        chain = link(chain, entry)
    message = encode("9901/case", entries, chain)
    check = payload("batch")
    assert check.is_valid(message.decode())
    assert isinstance(judge(Head(epoch, first - 1, bytes(32)), entries, chain), Apply)
    # Two, because Python's `$`, unlike that of JSON Schema, lets one line feed pass at the end.
    for bad in (message[:-1], message + b"\n\n", message.replace(b" ", b"  ", 1), message.split(b"\n")[0], message.upper()):
        assert not check.is_valid(bad.decode())


def test_subjects_at_every_hop_are_as_documented() -> None:
    """What the sources make of an own subject, hop by hop, is the documented address with the reader's route put in."""
    document = stored("asyncapi.json")
    services = document["channels"]["own"]["parameters"]["service"]["enum"]
    hops = 0
    for service in services:
        for origin in DEMO.nodes:
            subject = document["channels"]["own"]["address"].format(node=origin.code, service=service)
            path = DEMO.path(origin.code)
            for child, node in zip(reversed(path), reversed(path[:-1]), strict=False):
                (transform,) = broker.source(child)["subject_transforms"]
                assert transform["src"] == ">"
                subject = transform["dest"].replace(">", subject)
                route = next(b.route for b in DEMO.subtree(node) if b.code == origin.code)
                below = document["channels"]["below"]["address"]
                assert subject == below.format(route=".".join(route), node=origin.code, service=service)
                hops += 1
    assert hops >= 8


def test_every_question_that_the_code_asks_or_answers_is_documented() -> None:
    asked = {m for p in (ROOT / "shared").glob("*.py") for m in re.findall(r'f"rpc\.\{[^"]+\}\.(\w+)"', p.read_text())}
    addresses = [c["address"] for c in stored("asyncapi.json")["channels"].values() if c["address"]]
    assert asked == {a.removeprefix("rpc.{node}.") for a in addresses if a.startswith("rpc.")} != set()


class Question:
    """A message as the broker's client hands it over, with the answers that it got."""

    def __init__(self, data: bytes) -> None:
        self.data, self.answers = data, list[bytes]()

    async def respond(self, answer: bytes) -> None:
        self.answers.append(answer)


@pytest.mark.parametrize("first", [1, 3, 4])
def test_answers_to_ranges_and_heads_are_as_documented(first: int, engine: Engine, tmp_path: Path) -> None:
    node = load_node(render(DEMO, DEMO.nodes[-1].code, tmp_path))
    log, facts = node.log("case"), [CaseHandled(time=datetime.now(UTC), day="2026-03-02", case=f"c{n}") for n in range(3)]
    with engine.begin() as connection:
        for fact in facts:
            record(Tx(connection, node.code), fact)
    assert seal(engine, log) == len(facts)
    bus = Bus(node, engine, Loops(), publishes=(), readers=())
    ask = {"log": log, "first": first}
    payload("rangeRequest").validate(ask)
    ranges, heads = Question(orjson.dumps(ask)), Question(b"")

    async def answer() -> None:
        await bus._answer_range(ranges)
        await bus._answer_heads(heads)

    asyncio.run(answer())
    (batch,) = ranges.answers
    assert payload("batch" if first <= len(facts) else "nothing").is_valid(batch.decode())
    if batch:
        assert decode(batch) == (log, *read_range(engine, log, first))
    known = orjson.loads(heads.answers[0])
    payload("heads").validate(known)
    assert known[log]["seq"] == len(facts)
