"""Whose tokens are believed: keys discovered at a real small HTTP server, which may change, lie, hang or be away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc.jwk import KeySet, OKPKey

from shared import issuers
from shared.errors import Unauthenticated
from shared.issuers import DEMO, Issuers

CONFIGURATION, KEYS = "/.well-known/openid-configuration", "/keys"


class Issuer:
    """An OIDC issuer as far as a node asks it; `broken` replaces what a path answers."""

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.go.wait(10)
                status, body = outer.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.asked: list[str] = []
        self.broken: dict[str, tuple[int, bytes]] = {}
        self.go = threading.Event()
        self.go.set()
        self.keys = [OKPKey.generate_key("Ed25519", {"kid": "one"})]
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, path: str) -> tuple[int, bytes]:
        if path in self.broken:
            return self.broken[path]
        about = {"issuer": self.url, "jwks_uri": self.url + KEYS}
        found = {CONFIGURATION: about, KEYS: {"keys": [k.as_dict(private=False) for k in self.keys]}}
        return (200, orjson.dumps(found[path])) if path in found else (404, b"")

    def rotate(self, kid: str) -> None:
        self.keys = [OKPKey.generate_key("Ed25519", {"kid": kid})]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.go.set()
    made.server.shutdown()
    made.server.server_close()


def believing(folder: Path, *content: dict[str, Any], demo: bool = False) -> Issuers:
    (folder / "issuers").mkdir(exist_ok=True)
    for n, one in enumerate(content):
        (folder / "issuers" / f"{n}.json").write_bytes(orjson.dumps(one))
    return Issuers(folder, demo)


def given(issuer: Issuer, name: str = "urn:given") -> dict[str, Any]:
    """Settings that hold the keys themselves."""
    return {"issuer": name, "keys": {"keys": [issuer.keys[0].as_dict(private=False)]}}


def kids(keys: KeySet) -> list[str | None]:
    return [k.kid for k in keys.keys]


def test_keys_are_fetched_once(issuer: Issuer, tmp_path: Path) -> None:
    found = believing(tmp_path, {"issuer": issuer.url})
    issuer.go.clear()
    threads = [threading.Thread(target=found.keys, args=(issuer.url,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    issuer.go.set()
    for thread in threads:
        thread.join()
    assert [kids(found.keys(issuer.url)) for _ in range(5)] == [["one"]] * 5
    assert issuer.asked == [CONFIGURATION, KEYS]


def test_keys_are_refreshed_when_old(issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuers, "FRESH", 0.5)
    monkeypatch.setattr(issuers, "PAUSE", 0.05)
    found = believing(tmp_path, {"issuer": issuer.url})
    assert kids(found.keys(issuer.url)) == ["one"]
    issuer.rotate("two")
    assert kids(found.keys(issuer.url)) == ["one"]
    time.sleep(0.55)
    assert kids(found.keys(issuer.url)) == ["two"]


def test_a_new_key_is_fetched_when_a_token_names_it(issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An issuer that changes its key is not locked out until the old one is stale; made-up names make nobody ask all the time."""
    monkeypatch.setattr(issuers, "PAUSE", 0.3)
    found = believing(tmp_path, {"issuer": issuer.url})
    found.keys(issuer.url)
    issuer.rotate("two")
    for n in range(50):
        assert kids(found.keys(issuer.url, f"made-up-{n}")) == ["one"]
    assert len(issuer.asked) == 2
    time.sleep(0.35)
    assert kids(found.keys(issuer.url, "one")) == ["one"] and kids(found.keys(issuer.url, 7)) == ["one"]
    assert kids(found.keys(issuer.url, "two")) == ["two"]
    assert len(issuer.asked) == 4


BROKEN: list[tuple[str, int, bytes]] = [
    (CONFIGURATION, 200, b'{"issuer": "http://elsewhere", "jwks_uri": "http://elsewhere/keys"}'),
    (CONFIGURATION, 500, b""), (CONFIGURATION, 200, b"nonsense"), (CONFIGURATION, 200, b"\xff\xfe"), (CONFIGURATION, 200, b"[]"),
    (CONFIGURATION, 200, b"null"), (CONFIGURATION, 200, b"{}"), (CONFIGURATION, 302, b""), (CONFIGURATION, 200, b"{" * 100_000),
    (KEYS, 404, b""), (KEYS, 200, b'{"keys": []}'), (KEYS, 200, b'{"keys": [{"kty": "OKP"}]}'), (KEYS, 200, b'{"keys": [5]}'),
    (KEYS, 200, b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "!"}]}'), (KEYS, 200, b"[]"), (KEYS, 200, b"7"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "status", "body"), BROKEN)
def test_an_issuer_that_lies_or_says_nonsense(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, status: int, body: bytes
) -> None:
    """At first nobody is let in; later the last keys that it was honest about are used; afterwards it is believed again."""
    monkeypatch.setattr(issuers, "FRESH", 0.0)
    monkeypatch.setattr(issuers, "PAUSE", 0.0)
    found = believing(tmp_path, {"issuer": issuer.url})
    issuer.broken[path] = (status, body.replace(b"@", issuer.url.encode()))
    with pytest.raises(Unauthenticated):
        found.keys(issuer.url)
    issuer.broken.clear()
    assert kids(found.keys(issuer.url)) == ["one"]
    issuer.rotate("two")
    issuer.broken[path] = (status, body)
    assert kids(found.keys(issuer.url)) == ["one"]
    issuer.broken.clear()
    assert kids(found.keys(issuer.url)) == ["two"]


@pytest.mark.parametrize("uri", ["http://[::1", "ftp://127.0.0.1/keys", "/keys", "", 5, None, "http://127.0.0.1:1/keys"])
def test_an_address_of_keys_that_is_none(issuer: Issuer, tmp_path: Path, uri: object) -> None:
    found = believing(tmp_path, {"issuer": issuer.url})
    issuer.broken[CONFIGURATION] = (200, orjson.dumps({"issuer": issuer.url, "jwks_uri": uri}))
    with pytest.raises(Unauthenticated):
        found.keys(issuer.url)


def test_an_issuer_that_is_down(issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuers, "FRESH", 0.05)
    found = believing(tmp_path, {"issuer": issuer.url}, {"issuer": "http://127.0.0.1:1"})
    found.keys(issuer.url)
    issuer.server.shutdown()
    issuer.server.server_close()
    monkeypatch.setattr(issuers, "PAUSE", 0.0)
    time.sleep(0.06)
    assert kids(found.keys(issuer.url)) == ["one"]
    with pytest.raises(Unauthenticated):
        found.keys("http://127.0.0.1:1")


def test_who_has_keys_does_not_wait_for_an_issuer_that_hangs(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "FRESH", 0.05)
    monkeypatch.setattr(issuers, "PAUSE", 0.0)
    found = believing(tmp_path, {"issuer": issuer.url}, given(issuer))
    found.keys(issuer.url)
    time.sleep(0.06)
    issuer.go.clear()
    first = threading.Thread(target=found.keys, args=(issuer.url,))
    first.start()
    while len(issuer.asked) < 3:
        time.sleep(0.005)
    begun = time.monotonic()
    for _ in range(20):
        assert kids(found.keys(issuer.url)) == kids(found.keys("urn:given")) == ["one"]
    assert time.monotonic() - begun < 1
    issuer.go.set()
    first.join(10)


def test_only_named_issuers_and_only_by_their_whole_name(issuer: Issuer, tmp_path: Path) -> None:
    found = believing(tmp_path, {"issuer": issuer.url}, given(issuer))
    assert kids(found.keys("urn:given")) == ["one"]
    near = ("/", ":80", "#", "?", " ")
    for other in (*(issuer.url + n for n in near), issuer.url.upper(), "urn:give", "urn:given:x", "", "None", "../0.json"):
        with pytest.raises(Unauthenticated):
            found.keys(other)
    assert issuer.asked == []


def test_the_demonstration_is_believed_in_demonstrations_only(issuer: Issuer, tmp_path: Path) -> None:
    content = given(issuer, DEMO)
    assert kids(believing(tmp_path, content, demo=True).keys(DEMO)) == ["one"]
    with pytest.raises(Unauthenticated):
        believing(tmp_path, content, demo=False).keys(DEMO)
