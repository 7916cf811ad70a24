"""Who may do what: every route with every role and every kind of bad credential answers as its guard says, never with a 500."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi.routing import iter_route_contexts
from joserfc.jwk import OKPKey
from sqlalchemy import Engine, update

from deploy.routers import ROUTERS
from shared import auth
from shared.auth import ROLES, Gate, Guard, allow, keys, roles_at
from shared.errors import Unauthenticated
from shared.issuers import Issuers
from shared.web import health
from tests import served
from tests.served import ISSUER, LEAF, MIDDLE, ROOT, Served, refused

FILLED = {"{case_id}": "nothing", "{item}": "nothing", "{code}": "650102"}
BODIES: dict[str, Any] = {
    "/api/case/v1/cases": {"category": "E0101", "lon": 87.62, "lat": 43.72},
    "/api/case/v1/cases/{case_id}/actions": {"action": "file", "version": 1},
    "/api/case/v1/quarantine/{item}/replay": {},
}
ENDLESS = "/api/evaluation/v1/live"
KEY_ONLY = {("POST", "/api/case/v1/events"): 422, ("GET", "/api/case/v1/quarantine"): 403}
"""What an integrator needs a platform's key for; with a token it is known and allowed, but not a platform."""


def routes() -> Iterator[tuple[str, str, Guard]]:
    for router in (*ROUTERS.values(), health()):
        for route in iter_route_contexts(router.routes):
            (guard,) = (d.call for d in route.dependant.dependencies if isinstance(d.call, Guard))
            for method in route.methods or ():
                yield method, route.path_format or "", guard


ALL = sorted(routes(), key=lambda r: r[:2])


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, engine, LEAF) as found:
        yield found


def ask(node: Served, method: str, path: str, credential: str | None) -> tuple[int, dict[str, Any] | None]:
    """(status, problem document if it is one); every error has to be one."""
    where = path
    for name, value in FILLED.items():
        where = where.replace(name, value)
    headers = {} if credential is None else {"Authorization": credential}
    with node.client.stream(method, where, headers=headers, json=BODIES.get(path)) as answer:
        if path == ENDLESS and answer.status_code == 200:
            return 200, None
        answer.read()
        assert answer.status_code < 500, f"{method} {path} with {credential}: {answer.text}"
        return answer.status_code, refused(answer, answer.status_code) if answer.status_code >= 400 else None


def test_the_matrix_covers_the_interface() -> None:
    assert len(ALL) >= 100 and {m for m, _, _ in ALL} == {"GET", "POST", "PUT", "DELETE"}
    public = {path for _, path, guard in ALL if guard.roles is None}
    assert "/api/case/v1/workflow" in public and not {p for p in public if "/cases" in p or "/audit" in p}
    assert all(guard.roles is None or guard.roles <= ROLES for _, _, guard in ALL)
    assert all(guard.reason for _, _, guard in ALL if guard.roles is None)


def test_every_role_at_every_route(node: Served) -> None:
    """As a token given at the root, as one given here, and as an API key."""
    for role in sorted(ROLES):
        found = (node.token(role), node.token(role, node=LEAF), node.api_key(role))
        for method, path, guard in ALL:
            for credential in found:
                status, problem = ask(node, method, path, f"Bearer {credential}")
                if guard.roles is None or role in guard.roles:
                    special = KEY_ONLY.get((method, path)) if role == "integrator" and credential is not found[2] else None
                    assert status == special if special else status not in (401, 403), f"{method} {path} {role}: {problem}"
                else:
                    assert status == 403 and problem, f"{method} {path} let {role} in"
                    assert ", ".join(sorted(guard.roles)) in problem["detail"]


def test_a_role_somewhere_else_is_no_role_here(node: Served) -> None:
    """Compared code by code along the tree: not at a neighbour, not below, not by a text that begins alike."""
    assert ask(node, "GET", "/api/case/v1/cases", f"Bearer {node.token('auditor', node=MIDDLE)}")[0] == 200
    for place in ("650103", "654000", "6501", "65010", "650102990", "6501020", "", "*", None, 650102, ["650102"]):
        token = node.token(sanji=[{"role": r, "node": place} for r in sorted(ROLES)])
        for method, path, guard in ALL:
            expected = {403} if guard.roles is not None else {200, 404, 422}
            assert ask(node, method, path, f"Bearer {token}")[0] in expected, f"{method} {path} at {place}"


@pytest.mark.parametrize(
    "claim",
    [None, {}, "auditor", 5, [5], ["auditor"], [[]], [{}], [{"role": "auditor"}], [{"node": ROOT}],
     *([{"role": role, "node": ROOT}] for role in (None, 5, {}, ["auditor"], "root", "AUDITOR", "auditor "))],
)  # fmt: skip
def test_claims_of_another_shape_give_no_role(claim: Any) -> None:
    assert roles_at(claim, (ROOT, MIDDLE, LEAF)) == frozenset()
    mixed = [claim, {"role": "auditor", "node": ROOT}]
    assert roles_at(mixed, (ROOT, LEAF)) == {"auditor"}, "what stands beside it counts"


def bad(node: Served) -> Iterator[str]:
    """Authorization headers that must not be believed, although some were nearly right."""
    right, key, roles = node.token(*ROLES), node.api_key("administrator"), sorted(ROLES)
    yield from ("", "Bearer", "Basic YTpi", f"Basic {key}", key, f"Token {right}", f"Bearer {right} x", f"Bearer:{right}")
    yield from (f"Bearer {t}" for t in ("x", ".", "..", "...", "a.b.c", "sanji.", "sanji..", "sanji.x.y", "sanji.é.y", "x" * 999))
    yield f"Bearer {key[:-1]}{'A' if key[-1] != 'A' else 'B'}"
    yield f"Bearer {key.rsplit('.', 1)[0]}."
    yield f"Bearer {key.upper()}"
    yield f"Bearer {node.api_key('administrator', node=MIDDLE)}"
    yield f"Bearer {node.api_key('administrator', days=-1)}"
    revoked = node.api_key("administrator")
    with node.runtime.engine.begin() as c:
        c.execute(update(keys).where(keys.c.id == revoked.split(".")[1]).values(revoked_at="2026-01-01T00:00:00.000000Z"))
    yield f"Bearer {revoked}"
    hour, now = 3600, int(time.time())
    wrong: list[dict[str, Any]] = [
        {"aud": "other"}, {"aud": None}, {"aud": ["x"]}, {"aud": 5}, {"exp": now - hour}, {"exp": None}, {"exp": "soon"},
        {"exp": True}, {"exp": {}}, {"nbf": now + hour}, {"iss": "https://elsewhere.example"}, {"iss": None},
        {"iss": ISSUER + "/"}, {"iss": [ISSUER]}, {"iss": 5},
    ]  # fmt: skip
    yield from (f"Bearer {node.token(*roles, **claims)}" for claims in wrong)
    yield f"Bearer {node.token(*roles, key=OKPKey.generate_key('Ed25519', {'kid': 'one'}))}"
    yield f"Bearer {node.token(*roles, key=OKPKey.generate_key('Ed25519', {'kid': 'two'}))}"
    yield from (f"Bearer {t}" for t in forged(node, right))


def part(value: Any) -> str:
    """A part of a token as it is written."""
    return base64.urlsafe_b64encode(value if isinstance(value, bytes) else orjson.dumps(value)).rstrip(b"=").decode()


def forged(node: Served, right: str) -> Iterator[str]:
    """Tokens that somebody without the issuer's key can make."""
    head, body, signature = right.split(".")
    claims = orjson.loads(base64.urlsafe_b64decode(body + "=="))
    yield f"{head}.{part(claims | {'sub': 'else'})}.{signature}"
    yield from (f"{head}.{body}.{s}" for s in ("", "A", "AAAA", signature[:-4] + "AAAA", signature[:-1], signature + "AAAA"))
    for alg in ("none", "None", "", "HS256", "RS256", "ES256", "EdDSA "):
        yield from (f"{part({'alg': alg} | kid)}.{body}.{s}" for kid in ({}, {"kid": "one"}) for s in ("", signature))
    public = node.key.as_dict(private=False)
    pem = node.key.as_pem(private=False)
    for secret in (public["x"].encode(), orjson.dumps(public), pem, pem.strip(), base64.urlsafe_b64decode(public["x"] + "=")):
        signed = f"{part({'alg': 'HS256', 'kid': 'one'})}.{body}"
        yield f"{signed}.{part(hmac.digest(secret, signed.encode(), 'sha256'))}"
    own = OKPKey.generate_key("Ed25519", {"kid": "one"})
    for more in ({"jwk": own.as_dict(private=False)}, {"jku": "http://127.0.0.1:1/keys"}, {"x5u": "http://127.0.0.1:1/"}):
        signed = f"{part({'alg': 'Ed25519', 'kid': 'one'} | more)}.{body}"
        yield f"{signed}.{part(own.get_op_key('sign').sign(signed.encode()))}"
    odd: list[Any] = [{"crit": 5}, {"crit": ["x"]}, {"kid": 5}, {"kid": []}, {"alg": 5}, {"alg": []}, {"b64": False}, {"zip": ""}]
    yield from (f"{part({'alg': 'Ed25519', 'kid': 'one'} | h)}.{body}.{signature}" for h in odd)
    yield from (f"{part(h)}.{body}.{signature}" for h in ([], 5, "x", None, b"\xff", b"", b"[" * 6000, b'{"alg":"Ed25519"'))
    yield from (f"{head}.{part(c)}.{signature}" for c in ([], 5, None, b"\xff", b"", b"[" * 6000, {"iss": {}}, {"iss": "\0"}))


def test_nothing_that_is_not_right_is_believed(node: Served) -> None:
    credentials = [None, *bad(node)]
    assert len(credentials) > 70
    closed = next((m, p) for m, p, g in ALL if g.roles is not None and p == "/api/case/v1/cases" and m == "GET")
    for credential in credentials:
        headers = {} if credential is None else {"Authorization": credential.encode()}
        answer = node.client.request(*closed, headers=headers)
        refused(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert node.client.get(closed[1], headers=node.as_("auditor")).status_code == 200, "and what is right still is"


def test_every_route_is_closed_to_strangers(node: Served) -> None:
    for method, path, guard in ALL:
        for credential in (None, "Bearer sanji.x.y", f"Bearer {node.token(*ROLES, aud='other')}"):
            status, _ = ask(node, method, path, credential)
            assert (status == 401) == (guard.roles is not None), f"{method} {path}: {status}"


def test_a_revoked_key_stops_within_seconds(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED", 0.3)
    gate = Gate(served.settings(tmp_path), engine, Issuers(tmp_path, demo=False))
    header = f"Bearer {auth.new_key(engine, LEAF, 'integrator', 'urn:platform:roads')}"
    assert gate.remembered(header) is None
    caller = gate.caller(header)
    assert (caller.platform, caller.roles) == ("urn:platform:roads", {"integrator"})
    with engine.begin() as c:
        c.execute(update(keys).values(revoked_at="2026-01-01T00:00:00.000000Z"))
    assert gate.remembered(header) == caller and gate.remembered(header.lower()) is None
    time.sleep(0.35)
    assert gate.remembered(header) is None
    with pytest.raises(Unauthenticated):
        gate.caller(header)


def test_what_is_kept_cannot_be_used_as_a_key(engine: Engine, tmp_path: Path) -> None:
    """A copy of the table opens nothing: it holds a digest, and the digest is no key."""
    credential = auth.new_key(engine, LEAF, "administrator", "urn:platform:roads")
    with engine.begin() as c:
        row = c.execute(keys.select()).mappings().one()
    assert credential not in map(str, row.values()) and credential.split(".")[2] not in str(row)
    gate = Gate(served.settings(tmp_path), engine, Issuers(tmp_path, demo=False))
    for guess in (row["hash"], f"sanji.{row['id']}.{row['hash']}"):
        with pytest.raises(Unauthenticated):
            gate.caller(f"Bearer {guess}")


@pytest.mark.parametrize("wrong", [lambda: allow("king"), lambda: auth.new_key(None, LEAF, "king", "x")])  # type: ignore[arg-type]
def test_an_unknown_role_is_a_mistake_of_ours(wrong: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="king"):
        wrong()
