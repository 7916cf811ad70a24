"""Whose tokens are believed: OIDC issuers named in the secrets folder, with keys given there or fetched from the issuer."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
from joserfc.errors import JoseError
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
    tried: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def lacks(self, kid: object) -> bool:
        return self.keys is None or (isinstance(kid, str) and kid not in {key.kid for key in self.keys.keys})


@dataclass
class Issuers:
    """Reads `issuers/*.json` of `folder`: {"issuer": URL, "keys": JWKS} or {"issuer": URL} whose keys are discovered."""

    folder: Path
    demo: bool
    _fetched: dict[str, _Known] = field(default_factory=dict)

    def keys(self, issuer: str, kid: object = None) -> KeySet:
        """The keys to check a token of `issuer` with, fetched anew where `kid` is not among them.

        Raises Unauthenticated for an issuer that is not trusted or whose keys were never to be had.
        """
        if issuer == DEMO and not self.demo:
            raise Unauthenticated("tokens of the demonstration are not believed outside of it")
        for path in sorted(self.folder.glob("issuers/*.json")):
            content: dict[str, Any] = orjson.loads(path.read_bytes())
            if content.get("issuer") == issuer:
                return KeySet.import_key_set(content["keys"]) if "keys" in content else self._discovered(issuer, kid)
        raise Unauthenticated("the token's issuer is not trusted here")

    def _discovered(self, issuer: str, kid: object) -> KeySet:
        known = self._fetched.setdefault(issuer, _Known())
        # Whoever has keys to go on with does not wait while somebody else fetches newer ones.
        if known.lock.acquire(blocking=known.keys is None):
            try:
                self._refresh(issuer, known, kid)
            finally:
                known.lock.release()
        if known.keys is None:
            raise Unauthenticated("the keys of the token's issuer cannot be had at the moment")
        return known.keys

    def _refresh(self, issuer: str, known: _Known, kid: object) -> None:
        """Fetch keys that are old or lack one, but never more often than the pause allows, whatever tokens come."""
        at = time.monotonic()
        if not known.lacks(kid) and at - known.at <= FRESH:
            return
        if known.tried is not None and at - known.tried <= PAUSE:
            return
        known.tried = at
        # An issuer that is away, or says nonsense, must not lock everybody out while its last keys are still known.
        with suppress(httpx.HTTPError, httpx.InvalidURL, JoseError, ValueError, KeyError, TypeError, AttributeError):
            known.keys, known.at = _fetch(issuer), at


def _fetch(issuer: str) -> KeySet:
    with httpx.Client(timeout=3) as client:
        about = client.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration").raise_for_status().json()
        if about["issuer"] != issuer:
            raise ValueError("the issuer calls itself by another name")
        return KeySet.import_key_set(client.get(about["jwks_uri"]).raise_for_status().json())
