"""Lists of cases as files for a spreadsheet, CSV and Excel (.xlsx), row by row, so that a long one needs no more memory.

The workbook is written by hand: it is one sheet of plain cells, for which the library takes six times as long, and a long list
would hold up everything else that the process does for twenty seconds.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import IO, Any, Literal
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from services.case.guards import light
from shared.clock import stamp, unstamp
from shared.errors import Invalid
from shared.listing import harmless

Kind = Literal["csv", "xlsx"]
Row = Mapping[str, Any]
MOST = 100_000
"""Rows of a file: as many as a spreadsheet still opens in good time."""
MEDIA: dict[Kind, str] = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
NAMES: dict[str, tuple[str, str]] = {
    "number": ("案件编号", "number"), "state": ("状态", "state"), "light": ("时限灯", "light"), "stage": ("阶段", "stage"),
    "category": ("类别", "category"), "condition": ("立案条件", "filing condition"), "channel": ("上报渠道", "channel"),
    "application": ("上报应用", "application"), "division": ("区划", "division"), "cell": ("单元网格", "cell"),
    "part": ("部件编码", "part"), "lon": ("经度", "longitude"), "lat": ("纬度", "latitude"),
    "located": ("定位方式", "located by"), "department": ("主办部门", "lead department"),
    "reported_at": ("上报时间", "reported"), "filed_at": ("立案时间", "filed"), "due_at": ("处置截止", "due"),
    "handled_at": ("反馈时间", "handled"), "ended_at": ("结束时间", "ended"), "on_time": ("按期", "on time"),
    "means": ("处置手段", "means"), "appealed": ("申诉", "appeal"), "warn_at": ("黄灯时间", "yellow from"),
    "late_at": ("红灯时间", "red from"), "reply_by": ("督办回复期限", "reply by"),
    "postponements": ("延期次数", "postponements"), "suspensions": ("挂账次数", "suspensions"),
    "reopenings": ("重办次数", "reopenings"), "joined": ("重复上报", "joined reports"),
    "merged_into": ("并入案件", "merged into"), "parent": ("来源案件", "split from"), "version": ("版本", "version"),
    "edition": ("类别版本", "edition of the catalogue"), "provenance": ("数据来源", "provenance"),
    "dataset": ("数据集", "dataset"), "changed_at": ("变更时间", "changed"), "id": ("案件标识", "id"),
}  # fmt: skip
"""The columns of a file in their order, with what stands above them."""
UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
SPECIAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff&<>]")

_TYPES = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/xl/workbook.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
    '<Override PartName="/xl/worksheets/sheet1.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>'
)
_RELATION = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}" Target="{target}"/></Relationships>'
)
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_BOOK = (
    f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><workbook xmlns="{_MAIN}" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
    '<sheets><sheet name="cases" sheetId="1" r:id="rId1"/></sheets></workbook>'
)
_SHEET = (
    f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><worksheet xmlns="{_MAIN}"><sheetViews>'
    '<sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView>'
    "</sheetViews><sheetData>"
)


def write(file: IO[bytes], kind: Kind, rows: Iterable[Row], zone: ZoneInfo, at: datetime) -> int:
    """Write a list into `file`; answers how many rows. Times are those of `zone`. Raises Invalid for more than MOST."""
    counted = _Counted(_lines(rows, zone, stamp(at)))
    _WRITE[kind](file, _header(zone), counted)
    return counted.rows


class _Counted:
    """Lines on their way through, counted, and refused where they are too many."""

    def __init__(self, lines: Iterator[list[Any]]) -> None:
        self._lines, self.rows = lines, 0

    def __iter__(self) -> Iterator[list[Any]]:
        for line in self._lines:
            self.rows += 1
            if self.rows > MOST:
                raise Invalid(f"the list has more than {MOST:,} rows, which is the most of a file: narrow it by its filters")
            yield line


def _header(zone: ZoneInfo) -> list[str]:
    return [f"{zh} {en} ({zone.key})" if name.endswith(("_at", "_by")) else f"{zh} {en}" for name, (zh, en) in NAMES.items()]


def _lines(rows: Iterable[Row], zone: ZoneInfo, at: str) -> Iterator[list[Any]]:
    for row in rows:
        known = {**row, "light": light(row, at)}
        yield [_local(known[name], zone) if name.endswith(("_at", "_by")) else harmless(known[name]) for name in NAMES]


def _local(value: str | None, zone: ZoneInfo) -> str | None:
    return value and unstamp(value).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _csv(file: IO[bytes], header: list[str], lines: Iterable[list[Any]]) -> None:
    # With the mark at the begin, without which spreadsheets take the text for another encoding.
    text = io.TextIOWrapper(file, "utf-8-sig", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(lines)
    text.detach()


def _xlsx(file: IO[bytes], header: list[str], lines: Iterable[list[Any]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as book:
        book.writestr("[Content_Types].xml", _TYPES)
        book.writestr("_rels/.rels", _RELATION.format(kind="officeDocument", target="xl/workbook.xml"))
        book.writestr("xl/workbook.xml", _BOOK)
        book.writestr("xl/_rels/workbook.xml.rels", _RELATION.format(kind="worksheet", target="worksheets/sheet1.xml"))
        with book.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            sheet.write(f"{_SHEET}{_row(header)}".encode())
            rows = map(_row, lines)
            while some := "".join(islice(rows, 200)):
                sheet.write(some.encode())
            sheet.write(b"</sheetData></worksheet>")


def _row(line: list[Any]) -> str:
    return f"<row>{''.join(map(_cell, line))}</row>"


def _cell(value: Any) -> str:
    if value is None:
        return "<c/>"
    if isinstance(value, bool):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if isinstance(value, int | float):
        return f"<c><v>{value!r}</v></c>"
    text = escape(UNWRITABLE.sub("", value)) if SPECIAL.search(value) else value
    return f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


_WRITE: dict[Kind, Callable[[IO[bytes], list[str], Iterable[list[Any]]], None]] = {"csv": _csv, "xlsx": _xlsx}
