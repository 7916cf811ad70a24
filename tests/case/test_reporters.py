"""Reporters over real HTTP: filing and following without an account, what staff may open and why, what nobody finds out."""

from __future__ import annotations

import io
import itertools
import random
import secrets
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from sqlalchemy import Engine, select

from services.case import tracking
from services.case.domain import STATES
from services.case.following import PHASES
from services.case.reporters import additions, reporters
from services.case.tables import cases
from shared import audit
from shared.database import reading
from shared.settings import Limits
from tests import served
from tests.served import LEAF, Served, refused

API = "/api/case/v1"
REPORTS, MINE = f"{API}/reports", f"{API}/reports/mine"
PLACE = {"category": "E0101", "lon": 87.62, "lat": 43.72}
CONTACT = {"name": "王小明", "phone": "138 0000 1234", "email": "w@example.org", "note": "call after six", "wants_reply": True}
WHY = {"reason": "call back about the repair"}


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, engine, LEAF, limits=Limits(nameless="1000000/minute")) as found:
        yield found


def file(node: Served, **more: Any) -> dict[str, str]:
    answer = node.client.post(REPORTS, json=PLACE | more)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, str] = answer.json()
    return found


def mine(node: Served, code: str, what: str = "", body: Any = None) -> httpx.Response:
    headers = {"X-Tracking-Code": code}
    if not what:
        return node.client.get(MINE, headers=headers)
    return node.client.post(f"{MINE}/{what}", headers=headers, json=body)


def followed(node: Served, code: str) -> dict[str, Any]:
    answer = mine(node, code)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def id_of(node: Served, number: str) -> str:
    with reading(node.runtime.engine) as connection:
        return str(connection.execute(select(cases.c.id).where(cases.c.number == number)).scalar_one())


def filed(node: Served, **more: Any) -> tuple[str, str]:
    """(id, tracking code) of a new report."""
    answer = file(node, **more)
    return id_of(node, answer["number"]), answer["tracking_code"]


def step(node: Served, case: str, action: str, role: str, **more: Any) -> None:
    path = f"{API}/cases/{case}"
    version = node.client.get(path, headers=node.as_("auditor")).json()["version"]
    headers = {"Authorization": f"Bearer {node.token(role, sub=f'the {role}')}"}
    answer = node.client.post(f"{path}/actions", json={"action": action, "version": version} | more, headers=headers)
    assert answer.status_code == 200, answer.text


def entries(node: Served, **query: Any) -> list[dict[str, Any]]:
    answer = node.client.get(f"{API}/audit", params=query, headers=node.as_("auditor"))
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def staff(node: Served, case: str, what: str, role: str, body: Any) -> httpx.Response:
    return node.client.post(f"{API}/cases/{case}/reporter{what}", json=body, headers=node.as_(role))


def test_a_report_is_followed_from_filing_to_closing(node: Served) -> None:
    case, code = filed(node, text="a lamp is out", contact=CONTACT)
    first = followed(node, code)
    assert first["phase"]["code"] == "received" and first["can"] == ["withdraw"] and first["contact"]
    walk: list[tuple[str, str, dict[str, str]]] = [
        ("ask_verification", "acceptor", {}), ("verify", "collector", {"result": "exist"}), ("accept", "acceptor", {}),
        ("file", "shift_supervisor", {"condition": "1"}), ("dispatch", "dispatcher", {"department": "lamps"}),
        ("assign", "department", {"handler": "handler7"}), ("finish", "department", {"opinion": "done by Zhang"}),
        ("handle", "department", {}), ("ask_check", "acceptor", {}), ("pass_check", "checker", {}),
        ("close", "shift_supervisor", {"means": "service", "closing": "1"}),
    ]  # fmt: skip
    for action, role, more in walk:
        step(node, case, action, role, **more)
    last = followed(node, code)
    codes = [p["code"] for p in last["timeline"]]
    assert codes == ["received", "verifying", "received", "accepted", "filed", "handling", "checking", "closed"]
    assert all(p["zh"] and p["en"] and p["at"] for p in last["timeline"]) and last["can"] == ["reopen"] and last["ended_at"]
    told = str(last)
    assert not [w for w in ("the acceptor", "handler7", "Zhang", "lamps", case, "王小明") if w in told]


def test_every_state_has_words(node: Served) -> None:
    assert set(PHASES) == set(STATES) and all(p.zh and p.en for p in PHASES.values())


def test_a_report_is_withdrawn_by_its_reporter_and_by_nobody_twice(node: Served) -> None:
    case, code = filed(node)
    answer = mine(node, code, "withdrawal")
    assert answer.status_code == 200 and answer.json()["phase"]["code"] == "withdrawn" and answer.json()["can"] == []
    refused(mine(node, code, "withdrawal"), 409)
    refused(mine(node, code, "additions", {"text": "one thing more"}), 409, "/text")
    (entry,) = entries(node, subject=case, action="withdraw")
    assert (entry["actor"], entry["roles"]) == ("reporter", ["reporter"])


def test_a_closed_case_is_reopened_with_a_reason(node: Served) -> None:
    case, code = filed(node)
    refused(mine(node, code, "reopening", {"opinion": "it is not mended"}), 409)
    step(node, case, "ask_verification", "acceptor")
    step(node, case, "verify", "collector", result="exist")
    step(node, case, "file", "shift_supervisor", condition="1")
    step(node, case, "force_close", "administrator", opinion="an order from above")
    forced = followed(node, code)
    assert forced["phase"]["code"] == "closed"
    refused(mine(node, code, "reopening", {}), 422, "/opinion")


def test_what_is_added_is_read_by_staff_and_bounded(node: Served) -> None:
    case, code = filed(node)
    for n in range(20):
        assert mine(node, code, "additions", {"text": f"more {n}"}).status_code == 201
    refused(mine(node, code, "additions", {"text": "too much"}), 409, "/text")
    refused(mine(node, code, "additions", {"text": "<b>bold</b>"}), 422, "/text")
    read = node.client.get(f"{API}/cases/{case}/additions", headers=node.as_("dispatcher"))
    assert [a["text"] for a in read.json()] == [f"more {n}" for n in range(20)]
    assert followed(node, code)["additions"] == read.json()
    refused(node.client.get(f"{API}/cases/{case}/additions"), 401)


def picture(colour: str) -> bytes:
    """A JPEG that says, outside of its pixels, where and by whom it was taken."""
    exif = Image.Exif()
    exif[0x013B] = "taken by 王小明"
    out = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(out, "JPEG", exif=exif, comment=b"13800001234")
    return out.getvalue()


def test_a_reporter_encloses_a_few_photos_that_say_nothing_of_him(node: Served) -> None:
    case, code = filed(node)

    def enclose(colour: str, code: str = code, **said: str) -> httpx.Response:
        files = {"file": ("IMG_王小明.jpg", picture(colour), "image/jpeg")}
        return node.client.post(f"{MINE}/photos", headers={"X-Tracking-Code": code}, files=files, data=said)

    refused(enclose("red", tracking.draw().shown), 404)
    refused(enclose("red", kind="after"), 422, "/kind")
    assert enclose("red").json()["kind"] == "near" and enclose("green", kind="far").status_code == 201
    assert enclose("blue").status_code == 201
    refused(enclose("black"), 409, "/photos")
    listed = node.client.get(f"{API}/cases/{case}/photos", headers=node.as_("acceptor")).json()["items"]
    assert [p["added_by_role"] for p in listed] == ["reporter"] * 3
    for photo in listed:
        shown = node.client.get(f"{API}/cases/{case}/photos/{photo['id']}", headers=node.as_("acceptor"))
        assert shown.status_code == 200 and b"1380000" not in shown.content and "王".encode() not in shown.content
    assert mine(node, code, "withdrawal").status_code == 200
    refused(enclose("white"), 409, "/case")


def test_a_repeated_filing_is_one_case(node: Served) -> None:
    """The answer of the first was lost: the second gets the same number and a code of its own, and the lost one is void."""
    key = {"Idempotency-Key": secrets.token_urlsafe(24)}
    body = PLACE | {"text": "a lamp", "contact": CONTACT}
    first, second = (node.client.post(REPORTS, json=body, headers=key).json() for _ in range(2))
    assert first["number"] == second["number"] and first["tracking_code"] != second["tracking_code"]
    assert followed(node, second["tracking_code"])["number"] == first["number"]
    refused(mine(node, first["tracking_code"]), 404)
    refused(node.client.post(REPORTS, json=body | {"text": "two lamps"}, headers=key), 409, "/idempotency-key")
    refused(node.client.post(REPORTS, json=body, headers={"Idempotency-Key": "1"}), 422)


@pytest.mark.parametrize(
    ("contact", "field"),
    [
        ({"name": "<script>alert(1)</script>"}, "/contact/name"), ({"name": "a" * 81}, "/contact/name"),
        ({"name": ""}, "/contact/name"), ({"phone": "call me"}, "/contact/phone"), ({"phone": "1" * 40}, "/contact/phone"),
        ({"email": "nowhere"}, "/contact/email"), ({"email": "a@b\nBcc: c@d"}, "/contact/email"),
        ({"wants_reply": True, "name": "王"}, "/contact"), ({"language": "中文"}, "/contact/language"),
        ({"id_number": "1"}, "/contact/id_number"), ({"note": "n" * 501}, "/contact/note"),
    ],
)  # fmt: skip
def test_contact_data_are_validated_and_never_repeated(node: Served, contact: dict[str, Any], field: str) -> None:
    """The problem document says what is wrong with which field and does not say what was in it."""
    answer = node.client.post(REPORTS, json=PLACE | {"contact": contact})
    refused(answer, 422, field)
    values = [v for v in contact.values() if isinstance(v, str) and len(v) > 1]
    assert not [v for v in values if v in answer.text]
    with reading(node.runtime.engine) as connection:
        assert connection.execute(select(cases.c.id)).first() is None, "nothing is half-done"


def test_contact_data_are_opened_by_role_and_reason_and_noted_before_they_are_answered(node: Served) -> None:
    case, _ = filed(node, contact=CONTACT)
    opened = staff(node, case, "/opening", "acceptor", WHY)
    assert opened.status_code == 200 and opened.headers["cache-control"] == "no-store"
    assert opened.json() == CONTACT | {"language": "zh"}
    (entry,) = entries(node, kind="reporter", subject=case)
    assert (entry["action"], entry["actor"], entry["reason"]) == ("open_contact", "somebody", WHY["reason"])
    for role in ("collector", "dispatcher", "department", "handler", "checker", "leader", "evaluator", "auditor", "integrator"):
        refused(staff(node, case, "/opening", role, WHY), 403)
    refused(staff(node, case, "/opening", "acceptor", {"reason": "why"}), 422, "/reason")
    refused(staff(node, case, "/opening", "acceptor", {}), 422, "/reason")
    refused(node.client.post(f"{API}/cases/{case}/reporter/opening", json=WHY), 401)
    assert len(entries(node, action="open_contact")) == 1, "what was refused opened nothing"
    assert audit.verify(node.runtime.engine).fault == ""


def test_no_opening_without_its_entry(node: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the entry cannot be written the data stay shut; where something fails after it, neither entry nor answer is there."""
    case, _ = filed(node, contact=CONTACT)

    def broken(*_: Any, **__: Any) -> int:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(audit, "note", broken)
        assert "138" not in refused(staff(node, case, "/opening", "acceptor", WHY), 500)["detail"]
    node.runtime.extra["custody"].vault.destroy((date.today() + timedelta(days=90)).isoformat()[:7])
    refused(staff(node, case, "/opening", "acceptor", WHY), 404)
    assert entries(node, action="open_contact") == []


def test_without_contact_nothing_is_sealed(node: Served) -> None:
    for contact in (None, {}, {"language": "en"}):
        case, code = filed(node, contact=contact)
        assert not followed(node, code)["contact"]
        refused(staff(node, case, "/opening", "acceptor", WHY), 404, "/case")
    with reading(node.runtime.engine) as connection:
        assert [tuple(r) for r in connection.execute(select(reporters.c.bucket, reporters.c.ciphertext))] == [(None, None)] * 3


def test_the_hotline_registers_on_behalf(node: Served) -> None:
    case = node.client.post(f"{API}/cases", json=PLACE | {"channel": "hotline"}, headers=node.as_("acceptor")).json()["id"]
    refused(staff(node, case, "", "dispatcher", CONTACT), 403)
    given = staff(node, case, "", "acceptor", CONTACT)
    assert given.status_code == 201 and followed(node, given.json()["tracking_code"])["contact"]
    refused(staff(node, case, "", "acceptor", CONTACT), 409, "/case")
    refused(staff(node, "nothing", "", "acceptor", CONTACT), 404)
    for path in ("reporter", "additions"):
        refused(node.client.get(f"{API}/cases/nothing/{path}", headers=node.as_("acceptor")), 404)
    assert [e["action"] for e in entries(node, kind="reporter", subject=case)] == ["keep_contact"]
    shown = node.client.get(f"{API}/cases/{case}/reporter", headers=node.as_("dispatcher")).json()
    assert shown["code"] and shown["contact"] and shown["expires_on"] and not shown["lost"]
    assert "138" not in str(shown)


def test_a_reporter_has_his_data_erased_at_once(node: Served) -> None:
    case, code = filed(node, contact=CONTACT)
    assert mine(node, code, "erasure").json() == {"erased": True}
    assert mine(node, code, "erasure").json() == {"erased": False}
    assert followed(node, code)["contact"] is False, "the code is still good for following"
    assert "erased on" in refused(staff(node, case, "/opening", "acceptor", WHY), 404)["detail"]
    other, _ = filed(node, contact=CONTACT)
    assert staff(node, other, "/erasure", "acceptor", {"reason": "asked for on the phone"}).json() == {"erased": True}
    noted = [(e["actor"], e["subject"]) for e in entries(node, action="erase_contact")]
    assert noted == [("somebody", other), ("reporter", case)]


def test_it_is_kept_for_longer_only_with_a_reason_and_within_bounds(node: Served) -> None:
    case, _ = filed(node, contact=CONTACT)
    today, why = date.today(), {"reason": "an objection is open"}
    later = (today + timedelta(days=200)).isoformat()
    assert staff(node, case, "/prolongation", "administrator", why | {"until": later}).json()["expires_on"] == later
    for until in (today - timedelta(days=1), today + timedelta(days=30), today + timedelta(days=500)):
        refused(staff(node, case, "/prolongation", "administrator", why | {"until": until.isoformat()}), 422, "/until")
    refused(staff(node, case, "/prolongation", "acceptor", why | {"until": later}), 403)
    assert staff(node, case, "/opening", "acceptor", WHY).json()["name"] == CONTACT["name"]


def test_guessing_finds_nothing(node: Served) -> None:
    """Ten thousand codes that are right in form, and codes that are near a right one: always the same answer."""
    count = 10_000 if node.runtime.engine.dialect.name == "sqlite" else 1_000
    codes = [file(node)["tracking_code"] for _ in range(50)]
    answers = {mine(node, tracking.draw().shown).text for _ in range(count)}
    near = [codes[0][:-1], codes[0] + "0", codes[0][::-1], "", "-", "0", "'; DROP TABLE case_reporters; --", "x" * 9000]
    answers |= {mine(node, code).text for code in near}
    answers.add(node.client.get(MINE, headers={b"X-Tracking-Code": b"\xe7\x8e\x8b\xff"}).text)
    assert len(answers) == 1 and '"status":404' in answers.pop()
    assert {followed(node, code)["number"] for code in codes} and node.client.get(MINE).status_code == 422


def test_a_code_is_read_as_people_say_it() -> None:
    code = tracking.draw()
    groups = code.shown.split("-")
    assert [len(g) for g in groups] == [3] * 9 and not set("ILOU-") & set("".join(groups))
    for spoken in (code.shown.lower(), code.shown.replace("-", " "), "".join(groups), f" {code.shown}\t"):
        assert tracking.hashed(spoken) == code.hash
    assert tracking.hashed("".join(groups).replace("0", "o").replace("1", "l")) == code.hash
    assert len({tracking.draw().shown for _ in range(1000)}) == 1000


def test_one_wrong_character_and_two_swapped_ones_are_noticed() -> None:
    """By the check character, which is nothing but help: neither finds a report."""
    code = tracking.draw()
    plain = code.shown.replace("-", "")
    values = [tracking.ALPHABET.index(c) for c in plain]
    check = tracking._check
    for place, wrong in itertools.product(range(len(values) - 1), range(32)):
        if wrong != values[place]:
            assert check([*values[:place], wrong, *values[place + 1 : -1]]) != values[-1]
    for one, two in itertools.combinations(range(len(values) - 1), 2):
        if values[one] != values[two]:
            swapped = values[:]
            swapped[one], swapped[two] = swapped[two], swapped[one]
            assert check(swapped[:-1]) != values[-1]
    assert tracking.hashed(plain[:-1] + random.choice([c for c in tracking.ALPHABET if c != plain[-1]])) != code.hash


def test_no_column_holds_a_person(node: Served) -> None:
    """What is stored of a report with everything in it: the code's hash and sealed bytes, not one of the words."""
    case, code = filed(node, contact=CONTACT)
    mine(node, code, "additions", {"text": "more"})
    with reading(node.runtime.engine) as connection:
        row = connection.execute(select(reporters)).mappings().one()
        stored = b" ".join(str(v).encode() if not isinstance(v, bytes | memoryview) else bytes(v) for v in row.values())
        assert connection.execute(select(additions.c.case_id)).scalar_one() == case
    assert not [v for v in CONTACT.values() if isinstance(v, str) and v.encode() in stored] and code.encode() not in stored
    assert set(reporters.columns.keys()) == {
        "case_id", "tracking_hash", "kept_at", "bucket", "wrapped", "nonce", "ciphertext", "expires_on", "erased_at", "lost",
    }  # fmt: skip


def test_the_audit_log_is_read_by_its_offices_in_pages(node: Served) -> None:
    made = [filed(node, contact=CONTACT)[0] for _ in range(5)]
    for case in made:
        staff(node, case, "/opening", "acceptor", WHY)
    pages, before = [], None
    while True:
        query = {"action": "open_contact", "limit": 2} | ({"before": before} if before else {})
        page = node.client.get(f"{API}/audit", params=query, headers=node.as_("administrator")).json()
        pages.append([e["subject"] for e in page["items"]])
        before = page["next"]
        if before is None:
            break
    assert [len(p) for p in pages] == [2, 2, 1] and [c for p in pages for c in p] == made[::-1]
    now = entries(node, action="open_contact")[0]["at"]
    assert entries(node, since=now, until=now) == []
    refused(node.client.get(f"{API}/audit", headers=node.as_("acceptor")), 403)
    refused(node.client.get(f"{API}/audit", params={"since": "then"}, headers=node.as_("auditor")), 422, "/since")
    refused(node.client.get(f"{API}/audit", params={"who": "me"}, headers=node.as_("auditor")), 422, "/who")
