"""Lists as files: what a spreadsheet reads back, what it must not run, how long a list may be, and who is noted for taking it."""

from __future__ import annotations

import csv
import io
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from openpyxl import load_workbook
from sqlalchemy import Engine

from services.case import export, lists_api
from services.case.export import NAMES, write
from services.case.queries import PUBLIC
from shared import audit
from shared.database import reading
from shared.errors import Invalid
from tests import served
from tests.case.clerks import Office
from tests.served import Served, refused

AT, ZONE = datetime(2026, 3, 4, tzinfo=UTC), ZoneInfo("Asia/Shanghai")
API = "/api/case/v1"
EVIL = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", '=HYPERLINK("http://x")']
ODD = ['a"b,c\nd', "<b>&amp;</b>", "数据 ", "\x01\x1f", "", None]
HEADER = [f"{zh} {en}" for zh, en in NAMES.values()]


def row(**more: Any) -> dict[str, Any]:
    return dict.fromkeys(NAMES) | dict.fromkeys(("reported_at", "changed_at"), "2026-03-01T17:00:00.000000Z") | more


def test_the_columns_are_what_leaves_the_service() -> None:
    assert set(NAMES) == {*PUBLIC, "light"}
    assert all(zh and en and zh != en for zh, en in NAMES.values())


def read(kind: str, data: bytes) -> list[dict[str, Any]]:
    """A file as a spreadsheet reads it, by the names of our columns."""
    if kind == "csv":
        assert data.startswith("\ufeff".encode())
        lines: list[Any] = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    else:
        (sheet,) = load_workbook(io.BytesIO(data)).worksheets
        lines = [[cell.value for cell in line] for line in sheet.iter_rows()]
        assert all(cell.data_type in ("s", "n", "b", "inlineStr") for line in sheet.iter_rows() for cell in line), "no formula"
    assert [str(name).split(" (")[0] for name in lines[0]] == HEADER
    return [dict(zip(NAMES, line, strict=True)) for line in lines[1:]]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_what_is_read_back(kind: Any) -> None:
    rows = [row(department=text, lon=-1.5, on_time=True, version=7, warn_at=None, late_at=None) for text in EVIL + ODD]
    file = io.BytesIO()
    assert write(file, kind, rows, ZONE, AT) == len(EVIL + ODD)
    found = read(kind, file.getvalue())
    clean = [t and t.translate({1: None, 31: None}) if kind == "xlsx" else t for t in EVIL + ODD]
    # XML knows one kind of line end; openpyxl reads an empty text as nothing.
    expected = [f"'{t}" if t and t[0] in "=+-@\t\r" else t for t in clean]
    got = [r["department"] for r in found]
    assert [(g or "").replace("\r", "\n") for g in got] == [(e or "").replace("\r", "\n") for e in expected]
    assert {str(r["lon"]) for r in found} == {"-1.5"} and {str(r["version"]) for r in found} == {"7"}
    assert {r["reported_at"] for r in found} == {"2026-03-02 01:00:00"}, "in the node's zone"
    assert not any(str(value)[:1] in ("=", "@", "\t") for r in found for value in r.values())


def test_the_light_is_that_of_the_moment() -> None:
    file = io.BytesIO()
    lit = [("2026-03-05", "2026-03-06"), ("2026-03-03", "2026-03-06"), ("2026-03-02", "2026-03-03")]
    rows = [row(warn_at=f"{a}T00:00:00.000000Z", late_at=f"{b}T00:00:00.000000Z") for a, b in lit]
    write(file, "csv", [*rows, row()], ZONE, AT)
    assert [r["light"] for r in read("csv", file.getvalue())] == ["green", "yellow", "red", ""]


def test_a_workbook_is_one_in_all_its_parts() -> None:
    file = io.BytesIO()
    write(file, "xlsx", [row(department="=1")], ZONE, AT)
    with zipfile.ZipFile(file) as packed:
        assert packed.testzip() is None
        for name in packed.namelist():
            assert ElementTree.fromstring(packed.read(name)) is not None
        assert b"<f>" not in packed.read("xl/worksheets/sheet1.xml")


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_list_that_is_too_long(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MOST", 10)
    assert write(io.BytesIO(), kind, (row() for _ in range(10)), ZONE, AT) == 10
    with pytest.raises(Invalid) as refused_:
        write(io.BytesIO(), kind, (row() for _ in range(11)), ZONE, AT)
    assert "10 rows" in refused_.value.detail


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_long_list_needs_no_more_memory(kind: Any, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        with (tmp_path / "file").open("wb") as file:
            tracemalloc.start()
            write(file, kind, (row(number=str(n)) for n in range(count)), ZONE, AT)
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return most

    assert peak(4000) < 1.5 * peak(400) + 200_000


@pytest.fixture
def office(engine: Engine) -> Office:
    return Office(engine)


@pytest.fixture
def node(office: Office, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, office.engine) as found:
        yield found


def test_over_http(office: Office, node: Served) -> None:
    cases = [office.report(text=f"路灯 {n} secret", place="人民路") for n in range(7)]
    office.do(cases[0], "refuse")
    headers = node.as_("leader")
    for kind in ("csv", "xlsx"):
        def ask(path: str, kind: str = kind, **query: Any) -> Any:
            return node.client.get(f"{API}/{path}.{kind}", params=query, headers=headers)

        answer = ask("cases")
        assert answer.status_code == 200 and answer.headers["x-rows"] == "7" and answer.headers["x-row-limit"] == "100000"
        assert answer.headers["content-type"] == export.MEDIA[kind]  # type: ignore[index]
        assert f'.{kind}"' in answer.headers["content-disposition"]
        assert {r["id"] for r in read(kind, answer.content)} == set(cases)
        assert [r["id"] for r in read(kind, ask("cases", state="refused").content)] == [cases[0]]
        assert {r["id"] for r in read(kind, ask("cases", text="路灯 人民").content)} == set(cases)
        assert "secret" not in str(read(kind, answer.content)), "what people wrote leaves in no file"
        assert read(kind, ask("queue").content) == []
        waiting = node.client.get(f"{API}/queue.{kind}", headers=node.as_("acceptor"))
        assert {r["id"] for r in read(kind, waiting.content)} == set(cases[1:])
        assert {r["light"] for r in read(kind, waiting.content)} == {"red"}
        refused(ask("cases", colour="red"), 422, "/colour")
        refused(ask("cases", cursor="x"), 422, "/cursor")
        refused(node.client.get(f"{API}/cases.{kind}", headers=node.as_platform()), 403)
    refused(node.client.get(f"{API}/cases.pdf", headers=headers), 422, "/kind")
    with reading(office.engine) as connection:
        noted = audit.page(connection, audit.Sought(action="export"))
    assert len(noted) == 10 and {n["subject"] for n in noted} == {"cases", "queue"}
    said = [n["detail"] for n in noted if n["detail"]["filters"].get("text")]
    assert len(said) == 2 and "路灯" not in str(noted) and said[0]["rows"] == 7
    assert {"rows": 1, "format": "csv", "filters": {"state": "refused"}} in [n["detail"] for n in noted]


def test_too_long_or_too_many_at_once(office: Office, node: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        office.report()
    headers = node.as_("leader")
    monkeypatch.setattr(export, "MOST", 2)
    assert "narrow it" in refused(node.client.get(f"{API}/cases.xlsx", headers=headers), 422)["detail"]
    monkeypatch.setattr(export, "MOST", 3)
    monkeypatch.setattr(lists_api, "AT_ONCE", threading.BoundedSemaphore(1))
    with lists_api.AT_ONCE:
        busy = node.client.get(f"{API}/cases.xlsx", headers=headers)
        refused(busy, 503)
        assert int(busy.headers["retry-after"]) > 0
    assert node.client.get(f"{API}/cases.xlsx", headers=headers).status_code == 200
    with reading(office.engine) as connection:
        assert len(audit.page(connection, audit.Sought(action="export"))) == 1, "only what was sent is noted"
