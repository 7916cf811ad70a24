"""The catalogue as a workbook: there and back without a difference, lists as offices send them, errors at their cells, bombs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook
from sqlalchemy import Engine

from services.case import columns, editions
from services.case.catalogue import Legacy
from services.case.differences import difference
from services.case.entries import Category, Content, checked
from services.case.workbook import XLSX, Reading, read, written
from services.grid.packs import load
from shared.errors import Invalid
from tests.served import LEAF, Served, node, refused

PACK = load(Path(__file__).resolve().parents[2] / "deploy" / "packs" / "xinjiang").standards.published()
BASE = checked(PACK["content"])
NOTHING = Content(majors=(), departments=(), categories=())
LEGACY = Legacy(PACK["legacy"]["edition"], PACK["legacy"]["codes"])
PREFIX = "/api/case/v1/catalogue"
LIST = ("小类代码", "小类名称", "立案条件", "处置时限", "结案条件", "责任部门", "法律依据")


def book(*rows: tuple[Any, ...], title: str = "事件", **others: list[tuple[Any, ...]]) -> bytes:
    """A workbook with `rows` on its first sheet, the headings first, and further sheets."""
    found = Workbook()
    found.active.title = title
    for row in rows:
        found.active.append(row)
    for name, more in others.items():
        sheet = found.create_sheet(name)
        for row in more:
            sheet.append(row)
    out = io.BytesIO()
    found.save(out)
    return out.getvalue()


def errors(data: bytes, base: Content = BASE, **more: Any) -> list[dict[str, Any]]:
    with pytest.raises(Invalid) as caught:
        read(data, base, **more)
    assert caught.value.field == "/file"
    return caught.value.extra.get("errors", [caught.value.detail])  # type: ignore[return-value]


def read_one(*rows: tuple[Any, ...], **more: Any) -> Category:
    (found,) = read(book(LIST, *rows), BASE, **more).content.categories
    return found


def test_there_and_back_without_a_difference() -> None:
    for base in (BASE, NOTHING):
        found = read(written(BASE), base)
        assert difference(BASE, found.content).empty and found == Reading(found.content)
        assert sorted(found.content.categories, key=lambda c: c.code) == sorted(BASE.categories, key=lambda c: c.code)


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Co", "Cn"), blacklist_characters="<"), min_size=1, max_size=12)
ODD = ["=1+1", "+2", "-3", "@x", "'", "#N/A", "a|b\\n", "是", "_x0041_", "2026-01-01", "1e5", "a\nb", "12", "TRUE"]
NAMES = (TEXT | st.sampled_from(ODD)).map(str.strip).filter(bool)


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    name = lambda: draw(NAMES)  # noqa: E731
    options = [{"code": c, "zh": name(), "en": draw(st.just("") | NAMES)} for c in ("a", "b")]
    questions = [
        {"key": "one", "kind": "choices", "zh": name(), "options": options},
        {
            "key": "two", "kind": "number", "zh": name(), "minimum": draw(st.floats(-9e9, 9e9)), "unit": draw(st.none() | NAMES),
            "shown": {"key": "one", "values": ["a", "b"]},
        },
    ]  # fmt: skip
    conditions = [
        {
            "code": code, "zh": name(), "en": name(), "limit": draw(st.sampled_from(["2WD", "0.5UH", "30ND", "1UD", "4WH"])),
            "closing_zh": name(), "department": "roads", "helping": draw(st.sampled_from([[], ["roads:2", "roads"]])),
            "basis": draw(st.just("") | NAMES), "grade": "urgent",
        }
        for code in draw(st.lists(st.sampled_from(["1", "2", "10", "a-b"]), min_size=1, unique=True))
    ]  # fmt: skip
    return {
        "majors": [{"kind": "event", "code": "01", "zh": name(), "en": name(), "standard": draw(st.booleans())}],
        "departments": [{"code": "roads", "zh": name()}, {"code": "roads:2", "zh": name(), "kind": "owner"}],
        "categories": [
            {"code": "E0101", "zh": name(), "source": draw(NAMES), "conditions": conditions, "questions": questions},
            {"code": "E01999", "zh": name(), "extension": True, "conditions": conditions[:1]},
        ],
    }  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(contents())
def test_whatever_stands_in_a_catalogue_comes_back(body: dict[str, Any]) -> None:
    content = checked(body)
    assert difference(content, read(written(content), NOTHING).content).empty


def test_a_written_workbook_has_frozen_bilingual_headings_and_no_formula() -> None:
    first = BASE.categories[0].model_copy(update={"zh": "=HYPERLINK(1)"})
    content = BASE.model_copy(update={"categories": (first, *BASE.categories[1:])})
    found = load_workbook(io.BytesIO(written(content)))
    assert found.sheetnames == ["类别 categories", "条件 conditions", "问题 questions", "部门 departments"]
    assert all(sheet.freeze_panes == "A2" for sheet in found)
    assert [c.value for c in found["条件 conditions"][1]][:2] == ["类别代码\ncategory code", "条件序号\ncondition code"]
    cells = [cell for sheet in found for row in sheet.iter_rows() for cell in row]
    assert {c.data_type for c in cells} <= {"s", "n", "inlineStr"}
    assert [c.quotePrefix for c in cells if c.value == "=HYPERLINK(1)"] == [True]


def test_a_list_with_merged_cells_is_read_down() -> None:
    """A title above, blank cells for what was merged, names of departments, limits in words, columns in another order."""
    rows = [
        ("某市立案结案标准",),
        ("大类", "责任单位", "小类名称", "立案条件", "处理时限", "结案标准", "小类编码"),
        ("市容环境", "环卫管理单位", "道路不洁", "有垃圾", "2工作时", "已清扫", "0112"),
        (None, None, None, "有油污", "2个工作日内", None, None),
        (None, "街道办事处、园林绿化管理单位", None, "有积尘", "两紧急工作时", "已冲洗", None),
        (None, "sanitation", "道路遗撒", "遗撒", "1 work day", "已清理", "0114"),
    ]
    found = read(book(*rows, title="事件"), BASE)
    first, second = found.content.categories
    assert [(c.code, c.zh, c.limit, c.closing_zh, c.department, c.helping) for c in first.conditions] == [
        ("2", "有垃圾", "2WH", "已清扫", "sanitation", ()),
        ("3", "有油污", "2WD", "已清扫", "sanitation", ()),
        ("4", "有积尘", "2UH", "已冲洗", "subdistrict", ("parks",)),
    ]
    assert (second.code, second.default.limit, second.en) == ("E0114", "1WD", "Spillage on road")
    assert len(difference(BASE, found.content).removed) == 131
    assert len(read(book(*rows), BASE, keep=True).content.categories) == 133


def test_what_the_workbook_has_no_column_for_stays() -> None:
    old = next(c for c in BASE.categories if c.code == "E0113")
    found = read_one(("E0113", old.zh, old.conditions[0].zh, "1WD", "结", "municipal-works", "法"))
    assert (found.en, found.source, found.questions) == (old.en, old.source, old.questions)
    condition = found.default
    assert (condition.code, condition.en, condition.helping) == ("1", old.default.en, old.default.helping)
    assert (condition.limit, condition.closing_zh, condition.basis) == ("1WD", "结", "法")


def test_a_list_without_codes_is_read_by_names() -> None:
    rows = [("小类名称", "立案条件", "处置时限", "结案条件", "责任部门"), ("Dirty road", "脏", "2WH", "净", "环卫管理单位")]
    assert [c.code for c in read(book(*rows, title="任意"), BASE).content.categories] == ["E0112"]
    rows.append(("没有这个", "脏", "2WH", "净", "环卫管理单位"))
    (told,) = errors(book(*rows, title="任意"))
    assert (told["row"], told["column"]) == (3, "A") and "no categories have this name" in told["reason"]


RIGHT = ("E0112", "道路不洁", "脏", "2WH", "净", "sanitation", None)

OTHER = ("E0113", "道路破损", "坏", "1WD", "好", "parks", None)


def wrong(at: int, value: Any) -> tuple[Any, ...]:
    return (*RIGHT[:at], value, *RIGHT[at + 1 :])


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, "X0112", "no code of a category: X0112"),
        (0, 112, "may have lost its leading zero"),
        (0, "E9998", "E9998 is new: a column 本地扩展 must say"),
        (2, None, "must not be empty"),
        (2, "<b>", "plain text"),
        (2, "长" * 501, "at most 500 characters"),
        (3, None, "must not be empty"),
        (3, "2天", "天 is no unit"),
        (3, "2小时", "小时 is no unit"),
        (3, "尽快", "no time limit such as"),
        (3, 2, "no time limit such as"),
        (3, "0WD", "at least a second"),
        (3, "1.2.3WD", "a limit is a number"),
        (3, "十十工作日", "no number"),
        (3, "=1+1", "holds a formula"),
        (3, True, "must be a text"),
        (3, datetime(2026, 1, 1), "holds a day or a time"),
        (5, "nobody", "no departments are called nobody"),
        (5, None, "must not be empty"),
        (6, "#N/A", "holds the error #N/A"),
    ],
)
def test_a_wrong_cell_is_named(at: int, value: Any, said: str) -> None:
    told = errors(book(LIST, OTHER, wrong(at, value), title="x"))
    assert len(told) == 1, told
    assert (told[0]["sheet"], told[0]["row"], told[0]["column"]) == ("x", 3, "ABCDEFG"[at]) and said in told[0]["reason"]


def test_every_error_is_told_at_once_and_nothing_is_taken() -> None:
    rows = [wrong(3, "2天"), wrong(5, "nobody"), ("E0113", "道路破损", None, None, None, None, None), wrong(3, "1WD")]
    told = errors(book(LIST, *rows, title="x"))
    assert [(e["row"], e["column"]) for e in told] == [(2, "D"), (3, "F"), (4, "D"), (4, "C"), (4, "E"), (4, "F")]
    many = [wrong(3, "2天") for _ in range(201)]
    told_first = "has 201 errors, of which 200 are named; the first: 事件, row 2, column D: 天 is no unit"
    with pytest.raises(Invalid, match=told_first) as caught:
        read(book(LIST, *many[:50], *(("E0113", *r[1:]) for r in many[50:100]), *(("E0114", *r[1:]) for r in many[100:])), BASE)
    assert len(caught.value.extra["errors"]) == 200  # type: ignore[arg-type]


def test_rules_of_the_catalogue_are_told_at_their_rows() -> None:
    sheets = {
        "类别": [("类别代码", "类别名称", "本地扩展"), ("E0113", "道路破损", "否"), ("E0105", "低", "是"), ("E0112", "无", "否")],
        "问题": [("类别代码", "问题代码", "问题类型", "问题"), ("E0113", "a", "choice", "问")],
        "部门": [("部门代码", "部门名称"), ("roads", "路")],
    }
    codes = (("E0113", "roads"), ("E0105", "路"), ("E0113", "roads"))
    numbered = [(*LIST, "条件序号"), *((code, *wrong(5, office)[1:], "1") for code, office in codes)]
    told = errors(book(*numbered, title="条件", **sheets))
    assert {(e["sheet"], e["row"], e["column"], e["reason"].split(";")[0]) for e in told} == {
        ("条件", 4, "H", "E0113 has the condition 1 twice"),
        ("问题", 2, None, "a choice has at least two options"),
        ("类别", 3, "A", "E0105 is an extension among or below the standard's own numbers"),
        ("类别", 4, None, "E0112 needs at least one filing condition"),
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (book(LIST, RIGHT, title="无关", 说明=[("x", "y")]), "there is no sheet of filing conditions"),
        (book(("甲", "乙"), ("1", "2"), title="条件"), "has no row with the names of columns"),
        (book(LIST[1:], RIGHT[1:], (None, *RIGHT[2:])), ""),
        (book(LIST, ("0112", *RIGHT[1:]), title="条件"), "nothing says 部件 or 事件"),
        (book(LIST, (None, *RIGHT[1:])), "must not be empty"),
        (book((*LIST, "类型"), (*RIGHT, "部件")), "E0112 is no part"),
        (book((*LIST, "大类代码"), (*RIGHT, "02")), "E0112 lies in the major class 01"),
        (book((*LIST, "大类名称"), (*RIGHT, "甲"), (*OTHER, "乙")), "row 2 describes the major class E01 differently"),
        (book((*LIST, "协办部门"), (*wrong(5, "parks、sanitation"), None)), "names several; the others belong"),
        (book(LIST, RIGHT, 类别=[("类别代码", "类别名称"), ("E0113", "道路破损")]), "E0112 is not on the sheet of categories"),
        (book(LIST, RIGHT, 类别=[("类别代码", "类别名称")] + [("E0112", "道路不洁")] * 2), "E0112 is there twice"),
        (book(LIST, RIGHT, 问题=[("类别代码", "问题代码"), ("E0113", "a")]), "no category E0113 is in this workbook"),
        (book(LIST, *[(*wrong(2, f"第{n}种"),) for n in range(51)]), "E0112 has more than 50 conditions"),
    ],
)
def test_a_workbook_that_does_not_fit_together_is_refused(data: bytes, said: str) -> None:
    if not said:
        assert [len(c.conditions) for c in read(data, BASE).content.categories] == [2]
        return
    assert any(said in e["reason"] for e in errors(data))


def test_sheets_and_columns_that_are_not_read_are_named() -> None:
    found = read(book((*LIST, "备注"), (*RIGHT, "x"), title="条件", 说明=[("随便", "写")]), BASE)
    assert found.ignored == ["条件: 备注", "说明"]


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("2个工作日", "2WD"), ("4工作时", "4WH"), ("2紧急工作时", "2UH"), ("1紧急工作日", "1UD"), ("30个自然日", "30ND"),
        ("1 work day", "1WD"), ("2 Work Days", "2WD"), ("4 urgent hours", "4UH"), ("２ 个 工作日 （内）", "2WD"), ("2WD", "2WD"),
        ("十五个工作日", "15WD"), ("二十工作时", "20WH"), ("两个工作日以内", "2WD"), ("0.50UH", "0.5UH"), ("2 wd", "2WD"),
        ("1 working hour", "1WH"),
    ],
)  # fmt: skip
def test_limits_as_offices_write_them(text: str, limit: str) -> None:
    assert columns.limit(text) == limit


def test_the_first_of_two_columns_with_one_name_is_read() -> None:
    found = read(book((*LIST, "时限"), (*RIGHT, "9WD")), BASE)
    assert found.content.categories[0].default.limit == "2WH"


def test_old_codes_are_mapped_and_those_without_a_new_one_listed() -> None:
    rows = [
        ("0401", "路面塌陷", "塌", "2UH", "好", "municipal-works", None),
        ("0409", "群发性事件", "群", "2UH", "好", "municipal-works", None),
        (None, None, "又群", "2UH", "好", "municipal-works", None),
        ("E0504", "店外经营", "店", "2UH", "好", "subdistrict", None),
    ]
    found = read(book(LIST, *rows), BASE, LEGACY)
    assert [(c.code, c.zh) for c in found.content.categories] == [("E0405", "店外经营"), ("E0505", "路面塌陷")]
    assert found.unmapped == ["E0409"]
    assert LEGACY.mapped(["E0401", "E0409", "E0401"]) == ({"E0401": "E0505"}, ["E0409"])


# What is no workbook, or would be too much of one.


def packed(*parts: tuple[str, bytes], base: bytes | None = None) -> bytes:
    """A workbook with these parts added or put in place of its own."""
    out, given = io.BytesIO(), dict(parts)
    with zipfile.ZipFile(io.BytesIO(base or book(LIST, RIGHT))) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name not in given:
                new.writestr(name, old.read(name))
        for name, data in given.items():
            new.writestr(name, data)
    return out.getvalue()


SHEET = "xl/worksheets/sheet1.xml"
LAUGHS = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no .xlsx"),
        (b"PK\x03\x04 nothing", "is no .xlsx"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), "is no .xlsx"),
        (packed(("x.bin", bytes(21 * 1024 * 1024))), "would unpack to more than 20 MB"),
        (packed(*((f"{n}.bin", b"") for n in range(301))), "300 parts"),
        (packed(("xl/vbaProject.bin", b"x")), "holds macros"),
        (packed((SHEET, LAUGHS)), "declares a document type"),
        (packed((SHEET, LAUGHS.decode().encode("utf-16"))), "declares a document type"),
        (packed((SHEET, b"<worksheet><sheetData>")), "is damaged"),
        (packed((SHEET, b"<nothing/>")), "there is no sheet of filing conditions"),
        (packed(("xl/workbook.xml", b"<x/>")), "there is no sheet of filing conditions"),
        (packed(("[Content_Types].xml", b"<x/>")), "cannot be read as a workbook"),
        (packed((SHEET, b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row>'
                        b'<c t="s"><v>x</v></c></row></sheetData></worksheet>')), "cannot be read as a workbook"),
    ],
    ids=range(13),
)
def test_what_is_no_workbook_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(data, BASE)
    assert caught.value.field == "/file" and said in caught.value.detail, caught.value.detail


def test_more_rows_than_anybody_lists_are_refused() -> None:
    row = b'<row><c t="inlineStr"><is><t>x</t></is></c></row>' * 10_001
    head = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    with pytest.raises(Invalid, match="more than 10000 rows"):
        read(packed((SHEET, head + row + b"</sheetData></worksheet>")), BASE)


def test_a_sheet_s_word_about_its_size_is_not_believed() -> None:
    data = book(LIST, RIGHT)
    sheet = zipfile.ZipFile(io.BytesIO(data)).read(SHEET)
    lying = sheet.replace(b'<dimension ref="A1:G2"', b'<dimension ref="A1:XFD1048576"')
    assert lying != sheet and len(read(packed((SHEET, lying), base=data), BASE).content.categories) == 1
    assert len(read(packed((SHEET, sheet.replace(b"A1:G2", b"A1:A1")), base=data), BASE).content.categories) == 1


def test_a_part_that_is_larger_than_the_directory_says_is_refused() -> None:
    """The sizes are looked at before unpacking, so a wrong one must not let more through."""
    data = packed(("xl/big.xml", b"<x>" + b" " * 3_000_000 + b"</x>"))
    lied = data.replace((3_000_007).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    assert lied != data
    with pytest.raises(Invalid, match=r"big\.xml is damaged"):
        read(lied, BASE)


def test_an_encrypted_part_is_refused() -> None:
    data = bytearray(book(LIST, RIGHT))
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    with pytest.raises(Invalid, match="encrypted"):
        read(bytes(data), BASE)


WHOLE = book(LIST, RIGHT, OTHER)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_workbook_is_refused_or_read(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    try:
        read(bytes(data), BASE)
    except Invalid as error:
        assert error.field == "/file"


# Over HTTP.


@contextmanager
def served(tmp_path: Path, engine: Engine) -> Iterator[tuple[Served, dict[str, str]]]:
    with node(tmp_path, engine) as found:
        found.runtime.extra["around"].catalogue = editions.catalogue_of(PACK, found.runtime.node.path)
        yield found, found.as_("administrator")


def test_a_workbook_goes_out_and_comes_in_over_http(tmp_path: Path, engine: Engine) -> None:
    tomorrow = (datetime.now(ZoneInfo("Asia/Shanghai")).date() + timedelta(days=1)).isoformat()
    with served(tmp_path, engine) as (at, admin):
        got = at.client.get(f"{PREFIX}.xlsx", headers=admin)
        assert (got.headers["content-type"], got.headers["x-edition"]) == (XLSX, "2024-12")
        sent = admin | {"Content-Type": XLSX}
        same = at.client.post(f"{PREFIX}/import", content=got.content, headers=sent).json()
        assert same == {
            "published": False, "against": "2024-12", "difference": {"added": [], "removed": [], "changed": []}, "ignored": [],
            "unmapped": [],
        }  # fmt: skip
        found = load_workbook(io.BytesIO(got.content))
        found["条件 conditions"]["E2"] = "3个工作日"
        out = io.BytesIO()
        found.save(out)
        query = {"code": f"{LEAF}:2", "valid_from": tomorrow}
        dry = at.client.post(f"{PREFIX}/import", content=out.getvalue(), headers=sent, params=query).json()
        changed = [(c["code"], c["field"], c["after"]) for c in dry["difference"]["changed"]]
        assert changed == [("E0101", "conditions/1/limit", "3WD")]
        assert len(at.client.get(f"{PREFIX}/editions", headers=admin).json()["editions"]) == 1
        wet = at.client.post(f"{PREFIX}/import", content=out.getvalue(), headers=sent, params=query | {"dry_run": "false"})
        assert wet.json() == dry | {"published": True}
        now = at.client.get("/api/case/v1/catalogue", params={"day": tomorrow, "search": "E0101"}).json()
        assert (now["edition"]["code"], now["categories"][0]["conditions"][0]["limit"]) == (f"{LEAF}:2", "3WD")


def test_a_refused_import_says_why_and_changes_nothing(tmp_path: Path, engine: Engine) -> None:
    with served(tmp_path, engine) as (at, admin):
        sent, data = admin | {"Content-Type": XLSX}, book(LIST, wrong(3, "2天"), wrong(5, "nobody"))
        told = refused(at.client.post(f"{PREFIX}/import", content=data, headers=sent), 422, "/file")
        assert told["errors"][0] == {"sheet": "事件", "row": 2, "column": "D", "reason": told["errors"][0]["reason"]}
        assert len(told["errors"]) == 2
        good, wet = book(LIST, RIGHT), {"dry_run": "false"}
        refused(at.client.post(f"{PREFIX}/import", content=good, headers=admin), 422, "/content-type")
        refused(at.client.post(f"{PREFIX}/import", content=good, headers=sent, params=wet), 422, "/code")
        refused(at.client.post(f"{PREFIX}/import", content=good, headers=sent, params=wet | {"code": "x:1"}), 422, "/valid_from")
        alien = wet | {"code": "x:1", "valid_from": "2099-01-01"}
        refused(at.client.post(f"{PREFIX}/import", content=good, headers=sent, params=alien), 422, "/code")
        refused(at.client.post(f"{PREFIX}/import", content=good, headers=sent | at.as_("dispatcher")), 403)
        refused(at.client.post(f"{PREFIX}/import", content=good, headers=sent, params={"colour": "x"}), 422, "/colour")
        refused(at.client.post(f"{PREFIX}/import", content=b"", headers=sent), 422, "/file")
        assert len(at.client.get(f"{PREFIX}/editions", headers=admin).json()["editions"]) == 1
