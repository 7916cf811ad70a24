"""OpenAPI 3.1 of any set of routers: as the framework sees them, with our error answers and with who may call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field

from deploy.links import link
from shared.auth import Guard
from shared.problems import TITLES

VERSION = "1"
TEMPLATE = "#/components/schemas/{model}"
ALWAYS, KNOWN, EVERYWHERE, CHANGING = (500,), (401, 403), (404, 422, 429, 503), (408, 409, 413)
"""Statuses by what an operation is: any at all, one behind a guard, one of the API, one that changes something."""

HEADERS = {
    401: {"WWW-Authenticate": {"schema": {"const": "Bearer"}}},
    429: {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "seconds"}},
    503: {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "seconds"}},
}
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key of this node, or a token (JWT) of an issuer that this node trusts, with one of the roles named.",
}


class Fault(BaseModel):
    """One of several things that are wrong with an input."""

    field: str = Field(description="JSON pointer to the input at fault")
    reason: str


class Problem(BaseModel):
    """An error as RFC 9457 has it. Some kinds add members of their own, such as `allowed` where a step is not possible now."""

    model_config = ConfigDict(extra="allow")
    type: str = Field(pattern="^urn:sanji:problem:[a-z0-9-]+$", description="which kind of problem; stable")
    title: str = Field(description="what the status says, in words")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="what is wrong with this very request, for people")
    field: str | None = Field(None, description="JSON pointer to the input at fault, where there is one")
    errors: list[Fault] | None = Field(None, description="all of them, where several are known")


def describe(title: str, routers: Iterable[APIRouter], description: str = "") -> dict[str, Any]:
    """The document of these routers. Raises ValueError for a route that has not exactly one guard."""
    routes = [route for router in routers for route in router.routes]
    document = get_openapi(title=title, version=VERSION, description=description or None, routes=routes)
    used: set[int] = set()
    for route in iter_route_contexts(routes):
        for method in sorted(route.methods or ()):
            path = route.path_format or ""
            operation = document["paths"].get(path, {}).get(method.lower())
            if operation:
                used |= _complete(operation, method, path, _guard(route.dependant, path))
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template=TEMPLATE)
    schemas |= problem.pop("$defs") | {"Problem": problem}
    components["responses"] = {f"Problem{status}": _answer(status) for status in sorted(used)}
    components["securitySchemes"] = {"bearer": BEARER}
    _without_null(document)
    link(document)
    return document


def _without_null(document: dict[str, Any]) -> None:
    """Take null out of what is sent as text: a query, a header or a form leaves out what it does not say."""
    schemas = document["components"]["schemas"]
    for operation in (op for methods in document["paths"].values() for op in methods.values()):
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _said(parameter["schema"])
        form = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data", {}).get("schema", {})
        form = schemas[form["$ref"].rpartition("/")[2]] if "$ref" in form else form
        if "properties" in form:
            form["properties"] = {name: _said(schema) for name, schema in form["properties"].items()}


def _said(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return schema if not kinds else rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def _guard(dependant: Dependant, path: str) -> Guard:
    found = [d.call for d in dependant.dependencies if isinstance(d.call, Guard)]
    if len(found) != 1:
        raise ValueError(f"{path} has {len(found)} guards")
    return found[0]


def _complete(operation: dict[str, Any], method: str, path: str, guard: Guard) -> set[int]:
    """Say who may call and which problems may come back; answers their statuses. What the route says itself is kept."""
    # Alternatives: one of the roles is enough.
    operation["security"] = [{"bearer": [role]} for role in sorted(guard.roles or ())]
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422")):
        del answers["422"]
    for answer in answers.values():
        # A route that writes its answer itself: the framework's guess at it says JSON of any kind.
        if answer.get("content") == {"application/json": {"schema": {}}}:
            del answer["content"]
    statuses = {*ALWAYS, *(KNOWN if guard.roles is not None else ())}
    if path.startswith("/api/"):
        statuses |= {*EVERYWHERE, *(() if method == "GET" else CHANGING)}
    fresh = {status for status in statuses if str(status) not in answers}
    answers |= {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in sorted(fresh)}
    return fresh


def _answer(status: int) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": TEMPLATE.format(model="Problem")}}}
    return {"description": TITLES[status], "content": content} | ({"headers": HEADERS[status]} if status in HEADERS else {})
