"""Nothing of a reporter leaves the county: canaries in every field of a thousand reports, looked for everywhere in every writing.

A canary opens with a mark that nobody else writes, so that one search finds all of a kind; hashes are looked for one by one.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from PIL import Image

from deploy import client, issuer
from deploy.routers import openapi
from deploy.supervisor import Supervisor
from deploy.topology import load
from tests.federation.grounds import CHAIN, free_block, line, running, write

pytestmark = pytest.mark.timeout(600)
API = "/api/case/v1"
COUNTY = "650102"
COUNT = 1000
CONTACT_MARKS = ("Zq鸮Kontakt", "zQKontakt.", "990417729638")
"""How names and notes, mail addresses and telephone numbers open."""
TEXT_MARK, PHOTO_MARK = "Zq鸮Freitext", "Zq鸮Aufnahme"
"""How what the citizen wrote of the problem, and what a photo's file says outside of its pixels, open."""
ALL = (*CONTACT_MARKS, TEXT_MARK, PHOTO_MARK)
HEX = re.compile(rb"[0-9a-fA-F]{32,}")
HASHES: dict[str, Callable[[bytes], Any]] = {"md5": hashlib.md5, "sha1": hashlib.sha1, "sha256": hashlib.sha256}


def in_base64(raw: bytes) -> Iterator[bytes]:
    """The part of `raw` that is the same in base64 wherever it stands in a longer text."""
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + raw)
        inner = coded[4 if shift else 0 : (len(raw) + shift) // 3 * 4]
        yield from (inner, inner.translate(bytes.maketrans(b"+/", b"-_")))


WRITINGS: dict[str, Callable[[str], list[bytes]]] = {
    "raw": lambda t: [t.encode()],
    "folded": lambda t: [t.casefold().encode(), t.upper().encode()],
    "base64": lambda t: list(in_base64(t.encode())),
    "hex": lambda t: [t.encode().hex().encode(), t.encode().hex().upper().encode()],
    "quoted": lambda t: [quote(t).encode(), quote(t).lower().encode()],
    "json": lambda t: [json.dumps(t)[1:-1].encode(), json.dumps(t)[1:-1].upper().replace("\\U", "\\u").encode()],
    "utf16": lambda t: [t.encode("utf-16-le"), t.encode("utf-16-be")],
    "gbk": lambda t: [t.encode("gb18030")],
}


class Scanner:
    """Finds marks in every writing, and the unsalted hashes of whole canaries, in plain and in packed bytes."""

    def __init__(self, marks: tuple[str, ...], canaries: list[str]) -> None:
        found = {needle: f"{mark} {name}" for mark in marks for name, ways in WRITINGS.items() for needle in ways(mark)}
        self._marks = found
        self._pattern = re.compile(b"|".join(re.escape(n) for n in sorted(found, key=len, reverse=True)))
        self._hashes = {h(c.encode()).hexdigest(): f"{c} {name}" for c in canaries for name, h in HASHES.items()}
        self._lengths = sorted({len(h) for h in self._hashes})

    def hits(self, data: bytes, *, packed: bool = True) -> set[str]:
        """What was found: mark or canary, and how it was written."""
        found = {self._marks[m.group()] for m in self._pattern.finditer(data)}
        for run in HEX.finditer(data):
            text = run.group().decode().lower()
            for length in self._lengths:
                places = range(len(text) - length + 1)
                found |= {self._hashes[part] for n in places if (part := text[n : n + length]) in self._hashes}
        return found | (self._unpacked(data) if packed else set())

    def _unpacked(self, data: bytes) -> set[str]:
        found: set[str] = set()
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                found |= {f"{hit} packed" for name in packed.namelist() for hit in self.hits(packed.read(name), packed=False)}
        for start in re.finditer(rb"\x1f\x8b\x08", data):
            unpacker = zlib.decompressobj(wbits=31)
            try:
                inner = unpacker.decompress(data[start.start() :], 1 << 26)
            except zlib.error:
                continue
            found |= {f"{hit} packed" for hit in self.hits(inner, packed=False)}
        return found


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("sheet.xml", data)
    return out.getvalue()


@pytest.mark.parametrize("name", [*WRITINGS, *HASHES, "gzip", "zip"])
def test_the_scanner_finds_a_planted_canary(name: str) -> None:
    """The control: in each writing, in the middle of other bytes at every alignment, and nothing where nothing is."""
    for mark in ALL:
        canary = f"{mark}4711"
        scanner = Scanner(ALL, [canary])
        if name in HASHES:
            planted = [HASHES[name](canary.encode()).hexdigest().encode()]
        elif name == "gzip":
            planted = [gzip.compress(b"x" * 100 + canary.encode())]
        elif name == "zip":
            assert {h.split()[0] for h in scanner.hits(zipped(canary.encode()))} == {mark}
            continue
        elif name == "base64":
            planted = [base64.b64encode(b"x" * shift + canary.encode() + b"yz") for shift in range(3)]
        else:
            planted = WRITINGS[name](canary)
        for data in planted:
            assert scanner.hits(b"\x00\x01before" + data + b"after\xff"), (mark, data)
    assert Scanner(ALL, ["a"]).hits(b"nothing of that kind " + hashlib.sha256(b"b").hexdigest().encode()) == set()


def picture(n: int) -> bytes:
    """A photo whose file says more than its pixels."""
    exif = Image.Exif()
    exif[0x013B], exif[0x010E] = f"{PHOTO_MARK}{n}artist", f"{PHOTO_MARK}{n}description"
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (n % 256, n // 256, 99)).save(out, "JPEG", exif=exif, comment=f"{PHOTO_MARK}{n}comment".encode())
    return out.getvalue()


def contact(n: int) -> dict[str, Any]:
    name, address, number = CONTACT_MARKS
    return {"name": f"{name}{n}name", "email": f"{address}{n}@example.org", "phone": f"{number}{n:06d}", "note": f"{name}{n}note",
            "wants_reply": True}  # fmt: skip


def texts(n: int) -> dict[str, str]:
    return {what: f"{TEXT_MARK}{n}{what}" for what in ("text", "place", "addition", "opinion")}


def canaries() -> list[str]:
    """Every value of every field, as a whole."""
    of_contact = [str(v) for n in range(COUNT) for v in contact(n).values() if isinstance(v, str)]
    return of_contact + [t for n in range(COUNT) for t in texts(n).values()]


@dataclass
class Town:
    """A running federation with one county that citizens report to."""

    supervisor: Supervisor
    base: Path

    def url(self, code: str) -> str:
        return self.supervisor.topology.node(code).url.rstrip("/")

    def staff(self, role: str, node: str = COUNTY) -> dict[str, str]:
        return {"Authorization": f"Bearer {issuer.token(self.base, self.supervisor.topology, f'{role}-{node}')}"}

    def report(self, citizens: httpx.Client, n: int) -> None:
        """One citizen: files, and by turns adds something, encloses a photo, has himself forgotten, or takes it back."""
        said, mine = texts(n), f"{API}/reports/mine"
        body = {"category": "E0101", "lon": 87.62, "lat": 43.72, "text": said["text"], "place": said["place"]}
        filed = citizens.post(f"{API}/reports", json=body | {"contact": contact(n)})
        assert filed.status_code == 201, filed.text
        code = {"X-Tracking-Code": filed.json()["tracking_code"]}
        photo = {"file": (f"{PHOTO_MARK}{n}.jpg", picture(n), "image/jpeg")}
        steps: tuple[tuple[int, str, str, dict[str, Any]], ...] = (
            (5, "POST", "/additions", {"json": {"text": said["addition"]}}), (7, "GET", "", {}),
            (50, "POST", "/photos", {"files": photo}), (11, "POST", "/erasure", {}), (13, "POST", "/withdrawal", {}),
        )  # fmt: skip
        for every, method, what, more in steps:
            if n % every == 0:
                answer = citizens.request(method, f"{mine}{what}", headers=code, **more)
                assert answer.status_code in (200, 201), answer.text
        # Mistakes, so that what is refused is looked for as well.
        if n % 40 == 1:
            wrong = body | {"contact": contact(n) | {"phone": contact(n)["name"], "strange": contact(n)["email"]}}
            assert citizens.post(f"{API}/reports", json=wrong).status_code == 422
            reopening = citizens.post(f"{mine}/reopening", json={"opinion": said["opinion"]}, headers=code)
            assert reopening.status_code == 409, reopening.text
            assert citizens.get(f"{mine}/{contact(n)['email']}", headers=code).status_code == 404

    def open_some(self) -> None:
        """The hotline reads a few contacts, which must come out as they went in."""
        acceptor = self.staff("acceptor")
        with httpx.Client(base_url=self.url(COUNTY), headers=acceptor, timeout=60) as desk:
            found = 0
            for case in desk.get(f"{API}/cases", params={"limit": 30}).json()["items"]:
                answer = desk.post(f"{API}/cases/{case['id']}/reporter/opening", json={"reason": "call back, please"})
                found += answer.status_code == 200 and answer.json()["name"].startswith(CONTACT_MARKS[0])
            assert found >= 10

    def answers(self, code: str) -> Iterator[tuple[str, bytes]]:
        """Every list of a node in every form it has, everything about one case, and the metrics; errors as they are."""
        top = self.supervisor.topology.root.code
        listed = httpx.get(f"{self.url(COUNTY)}{API}/cases", headers=self.staff("auditor", top), timeout=60)
        first = listed.json()["items"][0]["id"]
        for role in ("auditor", "administrator"):
            # Each on a connection of its own, because an error inside ends the connection.
            headers = self.staff(role, top) | {"Connection": "close"}
            with httpx.Client(base_url=self.url(code), headers=headers, timeout=60) as reader:
                for path, query in addresses(first):
                    yield f"{role} {path} {query.get('format', '')}".strip(), reader.get(path, params=query).content


def addresses(case: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every address that answers something by itself or about `case`, with a query for each form that it offers."""
    for template, methods in openapi()["paths"].items():
        if "get" not in methods or template.endswith("/live"):
            continue
        known = {p["name"]: p["schema"] for p in methods["get"].get("parameters", []) if p["in"] == "query"}
        forms = known.get("format", {}).get("enum") or [None]
        query = ({"limit": 1000} if "limit" in known else {}) | ({"q": TEXT_MARK[3:]} if "q" in known else {})
        for kind in ("csv", "xlsx") if "{kind}" in template else ("",):
            path = template.replace("{kind}", kind).replace("{case_id}", case)
            if "{" not in path:
                yield from ((path, query | ({"format": form} if form else {})) for form in forms)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    base, first = tmp_path_factory.mktemp("privacy"), free_block()
    file = write(base / "t.toml", [line(c, p, first + n * 10) for n, (c, p) in enumerate(CHAIN[:3])])
    assert load(file).leaves() == [COUNTY]
    with running(file, base / "state") as supervisor:
        found = Town(supervisor, (base / "state").resolve())
        with ThreadPoolExecutor(4) as pool, httpx.Client(base_url=found.url(COUNTY), timeout=60) as citizens:
            list(pool.map(partial(found.report, citizens), range(COUNT)))
        found.open_some()
        truth = {(COUNTY, "E0101"): {"reported": COUNT}}
        assert client.settle(supervisor.topology.root.port, truth, supervisor.tend, 60), "all of it has reached the root"
        yield found


def test_every_report_is_there_and_its_text_stays_in_the_county_s_database(town: Town) -> None:
    """What is looked for below really went in: the texts are found where they belong, the contacts not even there."""
    scanner = Scanner(ALL, canaries())
    files = list((town.base / COUNTY).glob("node.db*")) + [town.base / COUNTY / "secrets" / "keys.db"]
    assert {f.name for f in files} >= {"node.db", "node.db-wal", "keys.db"}
    hits = set().union(*(scanner.hits(f.read_bytes()) for f in files))
    assert f"{TEXT_MARK} raw" in hits and {h for h in hits if not h.startswith(TEXT_MARK)} == set()
    with sqlite3.connect(f"file:{town.base / COUNTY / 'node.db'}?mode=ro", uri=True) as database:
        written = {t for (t,) in database.execute("SELECT text FROM case_cases")}
        assert written >= {texts(n)["text"] for n in range(COUNT)}
        sealed = database.execute("SELECT count(*) FROM case_reporters WHERE ciphertext IS NOT NULL").fetchone()[0]
        assert sealed == COUNT - len(range(0, COUNT, 11))


def test_nothing_is_in_any_other_file(town: Town) -> None:
    """Logs, settings, broker stores, photos, and everything of the nodes above, in eight writings, hashed, and packed."""
    scanner = Scanner(ALL, canaries())
    own = {f"{COUNTY}/node.db{end}" for end in ("", "-wal", "-shm")}
    seen: list[str] = []
    for path in sorted(town.base.rglob("*")):
        name = str(path.relative_to(town.base))
        if path.is_file() and name not in own:
            seen.append(name)
            assert scanner.hits(path.read_bytes()) == set(), name
    for code in ("650000", "650100", COUNTY):
        assert {f"{code}/node.log", f"{code}/broker.log"} <= {*seen} and any(n.startswith(f"{code}/jetstream/") for n in seen)
    assert any(n.endswith(".blk") for n in seen), "the brokers' stores were among them"
    for code in ("650000", "650100", COUNTY):
        monitor = json.loads((town.base / code / "node.json").read_bytes())["broker"]["monitor"]
        told = httpx.get(f"{monitor}/jsz", params={"streams": "true", "config": "true"}, timeout=10).json()
        streams = [s["config"] for account in told["account_details"] for s in account.get("stream_detail", [])]
        assert streams and {s.get("compression", "none") for s in streams} == {"none"}, "so that their blocks can be searched"
    assert {"650000/node.db", "650100/node.db"} <= {*seen}
    assert sum("objects" in n or "photos" in n for n in seen) >= len(range(0, COUNT, 50)), "so were the photos"


def test_nothing_is_in_the_events_nor_in_the_audit_log(town: Town) -> None:
    scanner = Scanner(ALL, canaries())
    for code in ("650000", "650100", COUNTY):
        with sqlite3.connect(f"file:{town.base / code / 'node.db'}?mode=ro", uri=True) as database:
            bodies = [b for (b,) in database.execute("SELECT body FROM log_entries")]
            assert len(bodies) >= COUNT and scanner.hits(b"\n".join(bodies)) == set()
            noted = [str(row) for row in database.execute("SELECT * FROM audit_entries")]
            assert scanner.hits("\n".join(noted).encode()) == set()
            if code == COUNTY:
                assert sum("open_contact" in row for row in noted) >= 10


@pytest.mark.parametrize("code", ["650000", "650100", COUNTY])
def test_nothing_is_in_any_list_export_or_metric(town: Town, code: str) -> None:
    """Contacts in no answer of any node. Texts in no answer above the county, and in no export of the county itself."""
    everything, contacts = Scanner(ALL, canaries()), Scanner((*CONTACT_MARKS, PHOTO_MARK), canaries()[: 4 * COUNT])
    asked, rich = [], 0
    for name, content in town.answers(code):
        asked.append(name)
        rich += len(content) > 1000
        exported = name.endswith((" csv", " geojson", ".csv", ".xlsx", "/metrics"))
        scanner = contacts if code == COUNTY and not exported else everything
        assert scanner.hits(content) == set(), name
    wanted = ("case/v1/cases csv", "case/v1/cases geojson", "case/v1/cases.xlsx", "evaluation/v1/cases csv", "case/v1/audit")
    assert {f"auditor /api/{path}" for path in wanted} | {"auditor /metrics"} <= {*asked} and rich >= 8
