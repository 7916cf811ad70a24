"""Who calls and what for: API keys (hashed, of one node and one purpose) and JWT bearer tokens; deny by default.

Every route has exactly one guard, made by `allow` or `public`; a test walks all routes and finds a forgotten one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
from fastapi import Depends, Request
from joserfc import jwt
from joserfc.errors import JoseError
from sqlalchemy import Column, Engine, String, Table, insert, select
from starlette.concurrency import run_in_threadpool

from shared.clock import stamp, unstamp
from shared.database import metadata, now, reading
from shared.errors import Forbidden, Unauthenticated
from shared.issuers import Issuers
from shared.settings import Node

ROLES = frozenset(
    {"collector", "acceptor", "shift_supervisor", "dispatcher", "department", "handler", "checker", "leader"}
    | {"evaluator", "integrator", "administrator", "auditor"}
)
"""The field's roles; what each may do stands in the workflow table and at the routes."""

REMEMBERED, MANY = 2.0, 10_000
"""Seconds for which a caller who was found is not looked up again, since a revoked key must stop within seconds; and how many."""

keys = Table(
    "auth_keys",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("hash", String(64), nullable=False),
    Column("node", String(20), nullable=False),
    Column("role", String(24), nullable=False),
    Column("holder", String(80), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("revoked_at", String(32)),
)
"""API keys. Only the SHA-256 of the 256-bit secret is kept; `holder` names the platform, never a person."""


@dataclass(frozen=True)
class Caller:
    """Somebody who is known: the roles that hold at this node, and for a key the platform it belongs to.

    `departments`: those for which somebody acts as department or handler; none named is an office that acts for all.
    """

    name: str
    roles: frozenset[str]
    platform: str | None = None
    departments: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Guard:
    """A route's dependency: the roles that may, or None for a public route, and why it is public."""

    roles: frozenset[str] | None
    reason: str = ""

    async def __call__(self, request: Request) -> Caller:
        if self.roles is None:
            return Caller("anybody", frozenset())
        gate: Gate = request.app.state.gate
        header = request.headers.get("authorization", "")
        # A look-up may wait for the database or for an issuer that does not answer: never on the loop that serves everybody.
        caller = gate.remembered(header)
        if caller is None:
            caller = await run_in_threadpool(gate.caller, header)
        if not caller.roles & self.roles:
            raise Forbidden(f"this needs one of: {', '.join(sorted(self.roles))}")
        return caller


def allow(*roles: str) -> Any:
    """Guard for callers with one of `roles` at this node or above it."""
    if not set(roles) <= ROLES:
        raise ValueError(f"unknown role among {roles}")
    return Depends(Guard(frozenset(roles)))


def public(reason: str) -> Any:
    """Guard of a route that anybody may call; `reason` stands in the reviewed list of exceptions."""
    return Depends(Guard(None, reason))


def roles_at(claims: Any, path: tuple[str, ...]) -> frozenset[str]:
    """Roles that hold at the node whose path is `path`: given at it or at a node above it, compared code by code."""
    given = [g for g in claims if isinstance(g, dict)] if isinstance(claims, list) else []
    return frozenset(role for g in given if g.get("node") in path and isinstance(role := g.get("role"), str) and role in ROLES)


def departments_at(claims: Any, path: tuple[str, ...]) -> frozenset[str]:
    """The departments that the grants of department and handler name; empty where one of them names none."""
    given = [g for g in claims if isinstance(g, dict) and g.get("node") in path] if isinstance(claims, list) else []
    named = [g.get("department") for g in given if g.get("role") in ("department", "handler")]
    return frozenset(str(n) for n in named) if all(isinstance(n, str) for n in named) else frozenset()


@dataclass
class Gate:
    """Checks credentials for one node."""

    node: Node
    engine: Engine
    issuers: Issuers
    _seen: dict[str, tuple[float, Caller]] = field(default_factory=dict)

    def remembered(self, header: str) -> Caller | None:
        """Who was found behind this header in the last moments, without asking anybody."""
        until, known = self._seen.get(_digest(header), (0.0, None))
        return known if until > time.monotonic() else None

    def caller(self, header: str) -> Caller:
        """Raises Unauthenticated for anything but a valid key or token."""
        scheme, _, credential = header.partition(" ")
        if scheme.lower() != "bearer" or not credential:
            raise Unauthenticated("send an API key or a token as: Authorization: Bearer ...")
        found = self._by_key(credential) if credential.startswith("sanji.") else self._by_token(credential)
        if len(self._seen) >= MANY:
            self._seen.clear()
        self._seen[_digest(header)] = (time.monotonic() + REMEMBERED, found)
        return found

    def _by_key(self, credential: str) -> Caller:
        at, digest = now(), _digest(credential)
        _, _, rest = credential.partition(".")
        with reading(self.engine) as connection:
            row = connection.execute(select(keys).where(keys.c.id == rest.partition(".")[0])).mappings().first()
        if row is None or not hmac.compare_digest(row["hash"], digest):
            raise Unauthenticated("this API key is not known here")
        if row["revoked_at"] or unstamp(row["expires_at"]) <= at:
            raise Unauthenticated("this API key has expired or was revoked")
        if row["node"] != self.node.code:
            raise Unauthenticated("this API key belongs to another node")
        return Caller(f"key:{row['id']}", frozenset({row["role"]}), row["holder"])

    def _by_token(self, credential: str) -> Caller:
        try:
            header, claims = _unverified(credential)
            keys = self.issuers.keys(str(claims.get("iss")), header.get("kid"))
            token = jwt.decode(credential, keys, algorithms=["Ed25519", "EdDSA", "RS256", "ES256"])
            rules = jwt.JWTClaimsRegistry(exp={"essential": True}, aud={"essential": True, "value": "sanji"}, leeway=60)
            rules.validate(token.claims)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            # Whatever somebody made up in place of a token: it is his fault and never an error of ours.
            raise Unauthenticated(f"the token is not valid: {error}") from None
        grants, path = token.claims.get("sanji"), self.node.path
        return Caller(str(token.claims.get("sub"))[:120], roles_at(grants, path), None, departments_at(grants, path))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _unverified(credential: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims before the check, to learn which issuer's keys to check with; nothing else is believed of them."""
    parts = credential.split(".")
    if len(parts) != 3:
        raise ValueError("not a signed token")
    header, claims = orjson.loads(_unpad(parts[0])), orjson.loads(_unpad(parts[1]))
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise ValueError("not a header and a set of claims")
    return header, claims


def _unpad(part: str) -> bytes:
    padded = part + "=" * (-len(part) % 4)
    return urlsafe_b64decode(padded)


def new_key(engine: Engine, node: str, role: str, holder: str, days: int = 90) -> str:
    """Make an API key of `node` for `holder`; the answer is the only time that it can be read."""
    if role not in ROLES:
        raise ValueError(f"no such role: {role}")
    key_id = secrets.token_hex(6)
    credential = f"sanji.{key_id}.{secrets.token_urlsafe(32)}"
    row = {
        "id": key_id, "hash": hashlib.sha256(credential.encode()).hexdigest(), "node": node, "role": role,
        "holder": holder, "expires_at": stamp(now() + timedelta(days=days)),
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(insert(keys), row)
    return credential
