"""Whose tokens are believed: OIDC issuers named in the secrets folder, with keys given there or fetched from the issuer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
from joserfc.jwk import KeySet

from shared.errors import Unauthenticated

DEMO = "urn:sanji:demo"
"""The issuer of demonstrations; a node that is not one never believes it, whatever lies in its folder."""
FRESH, PAUSE = 600.0, 10.0
"""Seconds for which fetched keys are used, and between two attempts to fetch."""


@dataclass
class _Known:
    keys: KeySet | None = None
    at: float = 0.0
    tried: float = 0.0


@dataclass
class Issuers:
    """Reads `issuers/*.json` of `folder`: {"issuer": URL, "keys": JWKS} or {"issuer": URL} whose keys are discovered."""

    folder: Path
    demo: bool
    _fetched: dict[str, _Known] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keys(self, issuer: str) -> KeySet:
        """The keys to check a token of `issuer` with. Raises Unauthenticated for one that is not trusted or not reachable."""
        if issuer == DEMO and not self.demo:
            raise Unauthenticated("tokens of the demonstration are not believed outside of it")
        for path in sorted(self.folder.glob("issuers/*.json")):
            content: dict[str, Any] = orjson.loads(path.read_bytes())
            if content.get("issuer") == issuer:
                return KeySet.import_key_set(content["keys"]) if "keys" in content else self._discovered(issuer)
        raise Unauthenticated("the token's issuer is not trusted here")

    def _discovered(self, issuer: str) -> KeySet:
        with self._lock:
            known = self._fetched.setdefault(issuer, _Known())
            now = time.monotonic()
            if (known.keys is None or now - known.at > FRESH) and (not known.tried or now - known.tried > PAUSE):
                known.tried = now
                try:
                    known.keys, known.at = _fetch(issuer), now
                except (httpx.HTTPError, ValueError, KeyError, TypeError):
                    # An issuer that is away must not lock everybody out while its last keys are still known.
                    known.at = now - FRESH + PAUSE
            if known.keys is None:
                raise Unauthenticated("the keys of the token's issuer cannot be had at the moment")
            return known.keys


def _fetch(issuer: str) -> KeySet:
    with httpx.Client(timeout=3) as client:
        about = client.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration").raise_for_status().json()
        if about["issuer"] != issuer:
            raise ValueError("the issuer calls itself by another name")
        return KeySet.import_key_set(client.get(about["jwks_uri"]).raise_for_status().json())
