"""Every documented example runs against a real node, and real answers hold what their documents say, no more and no less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
from pydantic import BaseModel

from deploy.migrate import migrate
from deploy.routers import openapi
from services.case import answers as case
from services.case import push_answers as push
from services.evaluation import answers as evaluation
from services.evaluation.handlers import READER, fold
from services.web import answers as web
from shared import log as logs
from shared.chain import encode
from shared.database import open_engine
from shared.reader import Reader
from tests.served import LEAF, Served, node

READ = (
    ("/api/case/v1/workflow", list[case.Step]),
    ("/api/case/v1/cases", case.CasePage),
    ("/api/case/v1/policy", case.PolicyNow),
    ("/api/case/v1/quarantine", list[push.Waiting]),
    ("/api/evaluation/v1/figures?by=origin,category", evaluation.Figures),
    ("/api/evaluation/v1/overview", evaluation.Overview),
    ("/api/evaluation/v1/links", evaluation.Links),
    ("/api/evaluation/v1/cases", evaluation.CasePage),
    ("/api/web/v1/node", web.NodeInfo),
)  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A node with one case in each service, one refused event, and the rights to read all of it."""
    base = tmp_path_factory.mktemp("answers")
    engine = open_engine(f"sqlite:///{base}/node.db")
    migrate(engine)
    with node(base, engine) as found:
        key = {"Authorization": f"Bearer {found.api_key()}"}
        sent = [push.EXAMPLE | {"source": "urn:platform:roads"}, {"id": "nothing else"}]
        batch = key | {"Content-Type": "application/cloudevents-batch+json"}
        pushed = found.client.post("/api/case/v1/events", content=orjson.dumps(sent), headers=batch)
        exact(push.Pushed, pushed.json(), "push")
        assert [i["outcome"] for i in pushed.json()["items"]] == ["accepted", "refused"]
        log = f"{LEAF}/case"
        logs.seal(engine, log)
        entries, closing = logs.read_range(engine, log, 1)
        Reader(READER, engine, fold).take(LEAF, "case", encode(log, entries, closing))
        found.client.headers.update(found.as_("administrator", "evaluator", "acceptor", "collector"))
        yield found


def exact(model: Any, value: Any, where: str) -> None:
    """The value fits the model, and every object in it has just the documented keys."""
    if isinstance(value, list):
        inner = model.__args__[0] if hasattr(model, "__args__") else Any
        for item in value:
            exact(inner, item, where)
    elif isinstance(model, type) and issubclass(model, BaseModel):
        model.model_validate(value)
        unknown = value.keys() - model.model_fields.keys()
        assert not unknown, f"{where}: {unknown} is not documented"
        for name, info in model.model_fields.items():
            if info.is_required():
                assert name in value, f"{where}: {name} is documented and not there"
            if name in value and isinstance(value[name], dict | list):
                exact(info.annotation, value[name], f"{where}/{name}")


@pytest.mark.parametrize(("path", "model"), READ, ids=[p for p, _ in READ])
def test_answers_are_as_documented(served: Served, path: str, model: Any) -> None:
    answer = served.client.get(path)
    assert answer.status_code == 200, answer.text
    exact(model, answer.json(), path)


def test_one_case_and_a_step_are_as_documented(served: Served) -> None:
    known = served.client.get("/api/case/v1/cases").json()["items"][0]
    exact(case.CaseFile, served.client.get(f"/api/case/v1/cases/{known['id']}").json(), "case")
    body = {"action": "refuse", "version": known["version"], "reason": "other"}
    done = served.client.post(f"/api/case/v1/cases/{known['id']}/actions", json=body)
    assert done.status_code == 200, done.text
    exact(case.CaseNow, done.json(), "action")


def examples(operation: dict[str, Any], document: dict[str, Any]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """(path parameters, query, required parameters without an example) of an operation."""
    path, query, missing = {}, {}, []
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        found = schema.get("examples") or next((s["examples"] for s in schema.get("anyOf", []) if "examples" in s), None)
        if found:
            (path if parameter["in"] == "path" else query)[parameter["name"]] = str(found[0])
        elif parameter.get("required"):
            missing.append(parameter["name"])
    return path, query, missing


ONLY_GIVEN = {"X-Tracking-Code", "X-Purse-Code", "photo_id", "edition", "number", "item", "kind", "year"}


def test_every_example_runs(served: Served) -> None:
    """Each reading operation with the examples of its parameters; an operation whose id only a node can give is left out."""
    document, tried = openapi(), []
    known = served.client.get("/api/case/v1/cases").json()["items"][0]["id"]
    for template, methods in document["paths"].items():
        if "get" not in methods or template.endswith("/live"):
            continue
        path, query, missing = examples(methods["get"], document)
        if "case_id" in missing:
            path["case_id"] = known
            missing.remove("case_id")
        if missing:
            # Only a node can give these: a code that is shown once, a photo, an item of a list.
            assert len(missing) == 1 and missing[0] in ONLY_GIVEN, f"{template}: {missing} has no example"
            continue
        answer = served.client.get(template.format(**path), params=query)
        # A node under test has no broker, which its readiness says; an example of an id is nobody's, and is told so properly.
        unknown = answer.status_code == 404 and answer.json().get("field") and "{" in template.replace("{case_id}", "")
        assert answer.status_code == 200 or unknown or template == "/readyz", f"{template} {query}: {answer.text[:300]}"
        tried.append(template)
    assert len(tried) >= 40


def test_the_example_of_a_push_is_taken(served: Served) -> None:
    """Just as it stands in the document, but for the source, which belongs to a key."""
    document = openapi()["paths"]["/api/case/v1/events"]["post"]["requestBody"]["content"]
    for kind in ("application/cloudevents+json", "application/cloudevents-batch+json"):
        text = orjson.dumps(document[kind]["example"]).replace(b"urn:my:platform", b"urn:platform:roads")
        headers = {"Authorization": f"Bearer {served.api_key()}", "Content-Type": kind}
        answer: httpx.Response = served.client.post("/api/case/v1/events", content=text, headers=headers)
        assert [i["outcome"] for i in answer.json()["items"]] == ["duplicate"]
