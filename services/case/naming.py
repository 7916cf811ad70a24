"""Which category and departments a line of an imported workbook means: by code, by name, or by the code of an older edition."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from services.case.catalogue import Legacy
from services.case.columns import plainly
from services.case.entries import LETTERS, Category, Department
from services.case.lines import Line

CODE = re.compile(r"([EP])?([0-9]{4,5})")


class Naming:
    """The names and codes that lines are understood by; `unmapped` are the codes of the older edition that have no new one."""

    def __init__(self, categories: Iterable[Category], departments: Iterable[Department], legacy: Legacy | None) -> None:
        self.legacy = legacy
        self.unmapped: set[str] = set()
        self._categories = _by_names(categories)
        self.of_departments(departments)

    def of_departments(self, departments: Iterable[Department]) -> None:
        """From now on these are the departments."""
        known = list(departments)
        self._offices, self._codes = _by_names(known), {d.code for d in known}

    def category(self, line: Line, kind: str | None) -> str | None:
        """The current code of the line's category; None where there is none, which is noted unless an old code has no new one."""
        if not line.has("code"):
            return self._by_name(line)
        written = line.read("code", _whole, "")
        if not written:
            if line.blank("code"):
                line.wrong("code", "must not be empty")
            return None
        found = CODE.fullmatch(unicodedata.normalize("NFKC", written).strip().upper())
        if found is None or not (letter := found[1] or LETTERS.get(kind or "")):
            why = "the code has only digits, and nothing says 部件 or 事件" if found else f"no code of a category: {written}"
            line.wrong("code", why)
            return None
        return self._current(letter + found[2])

    def _current(self, code: str) -> str | None:
        if self.legacy is None:
            return code
        if code not in self.legacy.codes:
            self.unmapped.add(code)
        return self.legacy.codes.get(code)

    def _by_name(self, line: Line) -> str | None:
        """A list without codes: the category of just that name in the edition compared with."""
        found = self._categories.get(plainly(line.text("zh")), [])
        if len(found) == 1:
            return found[0]
        line.wrong("zh", f"{len(found) or 'no'} categories have this name; add a column with their codes")
        return None

    def office(self, line: Line, column: str, name: str) -> str:
        """The code of a department by its code or its name in either language; what is none is noted."""
        if name in self._codes:
            return name
        found = self._offices.get(plainly(name), [])
        if len(found) == 1:
            return found[0]
        line.wrong(column, f"{len(found) or 'no'} departments are called {name}; name one of the sheet 部门 by code or name")
        return "unknown"


def _whole(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("the code is a number and may have lost its leading zero; format the column as text")
    return value


def _by_names(entries: Iterable[Category | Department]) -> dict[str, list[str]]:
    """Name in either language → the codes of those that are called so."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        for name in {plainly(entry.zh), plainly(entry.en)} - {""}:
            found.setdefault(name, []).append(entry.code)
    return found
