"""The issuer of a demonstration: named accounts of every role; nodes outside of it never believe its tokens."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
from joserfc import jwt
from joserfc.jwk import OKPKey

from deploy.topology import Topology
from shared.issuers import DEMO

HOURS = 12
AT_LEAVES = ("collector", "acceptor", "shift_supervisor", "dispatcher", "department", "handler", "checker", "leader")
"""Roles of daily work, held at one county; the others are held at the root and so everywhere."""
AT_ROOT = ("evaluator", "auditor", "administrator")


def accounts(topology: Topology) -> dict[str, tuple[str, str]]:
    """(role, node) by account name, such as `dispatcher-650102`."""
    found = {f"{role}-{topology.root.code}": (role, topology.root.code) for role in AT_ROOT}
    return found | {f"{role}-{leaf}": (role, leaf) for leaf in topology.leaves() for role in AT_LEAVES}


def trust(base: Path, secrets: Path) -> None:
    """Let the node whose secrets lie in `secrets` believe this demonstration's issuer."""
    folder = secrets / "issuers"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    public = _key(base).as_dict(private=False)
    (folder / "demo.json").write_bytes(orjson.dumps({"issuer": DEMO, "keys": {"keys": [public]}}))


def token(base: Path, topology: Topology, account: str) -> str:
    """A bearer token of `account` for twelve hours. Raises KeyError for an unknown one, ValueError outside a demonstration."""
    if not topology.demo:
        raise ValueError("this federation is no demonstration: its accounts come from an issuer of its own")
    role, node = accounts(topology)[account]
    now = int(time.time())
    claims = {"iss": DEMO, "sub": account, "aud": "sanji", "iat": now, "exp": now + HOURS * 3600}
    claims |= {"sanji": [{"role": role, "node": node}]}
    key = _key(base)
    return jwt.encode({"alg": "Ed25519", "kid": key.kid}, claims, key, algorithms=["Ed25519"])


def _key(base: Path) -> OKPKey:
    """The signing key, made at the first call and kept in a file that only its owner reads."""
    path = base / "issuer.json"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(orjson.dumps(OKPKey.generate_key("Ed25519", {"kid": "demo"}).as_dict(private=True)))
    return OKPKey.import_key(orjson.loads(path.read_bytes()))
