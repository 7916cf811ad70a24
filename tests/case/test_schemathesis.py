"""Schemathesis asks the case service over HTTP what its document allows and forbids: each operation, then along its links."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.engine import events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData
from sqlalchemy import delete

from deploy.migrate import migrate
from deploy.routers import openapi
from services.case.tables import metadata
from shared.auth import ROLES
from shared.database import open_engine
from shared.settings import Outgoing
from tests import served
from tests.case.pictures import marked, written
from tests.case.receivers import receiving
from tests.served import LEAF, Limits, Served

API = "/api/case/v1"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
UNLIMITED = Limits(named="10000000/minute", nameless="10000000/minute")
DOCUMENT = openapi("case")
OPERATIONS = [(m.upper(), path, what) for path, methods in DOCUMENT["paths"].items() for m, what in methods.items()]
SCHEMAS = DOCUMENT["components"]["schemas"]
PHASES = ("examples", "coverage", "fuzzing", "stateful")
CURSOR = "a cursor is one that the node gave, a box has its west in the west, and what is found by words has no other order"
PLACE = "the category is of the catalogue, the place is the node's and in the cell named, the answers fit the questions"
BLANK = "a text of nothing but spaces says nothing"
RULES = "rules name what is there: roles, categories, departments, questions; and conditions hold together"
MEANING: dict[str, str] = {
    f"GET {API}/cases": CURSOR,
    f"GET {API}/cases.{{kind}}": CURSOR,
    f"GET {API}/search": f"{CURSOR}; words have a letter or a digit",
    f"GET {API}/queue": CURSOR,
    f"GET {API}/queue.{{kind}}": CURSOR,
    f"POST {API}/filters": CURSOR,
    f"PUT {API}/filters/{{filter_id}}": CURSOR,
    f"GET {API}/audit": "an instant lies in the years that can be stored",
    f"GET {API}/deadline": "an instant lies in a year that is announced, a limit is between a second and ten years",
    f"POST {API}/cases": PLACE,
    f"POST {API}/reports": f"{PLACE}; the case to join, the purse and the group are known",
    f"POST {API}/cases/{{case_id}}/actions": "each step of the workflow needs fields of its own",
    f"POST {API}/cases/{{case_id}}/photos": "the file is a picture, taken in the past and near by",
    f"POST {API}/reports/mine/photos": "the file is a picture",
    f"POST {API}/cases/{{case_id}}/ratings": "only a return visit that reached nobody has no score",
    f"POST {API}/reports/mine/rating": "a reporter's rating has a score",
    f"POST {API}/cases/{{case_id}}/reporter": "a contact names a way to be reached",
    f"POST {API}/cases/{{case_id}}/reporter/prolongation": "the day lies ahead, and not years ahead",
    f"POST {API}/cases/{{case_id}}/comments": BLANK,
    f"POST {API}/cases/{{case_id}}/comments/{{comment_id}}/withdraw": BLANK,
    f"PUT {API}/templates/{{code}}": "the step is possible in the state, and the names in braces are known",
    f"PUT {API}/policy": "stages, roles and colours hold together",
    f"PUT {API}/rewards": "a rule ends after it begins",
    f"PUT {API}/calendar/periods": "the seasons cover the year once, periods follow one another",
    f"PUT {API}/calendar/{{year}}": "days lie in the year, each once; a complete list has holidays",
    f"PUT {API}/notices/rules": RULES,
    f"PUT {API}/notices/addresses/{{account}}": f"{RULES}; an address is a bare one",
    f"POST {API}/webhooks": "the address is one of https on a host that is known and public",
    f"PUT {API}/webhooks/{{webhook_id}}": "the address is one of https on a host that is known and public",
    f"POST {API}/catalogue/editions": "an edition is complete in itself, begins today or later, and is named after its node",
    f"POST {API}/catalogue/editions/withdraw": "the code is one of this node's editions",
    f"POST {API}/catalogue/additions": "an addition takes the next free number of its family and begins today or later",
    f"POST {API}/catalogue/additions/end": "the addition is there and ends today or later",
    f"POST {API}/catalogue/import": "the file is a workbook with the sheets of a catalogue",
    f"PUT {API}/routing": RULES,
    f"POST {API}/routing/check": RULES,
    f"POST {API}/routing/rehearsal": RULES,
}
"""Where a well-formed request may be refused for what it means, which a schema cannot say; everywhere else it must be taken."""
SHAPE = re.compile(r"Field required|Extra inputs|[A-Z][a-z]+ should ")
"""How the framework begins to tell a fault of the shape."""
JUDGED = ("negative_data_rejection", "positive_data_acceptance")
"""Off at a push: each event is judged by itself, which the answer says with 200; `data` alone needs its ce- headers beside it."""


REPORT = {"category": "E0101", "lon": 87.62, "lat": 43.72}
PHOTO = {"file": written(marked())}
RIGHT: dict[str, dict[str, Any]] = {
    f"POST {API}/cases": REPORT,
    f"POST {API}/reports": REPORT,
    f"POST {API}/cases/{{case_id}}/photos": PHOTO,
    f"POST {API}/reports/mine/photos": PHOTO,
}
"""What makes a body mean something here, and"""
LOOSE = {"cell", "part", "answers", "joins", "purse", "group", "lon", "lat", "taken_at"}
"""what would contradict it."""


@schemathesis.serializer(XLSX)
def as_it_is(_: Any, value: Any) -> bytes:
    """A workbook is bytes, and so is what is made up instead of one."""
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Served]:
    engine = open_engine(f"sqlite:///{tmp_path}/node.db")
    migrate(engine)
    here = Outgoing(networks=("127.0.0.0/8",))
    with receiving() as receiver, served.node(tmp_path, engine, LEAF, limits=UNLIMITED, outgoing=here) as found:
        RIGHT[f"POST {API}/webhooks"] = RIGHT[f"PUT {API}/webhooks/{{webhook_id}}"] = {"url": receiver.url}
        yield found
    engine.dispose()


def whole(value: Any) -> Any:
    """The JSON value with 3.0 as 3: bodies are strict, so that a whole number has no fraction, which a schema cannot say."""
    if isinstance(value, dict):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def sensible(label: str, body: Any) -> Any:
    """A body that means something here, so that a walk comes further than its first step."""
    if label not in RIGHT or not isinstance(body, dict):
        return body
    return {key: value for key, value in body.items() if key not in LOOSE} | RIGHT[label]


def by_meaning(failure: Any, case: Any, response: Any) -> bool:
    """Whether a well-formed request was refused for what it means, where MEANING says why that can be.

    A fault of the shape is told in the framework's words, one that we judge in ours or of what we left of a text.
    """
    if not isinstance(failure, RejectedPositiveData) or case.operation.label not in MEANING or response.status_code != 422:
        return False
    reasons = [fault["reason"] for fault in orjson.loads(response.content).get("errors") or ()]
    return not any(SHAPE.match(reason) and "after validation" not in reason for reason in reasons)


def schema_for(node: Served, phase: str, examples: int, only: Sequence[str] = (), **more: Any) -> Any:
    """The document as Schemathesis reads it: one phase, the same examples every time, a caller with every role.

    `only` names the operations to be asked; the others stay known.
    """
    everybody = {"Authorization": f"Bearer {node.token(*sorted(ROLES), exp=int(time.time()) + 3600)}"}
    config = {
        "seed": 1, "continue-on-failure": True, "suppress-health-check": ["all"], "base-url": str(node.client.base_url),
        "headers": everybody,
        "generation": {"deterministic": True, "max-examples": examples, "no-shrink": True},
        "phases": {name: {"enabled": name == phase, **(more if name == phase else {})} for name in PHASES},
        # Of the methods that a path has, a 405 names those of its first route only: shared/problems.py.
        "checks": {"allow_header_conformance": {"enabled": False}},
        "operations": [
            # Events are a platform's, and a platform has a key of its own.
            {"include-path": f"{API}/events", "headers": node.as_platform(), "checks": {c: {"enabled": False} for c in JUDGED}},
            *([{"exclude-operation-id": list(only), "phases": {phase: {"enabled": False}}}] if only else ()),
        ],
    }  # fmt: skip
    raw = orjson.loads(orjson.dumps(DOCUMENT))
    schema = schemathesis.openapi.from_dict(raw, config=schemathesis.Config.from_dict(config))

    @schema.hook
    def map_body(context: Any, body: Any) -> Any:
        return whole(sensible(context.operation.label, body) if phase == "stateful" else body)

    @schema.hook
    def filter_failure(_: Any, failure: Any, case: Any, response: Any) -> bool:
        return not by_meaning(failure, case, response)

    return schema


@dataclass
class Findings:
    """What came out of a run: faults in words, statuses by operation, links that were followed to a good answer."""

    faults: dict[tuple[str, str], str] = field(default_factory=dict)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    followed: Counter[str] = field(default_factory=Counter)

    def note(self, recorder: Any) -> None:
        for key, node in recorder.cases.items():
            response = recorder.interactions[key].response if key in recorder.interactions else None
            if response is None:
                continue
            label = node.value.operation.label
            self.statuses.setdefault(label, Counter())[response.status_code] += 1
            if node.is_transition_applied and response.status_code < 300:
                self.followed[node.transition.id] += 1
            for check in recorder.checks.get(key, ()):
                if check.failure_info is not None:
                    why, how = check.failure_info.failure, check.failure_info.code_sample
                    told = f"{why.title}: {why.message}\n{how[:800]}\n{response.status_code} {response.content[:300]!r}"
                    self.faults.setdefault((check.name, label), told)

    def __str__(self) -> str:
        return "\n\n".join(f"{check} at {label}\n{told}" for (check, label), told in sorted(self.faults.items()))


def run(schema: Any) -> Findings:
    """Let Schemathesis run; whatever it cannot do is a fault too."""
    found = Findings()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            found.note(event.recorder)
        elif isinstance(event, events.NonFatalError):
            found.faults["cannot be tested", event.label] = str(event.info)
        elif isinstance(event, events.FatalError):
            raise event.exception
    return found


def test_every_operation(node: Served) -> None:
    """Requests that the document allows, and requests that it does not."""
    found = run(schema_for(node, "fuzzing", 8))
    assert not found.faults, str(found)
    assert set(found.statuses) == {f"{method} {path}" for method, path, _ in OPERATIONS}
    closed = [seen for m, path, what in OPERATIONS if what["security"] and (seen := found.statuses[f"{m} {path}"])[200]]
    assert len(closed) > 30 and all(seen[401] for seen in closed), "each was asked without its credential too"


def test_what_the_document_leaves_out(node: Served) -> None:
    """Other methods, missing parameters, values at and beyond their bounds: each once, where there are not too many."""
    few = [what for _, _, what in OPERATIONS if "requestBody" not in what and len(what.get("parameters", ())) < 5]
    small = [what["operationId"] for what in few]
    found = run(schema_for(node, "coverage", 1, small))
    assert not found.faults, str(found)
    assert len(found.statuses) == len(small) > 40
    assert sum(seen[405] for seen in found.statuses.values()) > len(small), "methods that are not there were tried"


def walker(node: Served, schema: Any, found: Findings) -> Any:
    """The state machine of the document's links, which notes in `found` where it came."""
    headers = schema.config.headers

    class Walk(schema.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            # Every walk begins at the same node: what is answered decides how it goes on, and has to be the same again.
            with node.runtime.engine.begin() as connection:
                for table in reversed(metadata.sorted_tables):
                    if table.name.startswith("case_") and table.name != "case_editions":
                        connection.execute(delete(table))

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": headers}

        def step(self, input: Any) -> Any:
            output = super().step(input)
            if input.transition and input.is_applied and output.response.status_code < 300:
                found.followed[input.transition.id] += 1
            return output

    return Walk


def test_along_the_links(node: Served) -> None:
    """From what makes a thing to all that can be done with it, many steps in a row; whatever a check finds is raised."""
    schema, found = schema_for(node, "stateful", 1, generation={"mode": "positive"}, inference={"algorithms": []}), Findings()
    bounds = settings(
        max_examples=120, stateful_step_count=8, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    walker(node, schema, found).run(settings=bounds)
    assert len(found.followed) >= 20 and found.followed.total() >= 150, found.followed


def at(pointer: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what a JSON pointer names in an answer. Raises KeyError for a field that the answer does not have."""
    for part in pointer.split("/")[1:]:
        schema = schema["items"] if part.isdigit() else schema["properties"][part]
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return schema


def test_every_link_leads_somewhere() -> None:
    """To an operation that is there, with all that it needs, from fields that the answer has."""
    known = {what["operationId"]: what for _, _, what in OPERATIONS}
    links = [
        (what, answer["content"]["application/json"]["schema"], found)
        for _, _, what in OPERATIONS for answer in what["responses"].values() for found in answer.get("links", {}).values()
    ]  # fmt: skip
    assert len(links) > 50
    for source, answer, found in links:
        parameters = known[found["operationId"]]["parameters"]
        needed = {f"{p['in']}.{p['name']}" for p in parameters if p["required"] and p["in"] in ("path", "header")}
        assert needed == set(found["parameters"]), (source["operationId"], found)
        for expression in found["parameters"].values():
            where, _, pointer = expression.partition("#")
            if where == "$response.body":
                assert at(f"/whole{pointer}", {"properties": {"whole": answer}}), found
            else:
                name = where.removeprefix("$request.path.")
                assert name in {p["name"] for p in source["parameters"] if p["in"] == "path"}, found
