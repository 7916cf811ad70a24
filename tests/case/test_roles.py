"""Every operation of the case service × every role × own and foreign nodes: 401 and 403 exactly where its document says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.migrate import migrate
from deploy.routers import openapi
from shared.auth import ROLES
from shared.database import open_engine
from tests import served
from tests.served import LEAF, MIDDLE, Limits, Served, refused

API = "/api/case/v1"
SIBLING = "650103"
UNLIMITED = Limits(named="10000000/minute", nameless="10000000/minute")
PLATFORMS_ONLY = ("GET", f"{API}/quarantine", "integrator")
"""Refused events are read by the platform that sent them, which only a key says: an integrator's token is no platform."""

Operation = tuple[str, str, dict[str, Any]]
OPERATIONS: list[Operation] = [
    (method.upper(), path, operation)
    for path, methods in openapi("case")["paths"].items()
    for method, operation in methods.items()
    if path.startswith(API)
]  # fmt: skip


def declared(operation: dict[str, Any]) -> set[str]:
    """The roles of which one is enough; none are needed where anybody may call."""
    return {role for alternative in operation["security"] for role in alternative["bearer"]}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    base: Path = tmp_path_factory.mktemp("roles")
    engine = open_engine(f"sqlite:///{base}/node.db")
    migrate(engine)
    with served.node(base, engine, LEAF, limits=UNLIMITED) as found:
        yield found
    engine.dispose()


def ask(node: Served, operation: Operation, credential: str | None) -> int:
    """The status of a call that names nothing that is there: who may call gets 404, 409 or 422, or an empty list."""
    method, path, what = operation
    headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
    for parameter in what.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["schema"].get("enum", ["2026"])[0]))
        elif parameter["in"] == "header" and parameter["required"]:
            headers[parameter["name"]] = "nobody"
    body = {} if "application/json" in what.get("requestBody", {}).get("content", {}) else None
    answer = node.client.request(method, path, headers=headers, json=body)
    said = f"{method} {path}: {answer.status_code} {answer.text[:200]}"
    assert answer.status_code < 500, said
    if answer.status_code in (401, 403):
        refused(answer, answer.status_code)
        assert str(answer.status_code) in what["responses"], f"not documented: {said}"
    return answer.status_code


def test_every_operation_declares_its_roles() -> None:
    assert len(OPERATIONS) > 90
    assert all("security" in what and declared(what) <= ROLES for _, _, what in OPERATIONS)
    assert {role for _, _, what in OPERATIONS for role in declared(what)} == ROLES, "every role has something to do"


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_that_holds_here(node: Served, role: str) -> None:
    """Given at this node or at the one above, or as a key of this node: the document alone decides."""
    tokens = [node.token(role, node=place) for place in (LEAF, MIDDLE)]
    key = node.api_key(role)
    for operation in OPERATIONS:
        method, path, what = operation
        allowed = not declared(what) or role in declared(what)
        for credential in (*tokens, key):
            status = ask(node, operation, credential)
            if (method, path, role) == PLATFORMS_ONLY and credential != key:
                assert status == 403
            elif allowed:
                assert status not in (401, 403), f"{method} {path} refuses {role}, whom its document allows"
            else:
                assert status == 403, f"{method} {path} answers {status} to {role}, whom its document does not allow"


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_that_holds_elsewhere(node: Served, role: str) -> None:
    """A neighbour's role is none here, and a key of another node is not even known."""
    for credential, status in ((node.token(role, node=SIBLING), 403), (node.api_key(role, node=MIDDLE), 401)):
        for operation in OPERATIONS:
            closed = bool(declared(operation[2]))
            found = ask(node, operation, credential)
            assert (found == status) if closed else (found not in (401, 403)), f"{operation[:2]} as {role} elsewhere: {found}"


def test_a_caller_without_a_credential(node: Served) -> None:
    for operation in OPERATIONS:
        assert (ask(node, operation, None) == 401) == bool(declared(operation[2])), operation[:2]
