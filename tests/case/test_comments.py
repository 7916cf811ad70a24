"""Comments and templates of answers over real HTTP on both databases: who may say what to whom, and that nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine

from services.case import comments, domain
from services.case.templates import PLACEHOLDERS, Template, fill
from services.case.words import Speech
from shared import audit
from shared.database import reading
from tests import served
from tests.served import LEAF, ROOT, Served, refused
from tests.world import desk

API = "/api/case/v1"


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, engine, LEAF) as found:
        yield found


def named(node: Served, name: str, *roles: str, department: str | None = None) -> dict[str, str]:
    more = {"department": department} if department else {}
    grants = [{"role": role, "node": ROOT, **more} for role in roles]
    return {"Authorization": f"Bearer {node.token(sub=name, sanji=grants)}"}


def case(node: Served) -> str:
    body = {"category": "E0101", "lon": 87.62, "lat": 43.72}
    answer = node.client.post(f"{API}/cases", json=body, headers=named(node, "eyes", "collector"))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def act(node: Served, case_id: str, action: str, *roles: str, **given: Any) -> None:
    version = node.client.get(f"{API}/cases/{case_id}", headers=node.as_("leader")).json()["version"]
    body = {"action": action, "version": version, **given}
    answer = node.client.post(f"{API}/cases/{case_id}/actions", json=body, headers=named(node, "desk", *roles))
    assert answer.status_code == 200, answer.text


def test_a_comment_stays_as_it_was_written(node: Served) -> None:
    case_id = case(node)
    url, author, other = f"{API}/cases/{case_id}/comments", named(node, "anna", "acceptor"), named(node, "bert", "dispatcher")
    first = node.client.post(url, json={"text": " 内部说明 "}, headers=author)
    assert first.status_code == 201, first.text
    assert first.json() | {"id": "", "at": ""} == {
        "id": "", "at": "", "case_id": case_id, "visibility": "internal", "text": "内部说明", "author": "anna", "version": 1,
        "withdrawn_at": None, "withdrawn_by": None, "withdrawn_reason": None,
    }  # fmt: skip
    second = node.client.post(url, json={"text": "将于周二处置", "visibility": "public"}, headers=other).json()
    assert [c["id"] for c in node.client.get(url, headers=other).json()] == [first.json()["id"], second["id"]]
    with reading(node.runtime.engine) as connection:
        assert [c["text"] for c in comments.public_of(connection, case_id)] == ["将于周二处置"]
        assert all(set(c) == {"id", "at", "text"} for c in comments.public_of(connection, case_id)), "no account leaves"

    away = f"{url}/{second['id']}/withdraw"
    refused(node.client.post(away, json={"reason": "不是我"}, headers=author), 403)
    refused(node.client.post(away, json={"reason": "  "}, headers=other), 422, "/reason")
    gone = node.client.post(away, json={"reason": "写错案卷"}, headers=other)
    assert (gone.status_code, gone.json()["withdrawn_by"], gone.json()["text"]) == (200, "bert", None)
    refused(node.client.post(away, json={"reason": "again"}, headers=other), 409)
    shown = {c["id"]: c["text"] for c in node.client.get(url, headers=author).json()}
    assert shown == {first.json()["id"]: "内部说明", second["id"]: None}
    kept = {c["id"]: c["text"] for c in node.client.get(url, headers=named(node, "rev", "auditor")).json()}
    assert kept[second["id"]] == "将于周二处置", "who looks after the fact still sees it"
    with reading(node.runtime.engine) as connection:
        assert comments.public_of(connection, case_id) == []
        noted = [e["action"] for e in audit.page(connection, audit.Sought(subject=case_id))]
    assert noted[:3] == ["withdraw_comment", "comment", "comment"]
    assert audit.verify(node.runtime.engine).fault == ""


def test_who_may_comment_and_what(node: Served) -> None:
    case_id = case(node)
    url = f"{API}/cases/{case_id}/comments"
    act(node, case_id, "file", "shift_supervisor", condition="1")
    act(node, case_id, "dispatch", "dispatcher", department="sanitation")
    mine, others = named(node, "d1", "department", department="sanitation"), named(node, "d2", "department", department="parks")
    assert node.client.post(url, json={"text": "已派人"}, headers=mine).status_code == 201
    refused(node.client.post(url, json={"text": "不归我"}, headers=others), 403)
    refused(node.client.post(url, json={"text": "您好", "visibility": "public"}, headers=mine), 403)
    refused(node.client.post(url, json={"text": "x"}, headers=node.as_("auditor")), 403)
    refused(node.client.post(url, json={"text": "x"}, headers=node.as_platform()), 403)
    refused(node.client.get(url, headers=node.as_platform()), 403)
    desk_ = named(node, "anna", "acceptor")
    for text in ("<b>bold</b>", "a\u0000b", "a\u0007b", "x" * 2001, "   "):
        refused(node.client.post(url, json={"text": text}, headers=desk_), 422, "/text")
    refused(node.client.post(url, json={"text": "x", "visibility": "secret"}, headers=desk_), 422, "/visibility")
    refused(node.client.post(f"{API}/cases/none/comments", json={"text": "x"}, headers=desk_), 404)
    refused(node.client.get(f"{API}/cases/none/comments", headers=desk_), 404)
    strange = f"{API}/cases/{case_id}/comments/0196a3c4/withdraw"
    refused(node.client.post(strange, json={"reason": "x"}, headers=desk_), 404)


HINT = {
    "action": "dispatch", "state": "filed", "title_zh": "限时处置", "title_en": "in time",
    "text_zh": "案卷{number}（{category}）请{department}于{due}前处置。",
    "text_en": "Please deal with {number} in {division} by {due}.",
}  # fmt: skip


def test_templates_are_filled_from_the_case(node: Served) -> None:
    boss, case_id = named(node, "boss", "administrator"), case(node)
    assert node.client.put(f"{API}/templates/hint", json=HINT, headers=boss).json()["code"] == "hint"
    anywhere = HINT | {"action": "refuse", "state": None, "text_zh": "不属实", "text_en": "Not found: {reported}"}
    assert node.client.put(f"{API}/templates/no", json=anywhere, headers=boss).status_code == 200
    url = f"{API}/cases/{case_id}/templates"
    (found,) = node.client.get(url, headers=node.as_("acceptor")).json()
    number = node.client.get(f"{API}/cases/{case_id}", headers=node.as_("leader")).json()["number"]
    assert found["code"] == "no" and found["text_en"].startswith("Not found: 20"), "only what can be done now"
    act(node, case_id, "file", "shift_supervisor", condition="1")
    (found,) = node.client.get(f"{url}?action=dispatch", headers=node.as_("dispatcher")).json()
    assert number in found["text_zh"] and "（未定）" in found["text_zh"], "a case without a department says so"
    assert "{" not in found["text_zh"] + found["text_en"]
    assert node.client.get(f"{url}?action=close", headers=node.as_("dispatcher")).json() == []
    refused(node.client.get(f"{url}?actoin=close", headers=node.as_("dispatcher")), 422)
    refused(node.client.put(f"{API}/templates/x", json=HINT, headers=node.as_("dispatcher")), 403)
    assert {t["code"] for t in node.client.get(f"{API}/templates", headers=boss).json()} == {"hint", "no"}
    assert node.client.delete(f"{API}/templates/hint", headers=boss).json() == {"removed": "hint"}
    refused(node.client.delete(f"{API}/templates/hint", headers=boss), 404)


@pytest.mark.parametrize(
    ("field", "value"),
    [("text_zh", "{reporter}"), ("text_zh", "{number"), ("text_en", "}"), ("text_en", "{}"), ("text_zh", "{number!r}"),
     ("text_en", "{number.__class__}"), ("text_en", "{ number }"), ("text_zh", ""), ("state", "closed"), ("action", "fly")],
)  # fmt: skip
def test_a_template_that_could_fail_is_refused(field: str, value: str) -> None:
    assert Template.model_validate(HINT)
    with pytest.raises(ValidationError):
        Template.model_validate(HINT | {field: value})


def test_filling_never_fails(engine: Engine) -> None:
    """Every placeholder, of a case that lacks all that a case may lack; and what looks like one but was never checked."""
    at = desk(engine)
    at.report()
    bare = {"number": "99-1", "category": "gone", "edition": "gone", "due_at": None, "reported_at": "2026-03-02T01:00:00.000000Z",
            "department": None, "division": "99"}  # fmt: skip
    with reading(engine) as connection:
        for language in ("zh", "en"):
            speech = Speech(at.around, lambda _: {}, connection, language)
            for name in PLACEHOLDERS:
                assert "{" not in fill(f"a {{{name}}} b", bare, speech)
            assert fill("{nobody}", bare, speech) in ("（未定）", "(not set)")
            assert len(fill("{category}" * 400, bare | {"category": "x" * 20}, speech)) == 2000
    assert {s.action for s in domain.WORKFLOW} >= {"dispatch", "refuse"}
