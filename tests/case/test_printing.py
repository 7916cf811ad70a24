"""The printed case file over real HTTP: what stands on it in both languages, what never does, and that printing is noted."""

from __future__ import annotations

import base64
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import Engine

from services.case import paper, words
from services.case.domain import STATES, WORKFLOW
from services.case.telling import EVENTS
from shared import audit
from shared.auth import ROLES
from shared.database import reading
from tests import served
from tests.served import LEAF, ROOT, Served, refused

API = "/api/case/v1"
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


def literal(raw: bytes) -> bytes:
    """The bytes of a PDF string without its escapes."""

    def one(found: re.Match[bytes]) -> bytes:
        said = found[1]
        return bytes([int(said, 8)]) if said[:1].isdigit() else ESCAPES.get(said, said)

    return re.sub(rb"\\([0-7]{1,3}|.)", one, raw, flags=re.S)


def text_of(pdf: bytes) -> str:
    """All text of a file, by the rules of the format: strings as they are drawn, each in its font's encoding."""
    chinese = set(re.findall(rb"/Encoding /UniGB-UCS2-H /Name /(F\d+)", pdf))
    assert chinese, "the font is there"
    found = []
    for stream in re.findall(rb"/ASCII85Decode /FlateDecode.*?stream\r?\n(.*?)endstream", pdf, re.S):
        content = zlib.decompress(base64.a85decode(stream.strip().removesuffix(b"~>")))
        font = b""
        for name, string in re.findall(rb"/(F\d+)\S* [\d.]+ Tf|\(((?:\\.|[^\\()])*)\) Tj", content, re.S):
            font = name or font
            if not name:
                raw = literal(string)
                found.append(raw.decode("utf-16-be") if font in chinese else raw.decode("latin-1"))
    return "".join(found)


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, engine, LEAF) as found:
        yield found


def named(node: Served, name: str, *roles: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {node.token(sub=name, sanji=[{'role': r, 'node': ROOT} for r in roles])}"}


CONTACT = {"name": "王小明", "phone": "+86 991 777 8888", "email": "xiaoming@private.example", "note": "下午再打"}
STEPS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("accept", "acceptor", {}),
    ("file", "shift_supervisor", {"condition": "1"}),
    ("dispatch", "dispatcher", {"department": "sanitation"}),
    ("supervise", "leader", {"opinion": "请加快 < & 办理", "reply_by": "2099-01-01T00:00:00+08:00"}),
)


def a_case(node: Served) -> str:
    """A citizen's report with contact data, taken up, filed, dispatched and urged, with comments."""
    told = {"category": "E0101", "lon": 87.62, "lat": 43.72, "text": "门前 <挖坑> 未填\nئۇ", "place": "解放路 12 号"}
    made = node.client.post(f"{API}/reports", json=told | {"contact": CONTACT})
    assert made.status_code == 201, made.text
    (case,) = node.client.get(f"{API}/cases", headers=named(node, "x", "leader")).json()["items"]
    boss = named(node, "boss", "administrator", "acceptor")
    policy = node.client.get(f"{API}/policy").json()
    free = {"edition": policy["edition"], "policy": policy["policy"] | {"verify": []}}
    assert node.client.put(f"{API}/policy", json=free, headers=boss).status_code == 200
    for n, (action, role, given) in enumerate(STEPS, 1):
        body = {"action": action, "version": n, **given}
        done = node.client.post(f"{API}/cases/{case['id']}/actions", json=body, headers=named(node, f"acc-{role}", role))
        assert done.status_code == 200, done.text
    for visibility, text in (("internal", "只给内部看的话"), ("public", "给公众看的话")):
        sent = {"visibility": visibility, "text": text}
        assert node.client.post(f"{API}/cases/{case['id']}/comments", json=sent, headers=boss).status_code == 201
    return str(case["id"])


def printed(node: Served, case: str, query: str = "", name: str = "printer") -> bytes:
    answer = node.client.get(f"{API}/cases/{case}/file.pdf{query}", headers=named(node, name, "dispatcher"))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/pdf" and answer.headers["cache-control"] == "no-store"
    assert answer.content.startswith(b"%PDF-") and answer.content.rstrip().endswith(b"%%EOF")
    return answer.content


def test_what_stands_on_a_printed_file(node: Served) -> None:
    case = a_case(node)
    number = node.client.get(f"{API}/cases/{case}", headers=named(node, "x", "leader")).json()["number"]
    raw = printed(node, case)
    chinese = text_of(raw)
    wanted = (
        f"案卷{number}", "待处置", "公众上报", "87.620000", "43.720000", "解放路12号", "门前<挖坑>未填", "计时", "受理",
        "办理过程", "督办", "请加快<&办理", "acc-dispatcher（派遣员）", "给公众看的话", "由printer打印", "第1页",
    )  # fmt: skip
    for word in wanted:
        assert word.replace(" ", "") in chinese.replace(" ", ""), word
    assert "只给内部看的话" not in chinese
    assert "有2个字符本字体无法打印" in chinese.replace(" ", ""), "what the font has not is said to be missing"
    english = text_of(printed(node, case, "?lang=en&internal=true"))
    for word in ("Casefile", "withadepartment", "longitude87.620000", "Timeline", "只给内部看的话", "byprinter,page1of"):
        assert word in english.replace(" ", ""), word
    assert re.search(rb"/MediaBox \[ 0 0 595\.\d+ 841\.\d+ \]", raw), "A4"
    for value in CONTACT.values():
        for shown in (chinese, english):
            assert value.replace(" ", "") not in shown.replace(" ", "")


def test_printing_is_noted(node: Served) -> None:
    case = a_case(node)
    printed(node, case, "?internal=true", "curious")
    with reading(node.runtime.engine) as connection:
        (entry,) = audit.page(connection, audit.Sought(action="print"))
    assert (entry["actor"], entry["subject"], entry["roles"]) == ("curious", case, ["dispatcher"])
    assert entry["detail"] == {"lang": "zh", "internal": True, "version": 5}


def test_photos_are_on_it_and_withheld_ones_are_not(node: Served) -> None:
    case, out = a_case(node), io.BytesIO()
    Image.effect_noise((640, 480), 60).convert("RGB").save(out, "JPEG")
    url, desk = f"{API}/cases/{case}/photos", named(node, "a", "acceptor")
    sent = node.client.post(url, data={"kind": "near"}, files={"file": ("a.jpg", out.getvalue())}, headers=desk)
    assert sent.status_code == 201, sent.text
    raw = printed(node, case)
    assert raw.count(b"/Subtype /Image") == 1 and "近景" in text_of(raw)
    hide = {"withheld": True, "reason": "a face is to be seen"}
    answer = node.client.post(f"{url}/{sent.json()['id']}/withhold", json=hide, headers=desk)
    assert answer.status_code == 200, answer.text
    assert b"/Subtype /Image" not in printed(node, case)


def test_who_may_print_what(node: Served) -> None:
    case = a_case(node)
    refused(node.client.get(f"{API}/cases/{case}/file.pdf"), 401)
    refused(node.client.get(f"{API}/cases/{case}/file.pdf", headers=node.as_platform()), 403)
    refused(node.client.get(f"{API}/cases/none/file.pdf", headers=named(node, "x", "leader")), 404)
    refused(node.client.get(f"{API}/cases/{case}/file.pdf?lang=fr", headers=named(node, "x", "leader")), 422)
    refused(node.client.get(f"{API}/cases/{case}/file.pdf?langs=en", headers=named(node, "x", "leader")), 422)


TEXTS = ["字" * 4000, "word " * 900, "行\n" * 2000, "x" * 3000, "", "<br/>&nbsp;</para>", "\n", "→①Ж" * 50]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_any_text_can_be_printed(text: str) -> None:
    """However long, however many lines, whatever looks like markup: the file is made and nothing of the text is lost."""
    sheet = paper.Sheet()
    sheet.title("t")
    sheet.pairs([("name", text), ("place", "somewhere")])
    sheet.line(text)
    sheet.table(["a", "b"], [["1", text], [text, "2"]], (0.4, 0.6))
    made = text_of(sheet.made("t", lambda n, of: f"{n}/{of} 页"))
    plain = re.sub(r"\s", "", text)
    assert sum(made.count(c) for c in set(plain)) >= 4 * len(plain)


def test_a_picture_that_is_none_leaves_its_line() -> None:
    sheet = paper.Sheet()
    sheet.pictures([(b"not a picture", "近景"), (b"", "远景")])
    assert "近景" in text_of(sheet.made("t", lambda n, of: f"{n} 页"))


def test_what_the_font_has_not_is_counted() -> None:
    assert paper.printable("街道 street 12→Ж\n") == ("街道 street 12→Ж\n", 0)
    assert paper.printable("a\U0001f642ئ") == ("a□□", 2)


def test_everything_has_a_word() -> None:
    """A state, an event or a role that is added needs its words in both languages."""
    assert set(words.STATES) == set(STATES) and set(words.EVENTS) == set(EVENTS)
    assert {r for s in WORKFLOW for r in s.roles} | ROLES == set(words.ROLES)
    for pairs in (words.STATES, words.EVENTS, words.STAGES, words.CHANNELS, words.ROLES):
        assert all(pair.zh and pair.en for pair in pairs.values())
    assert words.action("filed", "dispatch", "zh") == "派遣" and words.action("filed", "fly", "zh") == "fly"
