"""The catalogue as an Excel workbook: what is written reads back the same; docs/CATALOGUE.md says by which rule it is read."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from openpyxl import Workbook  # type: ignore[import-untyped]
from openpyxl.cell import WriteOnlyCell  # type: ignore[import-untyped]
from openpyxl.styles import Alignment, Font  # type: ignore[import-untyped]
from pydantic import ValidationError

from services.case.catalogue import Legacy
from services.case.columns import COLUMNS, TITLES, Role, options_text, said, shown_text
from services.case.entries import Content, Fault, faults
from services.case.gathering import Gathering
from services.case.lines import MOST, Trouble, Troubles, tables
from services.case.sheets import FILE, opened
from shared.errors import Invalid

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
HEAD = Font(bold=True)
WRAPPED = Alignment(wrap_text=True, vertical="top")
WIDTH = 22


def written(content: Content) -> bytes:
    """The workbook of a content: four sheets, headings in both languages that stay in sight, texts as texts and no formula."""
    book = Workbook(write_only=True)
    for role, rows in _SHEETS.items():
        zh, en, *_ = TITLES[role]
        sheet = book.create_sheet(f"{zh} {en}")
        sheet.freeze_panes = "A2"
        columns = COLUMNS[role].values()
        for at in range(len(columns)):
            sheet.column_dimensions[chr(ord("A") + at)].width = WIDTH
        sheet.append([_cell(sheet, f"{c.zh}\n{c.en}", head=True) for c in columns])
        for row in rows(content):
            sheet.append([_cell(sheet, row[name]) for name in COLUMNS[role]])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _cell(sheet: Any, value: str | float | None, head: bool = False) -> Any:
    cell = WriteOnlyCell(sheet, value)
    cell.alignment = WRAPPED
    if head:
        cell.font = HEAD
    if isinstance(value, str):
        # The library takes a text that opens like a formula for one; marked as quoted, Excel leaves it a text when it is edited.
        cell.data_type, cell.quotePrefix = "s", True
    return cell


Row = dict[str, str | float | None]


def _categories(content: Content) -> Iterator[Row]:
    majors = {m.family: m for m in content.majors}
    for c in content.categories:
        major = majors[c.family]
        yield {
            "code": c.code, "kind": "部件" if c.kind == "part" else "事件", "zh": c.zh, "en": c.en, "major": c.major,
            "major_zh": major.zh, "major_en": major.en, "standard": said(major.standard), "extension": said(c.extension),
            "source": c.source,
        }  # fmt: skip


def _conditions(content: Content) -> Iterator[Row]:
    for category in content.categories:
        for c in category.conditions:
            yield {
                "code": category.code, "condition": c.code, "condition_zh": c.zh, "condition_en": c.en, "limit": c.limit,
                "closing_zh": c.closing_zh, "closing_en": c.closing_en, "department": c.department,
                "helping": "、".join(c.helping), "basis": c.basis, "grade": c.grade,
            }  # fmt: skip


def _questions(content: Content) -> Iterator[Row]:
    for category in content.categories:
        for q in category.questions:
            yield {
                "code": category.code, "key": q.key, "ask": q.kind, "question_zh": q.zh, "question_en": q.en,
                "required": said(q.required), "minimum": _exact(q.minimum), "maximum": _exact(q.maximum), "unit": q.unit,
                "options": options_text(q.options), "shown": shown_text(q.shown),
            }  # fmt: skip


def _exact(number: float | None) -> str | float | None:
    """A number as a spreadsheet keeps it, to 15 digits; one with more stands there as a text."""
    return number if number is None or float(f"{number:.15g}") == number else repr(number)


def _departments(content: Content) -> Iterator[Row]:
    for d in content.departments:
        yield {"office": d.code, "office_zh": d.zh, "office_en": d.en, "office_kind": d.kind}


_SHEETS: dict[Role, Any] = {
    "categories": _categories, "conditions": _conditions, "questions": _questions, "departments": _departments,
}  # fmt: skip


@dataclass
class Reading:
    """What was read of a workbook: the content, names of sheets and columns that were not read, old codes without a new one."""

    content: Content
    ignored: list[str] = field(default_factory=list)
    unmapped: list[str] = field(default_factory=list)


def read(data: bytes, base: Content, legacy: Legacy | None = None, keep: bool = False) -> Reading:
    """The content of a workbook. What it has no column or sheet for stays as in `base`, with which it is compared afterwards.

    `legacy`: its codes are those of the older edition, and what has no certain new code is left out and listed. `keep`: the
    categories of `base` that it does not name stay. Raises Invalid with `errors`, each with sheet, row, column and reason: all at
    once, of more than two hundred the first.
    """
    troubles, ignored = Troubles(), list[str]()
    gathering = Gathering(base, troubles, legacy)
    gathering.take(tables(opened(data), troubles, ignored))
    _stop(troubles)
    try:
        content = gathering.content(keep)
    except ValidationError as error:
        raise Invalid(f"the workbook: {error.errors()[0]['msg']}", field=FILE) from None
    for fault in faults(content):
        _locate(fault, gathering, troubles)
    _stop(troubles)
    return Reading(content, ignored, sorted(gathering.unmapped))


def _locate(fault: Fault, gathering: Gathering, troubles: Troubles) -> None:
    """Note a broken rule at the row that brought the entry; one that only the edition compared with has stands nowhere."""
    line = gathering.lines.get((fault.pointer.split("/")[1], *fault.at))
    if line is None:
        troubles.note("", None, None, fault.reason)
    else:
        line.wrong(gathering.column(fault), fault.reason)


def _stop(troubles: Troubles) -> None:
    if troubles.count:
        told = [trouble.model_dump() for trouble in troubles.found]
        first: Trouble = troubles.found[0]
        more = f", of which {MOST} are named" if troubles.count > MOST else ""
        raise Invalid(
            f"the workbook has {troubles.count} errors{more}; the first: {_place(first)}{first.reason}", field=FILE, errors=told
        )


def _place(trouble: Trouble) -> str:
    parts = (trouble.sheet, f"row {trouble.row}" if trouble.row else "", f"column {trouble.column}" if trouble.column else "")
    return ", ".join(p for p in parts if p) + ": " if any(parts) else ""
