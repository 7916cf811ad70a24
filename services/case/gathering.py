"""Gathers the lines of an imported workbook into a catalogue: blank cells carried down, old codes mapped, departments by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from services.case import columns
from services.case.catalogue import Legacy
from services.case.columns import OF_CATEGORY, OF_CONDITION, OF_DEPARTMENT, OF_MAJOR, OF_QUESTION
from services.case.entries import (
    LETTERS,
    MOST_CONDITIONS,
    MOST_QUESTIONS,
    Category,
    Condition,
    Content,
    Department,
    Fault,
    Major,
)
from services.case.lines import Line, Table, Troubles, as_number, as_text
from services.case.naming import Naming
from services.case.questions import Option, Question


@dataclass
class Draft:
    """A category while its lines are read."""

    values: dict[str, Any]
    conditions: list[Condition] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


class Gathering:
    """What has been read so far; `lines` says which line brought an entry."""

    def __init__(self, base: Content, troubles: Troubles, legacy: Legacy | None) -> None:
        self.troubles = troubles
        self.base = {c.code: c for c in base.categories}
        self.majors = {m.family: m for m in base.majors}
        self.departments = {d.code: d for d in base.departments}
        self.drafts: dict[str, Draft] = {}
        self.lines: dict[tuple[str, ...], Line] = {}
        self._named_majors: dict[str, Line] = {}
        self._naming = Naming(base.categories, base.departments, legacy)
        self._listed = self._asked = False

    @property
    def unmapped(self) -> set[str]:
        """Codes of the older edition that have no certain new one."""
        return self._naming.unmapped

    def take(self, tables: Iterable[Table]) -> None:
        """Read every sheet, those first that others refer to."""
        of = {role: [t for t in tables if t.role == role] for role in ("departments", "categories", "conditions", "questions")}
        if not of["conditions"]:
            self.troubles.note("", None, None, "there is no sheet of filing conditions (条件)")
            return
        if of["departments"]:
            self.departments = {}
        for line in (line for t in of["departments"] for line in t.lines):
            self._department(line)
        self._naming.of_departments(self.departments.values())
        self._listed, self._asked = bool(of["categories"]), bool(of["questions"])
        for table in of["categories"]:
            for line in table.lines:
                self._category(line, self._naming.category(line, None), None)
        for table in of["conditions"]:
            self._conditions(table)
        for line in (line for t in of["questions"] for line in t.lines):
            self._question(line)

    def content(self, keep: bool) -> Content:
        """All of it; with `keep` also the categories of the edition compared with that no line names."""
        found = [self._made(code, draft) for code, draft in self.drafts.items()]
        kept = [c for code, c in self.base.items() if keep and code not in self.drafts]
        return Content(
            majors=tuple(self.majors.values()),
            departments=tuple(self.departments.values()),
            categories=tuple(sorted((*found, *kept), key=lambda c: c.code)),
        )

    def _made(self, code: str, draft: Draft) -> Category:
        old = self.base.get(code)
        asked = tuple(draft.questions) if self._asked else old.questions if old else ()
        return Category(**draft.values, conditions=tuple(draft.conditions), questions=asked)

    def column(self, fault: Fault) -> str:
        """The column that a rule's field stands in."""
        of = {"departments": OF_DEPARTMENT, "majors": OF_MAJOR}.get(fault.pointer.split("/")[1], OF_CATEGORY)
        if len(fault.at) > 1 and of is OF_CATEGORY:
            of = OF_CONDITION if "/conditions/" in fault.pointer else OF_QUESTION
        return of.get(fault.field, fault.field)

    def _department(self, line: Line) -> None:
        values = {
            "code": line.text("office"), "zh": line.text("office_zh"), "en": line.text("office_en"),
            "kind": line.text("office_kind", "unit"),
        }  # fmt: skip
        made = line.made(Department, OF_DEPARTMENT, values)
        if made is not None:
            if made.code in self.departments:
                line.wrong("office", f"{made.code} is there twice")
            self.departments[made.code] = made

    def _category(self, line: Line, code: str | None, kind: str | None) -> None:
        """A category that a line describes for the first time."""
        if code is None:
            return
        if code in self.drafts:
            line.wrong("code", f"{code} is there twice")
            return
        old, said = self.base.get(code), line.read("kind", columns.kind, kind)
        if said is not None and LETTERS[said] != code[0]:
            line.wrong("kind", f"{code} is no {said}")
        if old is None and not line.has("extension"):
            line.wrong("code", f"{code} is new: a column 本地扩展 must say whether a place added it")
        values = {
            "code": code,
            "zh": line.text("zh", old.zh if old and not line.has("zh") else ""),
            "en": line.text("en", old.en if old and not line.has("en") else ""),
            "extension": line.read("extension", columns.yes, old.extension if old and not line.has("extension") else False),
            "source": line.text("source", old.source if old and not line.has("source") else ""),
        }
        # Made once without conditions, only to find what is wrong with the rest.
        if line.made(Category, OF_CATEGORY, {**values, "conditions": ()}) is not None:
            self.drafts[code] = Draft(values)
            self.lines["categories", code] = line
            self._major(line, code)

    def _major(self, line: Line, code: str) -> None:
        """The major class as the line names it; two lines must not name it differently."""
        family, old = code[:3], self.majors.get(code[:3])
        given = line.text("major")
        if given and given.zfill(2) != code[1:3]:
            line.wrong("major", f"{code} lies in the major class {code[1:3]}")
        if line.blank("major_zh"):
            return
        values = {
            "kind": "part" if code[0] == "P" else "event",
            "code": code[1:3],
            "zh": line.text("major_zh"),
            "en": line.text("major_en", old.en if old and not line.has("major_en") else ""),
            "standard": line.read("standard", columns.yes, old.standard if old else True),
        }
        made = line.made(Major, OF_MAJOR, values)
        if made is not None and family in self._named_majors and made != old:
            line.wrong("major_zh", f"row {self._named_majors[family].row} describes the major class {family} differently")
        elif made is not None:
            self.majors[family] = made
            self._named_majors.setdefault(family, line)

    def _conditions(self, table: Table) -> None:
        """The rows of a sheet of conditions; a blank cell of the category, its kind or its department means the one above."""
        kind = next((k for word, k in (("部件", "part"), ("事件", "event")) if word in table.title), None)
        code: str | None = None
        above: dict[str, Line] = {}
        for at, line in enumerate(table.lines):
            kind = line.read("kind", columns.kind, kind)
            if at == 0 or not line.blank("code" if line.has("code") else "zh"):
                before, code = code, self._begun(line, kind)
                above = above if code == before else {}
            above |= {name: line for name in ("department", "closing_zh") if not line.blank(name)}
            if code is not None:
                self._condition(line, code, above)

    def _begun(self, line: Line, kind: str | None) -> str | None:
        """The category that begins at this line: one of the sheet of categories or, where there is none, a new one."""
        code = self._naming.category(line, kind)
        if code is None or code in self.drafts:
            return code
        if self._listed:
            line.wrong("code", f"{code} is not on the sheet of categories")
            return None
        self._category(line, code, kind)
        return code if code in self.drafts else None

    def _condition(self, line: Line, code: str, above: dict[str, Line]) -> None:
        draft, known = self.drafts[code], self.base.get(code)
        if len(draft.conditions) >= MOST_CONDITIONS:
            line.wrong("condition", f"{code} has more than {MOST_CONDITIONS} conditions")
            return
        zh = line.text("condition_zh")
        number = line.text("condition") if line.has("condition") else self._number(draft, known, zh)
        old = next((c for c in known.conditions if c.code == number), None) if known else None
        before = old.model_dump() if old else {}
        lead, helping = self._offices(above.get("department", line), old)
        closing = above.get("closing_zh", line)
        values = {
            "code": number, "zh": zh, "en": self._other(line, "condition_en", before.get("en")),
            "limit": line.read("limit", lambda v: columns.limit(as_text(v)), ""),
            "closing_zh": closing.text("closing_zh"),
            "closing_en": self._other(closing, "closing_en", before.get("closing_en")),
            "department": lead, "helping": helping, "basis": self._other(line, "basis", before.get("basis")),
            "grade": self._other(line, "grade", before.get("grade")) or "ordinary",
        }  # fmt: skip
        if line.blank("limit"):
            line.wrong("limit", "must not be empty")
        made = line.made(Condition, OF_CONDITION, values)
        if made is not None:
            draft.conditions.append(made)
            self.lines["categories", code, made.code] = line

    @staticmethod
    def _other(line: Line, name: str, old: str | None) -> str:
        """What the column says; without such a column what was there."""
        return line.text(name) if line.has(name) else old or ""

    @staticmethod
    def _number(draft: Draft, known: Category | None, zh: str) -> str:
        """The code of a condition in a list without such codes: that of the same words before, else the first free number."""
        taken = {c.code for c in draft.conditions}
        same = [c.code for c in known.conditions if c.zh == zh and c.code not in taken] if known else []
        before = {c.code for c in known.conditions} if known else set()
        free = (str(n) for n in count(1) if str(n) not in taken | before)
        return same[0] if same else next(free)

    def _offices(self, line: Line, old: Condition | None) -> tuple[str, tuple[str, ...]]:
        """(department, departments that help); where nothing names those that help, further ones in the first cell do."""
        named = columns.several(line.text("department"))
        codes = [self._naming.office(line, "department", name) for name in named]
        if line.has("helping"):
            if len(codes) > 1:
                line.wrong("department", "names several; the others belong in the column 协办部门")
            helping = [self._naming.office(line, "helping", name) for name in columns.several(line.text("helping"))]
            return (codes or [""])[0], tuple(helping)
        same = old is not None and codes == [old.department]
        return (codes or [""])[0], old.helping if old and same else tuple(codes[1:])

    def _question(self, line: Line) -> None:
        code = self._naming.category(line, None)
        if code is None:
            return
        if code not in self.drafts:
            line.wrong("code", f"no category {code} is in this workbook")
            return
        if len(self.drafts[code].questions) >= MOST_QUESTIONS:
            line.wrong("key", f"{code} has more than {MOST_QUESTIONS} questions")
            return
        none: tuple[Option, ...] = ()
        values: dict[str, Any] = {
            "key": line.text("key"), "kind": line.text("ask"), "zh": line.text("question_zh"), "en": line.text("question_en"),
            "required": line.read("required", columns.yes, False), "unit": line.text("unit") or None,
            "minimum": line.read("minimum", as_number, None), "maximum": line.read("maximum", as_number, None),
            "options": line.read("options", lambda v: columns.options(as_text(v)), none),
            "shown": line.read("shown", lambda v: columns.shown(as_text(v)), None),
        }  # fmt: skip
        made = line.made(Question, OF_QUESTION, values)
        if made is not None:
            self.drafts[code].questions.append(made)
            self.lines["categories", code, made.key] = line
