"""How a catalogue stands in a workbook: sheets and columns by their names in both languages, and what a cell says.

This is the parse rule of docs/CATALOGUE.md in code; every reader of a cell raises ValueError with the reason.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal, NamedTuple

from services.case.limits import Limit
from services.case.questions import Option, Shown
from shared.errors import Invalid

Role = Literal["categories", "conditions", "questions", "departments"]


class Column(NamedTuple):
    """A column: our own heading in both languages, and other headings under which offices send it."""

    zh: str
    en: str
    also: tuple[str, ...] = ()


TITLES: dict[Role, tuple[str, ...]] = {
    "categories": ("类别", "categories"),
    "conditions": ("条件", "conditions", "立案条件", "立案结案标准", "部件", "事件", "parts", "events"),
    "questions": ("问题", "questions"),
    "departments": ("部门", "departments"),
}
"""Sheets by title. A workbook with one sheet under any title is read as conditions."""

CLASSES: dict[str, Column] = {
    "code": Column("类别代码", "category code", ("小类代码", "类别编码", "小类编码", "代码", "编码", "code", "category")),
    "kind": Column("类型", "kind", ("部事件类型", "案件类型", "问题类型名称")),
    "zh": Column("类别名称", "category name", ("小类名称", "小类", "类别", "name")),
    "en": Column("类别英文名称", "category name in English", ("英文名称",)),
    "major": Column("大类代码", "major code", ("大类编码", "major")),
    "major_zh": Column("大类名称", "major name", ("大类",)),
    "major_en": Column("大类英文名称", "major name in English"),
    "standard": Column("标准大类", "standard major"),
    "extension": Column("本地扩展", "local extension", ("扩展",)),
    "source": Column("来源", "source"),
}
"""Carried down on the sheet of conditions: there a blank cell means the one above, as in lists with merged cells."""

COLUMNS: dict[Role, dict[str, Column]] = {
    "categories": CLASSES,
    "conditions": {
        "code": CLASSES["code"],
        "condition": Column("条件序号", "condition code", ("条件代码", "condition")),
        "condition_zh": Column("立案条件", "filing condition", ("立案标准",)),
        "condition_en": Column("立案条件英文", "filing condition in English"),
        "limit": Column("处置时限", "time limit", ("处理时限", "处置期限", "时限", "limit")),
        "closing_zh": Column("结案条件", "closing condition", ("结案标准",)),
        "closing_en": Column("结案条件英文", "closing condition in English"),
        "department": Column("责任部门", "department", ("责任单位", "责任主体", "处置部门")),
        "helping": Column("协办部门", "helping departments", ("配合部门", "协办单位")),
        "basis": Column("法律依据", "legal basis", ("依据", "法规依据", "执法依据", "basis")),
        "grade": Column("等级", "grade"),
    },
    "questions": {
        "code": CLASSES["code"],
        "key": Column("问题代码", "question key", ("key",)),
        "ask": Column("问题类型", "question kind", ("kind",)),
        "question_zh": Column("问题", "question"),
        "question_en": Column("问题英文", "question in English"),
        "required": Column("必答", "required"),
        "minimum": Column("最小值", "minimum"),
        "maximum": Column("最大值", "maximum"),
        "unit": Column("单位", "unit"),
        "options": Column("选项", "options"),
        "shown": Column("显示条件", "shown if"),
    },
    "departments": {
        "office": Column("部门代码", "department code", ("代码", "code")),
        "office_zh": Column("部门名称", "department name", ("名称", "部门", "name")),
        "office_en": Column("部门英文名称", "department name in English", ("英文名称",)),
        "office_kind": Column("部门类型", "department kind", ("类型", "kind")),
    },
}


OF_CONDITION = {
    "code": "condition", "zh": "condition_zh", "en": "condition_en", "limit": "limit", "closing_zh": "closing_zh",
    "closing_en": "closing_en", "department": "department", "helping": "helping", "basis": "basis", "grade": "grade",
}  # fmt: skip
OF_QUESTION = {
    "key": "key", "kind": "ask", "zh": "question_zh", "en": "question_en", "required": "required", "minimum": "minimum",
    "maximum": "maximum", "unit": "unit", "options": "options", "shown": "shown",
}  # fmt: skip
OF_DEPARTMENT = {"code": "office", "zh": "office_zh", "en": "office_en", "kind": "office_kind"}
OF_CATEGORY = {"code": "code", "zh": "zh", "en": "en", "extension": "extension", "source": "source"}
OF_MAJOR = {"kind": "kind", "code": "code", "zh": "major_zh", "en": "major_en", "standard": "standard"}
"""The columns that the fields of an entry stand in."""


def plainly(text: object) -> str:
    """A heading or title without what people vary: width, case, spaces, brackets."""
    return re.sub(r"[\s()\[\]【】:_-]", "", unicodedata.normalize("NFKC", str(text or ""))).casefold()


def pieces(text: object) -> list[str]:
    """What a heading may be meant as: the whole first, then its parts, of which each may be in one language of two."""
    return [p for part in (text, *re.split(r"[/\n|]", str(text or ""))) if (p := plainly(part))]


def names_of(role: Role) -> dict[str, str]:
    """Every heading that a sheet of this role is read by → the column's name. What stands first wins."""
    found: dict[str, str] = {}
    columns = COLUMNS[role] if role != "conditions" else COLUMNS[role] | CLASSES
    for name, column in columns.items():
        for heading in (column.zh, column.en, *column.also):
            found.setdefault(plainly(heading), name)
    return found


def role_of(title: str, alone: bool) -> Role | None:
    words = {plainly(w) for w in re.split(r"[\s/|]", title)} | {plainly(title)}
    for role, titles in TITLES.items():
        if words & {plainly(t) for t in titles}:
            return role
    return "conditions" if alone else None


UNITS = {
    "UH": ("紧急工作时", "紧急工作小时", "紧急小时", "紧急时", "urgenthour", "urgenthours"),
    "UD": ("紧急工作日", "紧急日", "urgentday", "urgentdays"),
    "WH": ("工作时", "工作小时", "workhour", "workhours", "workinghour", "workinghours"),
    "WD": ("工作日", "workday", "workdays", "workingday", "workingdays"),
    "ND": ("自然日", "日历日", "naturalday", "naturaldays", "calendarday", "calendardays"),
}
_UNITS = {word: unit for unit, words in UNITS.items() for word in (unit.casefold(), *words)}
_LIMIT = re.compile(r"([0-9.]+|[一二两三四五六七八九十]+)个?([a-z]+|[\u4e00-\u9fff]+?)(?:以?内)?", re.ASCII)
DIGITS = {"一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}


def limit(text: str) -> str:
    """A limit as offices write it: 2个工作日, 4工作时, 2紧急工作时, 两个工作日内, 1 work day, 2WD → 2WD."""
    found = _LIMIT.fullmatch(plainly(text))
    if found is None:
        raise ValueError(f"no time limit such as 2个工作日, 4工作时, 2紧急工作时 or 2WD: {text}")
    if (unit := _UNITS.get(found[2])) is None:
        # An hour or a day alone may run on at night or not: that is not ours to guess.
        raise ValueError(f"{found[2]} is no unit; write 紧急工作时, 紧急工作日, 工作时, 工作日 or 自然日")
    try:
        return str(Limit.parse(f"{_amount(found[1])}{unit}"))
    except Invalid as error:
        raise ValueError(error.detail) from None


def _amount(text: str) -> str:
    """Digits as they are, Chinese numerals up to 99 in digits."""
    if text[0] in "0123456789.":
        return text
    tens, ten, ones = text.rpartition("十")
    if tens not in ("", *DIGITS) or ones not in ("", *DIGITS):
        raise ValueError(f"no number: {text}")
    return str((DIGITS[tens] if tens else 1) * 10 * bool(ten) + (DIGITS[ones] if ones else 0))


def yes(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = plainly(value)
    if word not in ("是", "yes", "true", "1", "否", "no", "false", "0"):
        raise ValueError(f"must be 是 or 否 (yes or no), not {value}")
    return word in ("是", "yes", "true", "1")


def said(truth: bool) -> str:
    return "是" if truth else "否"


def kind(text: object) -> str:
    """part or event."""
    word = plainly(text)
    found = {"部件": "part", "part": "part", "parts": "part", "事件": "event", "event": "event", "events": "event"}
    if word not in found:
        raise ValueError(f"must be 部件 or 事件 (part or event), not {text}")
    return found[word]


def several(text: str) -> list[str]:
    """Names or codes in one cell, one after the other."""
    return [p for part in re.split(r"[、，,;；\n]", text) if (p := part.strip())]


def options_text(options: Iterable[Option]) -> str:
    """One option a line: code | Chinese | English."""
    return "\n".join(" | ".join(_kept(t) for t in (o.code, o.zh, o.en)) for o in options)


def options(text: str) -> tuple[Option, ...]:
    return tuple(_option(line) for line in text.split("\n") if line.strip())


def _option(line: str) -> Option:
    parts = [_freed(p) for p in re.findall(r"(?:^|\|)((?:\\.|[^\\|])*)", line)]
    if len(parts) not in (2, 3):
        raise ValueError(f"an option is: code | Chinese | English, not {line}")
    return Option(code=parts[0], zh=parts[1], en=parts[2] if len(parts) == 3 else "")


def _kept(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "\\n")


def _freed(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text.strip())


def shown_text(shown: Shown | None) -> str:
    return f"{shown.key}={','.join(shown.values)}" if shown else ""


def shown(text: str) -> Shown:
    key, sign, values = text.partition("=")
    if not sign:
        raise ValueError(f"must be: key of an earlier question=answer,answer, not {text}")
    return Shown(key=key.strip(), values=tuple(several(values)))
