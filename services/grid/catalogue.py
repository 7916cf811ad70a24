"""Reads the catalogue of a pack: classes, filing conditions, departments, questions and what the codes of an older list mean."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from services.grid.domain import HOURS, Category, Condition
from services.grid.files import PackError, Row, content, rows
from services.grid.lists import code

KINDS = {"part": "P", "event": "E"}
LIMIT = re.compile(f"[1-9][0-9]{{0,3}}({'|'.join(HOURS)})")
IDENT = re.compile("[0-9A-Za-z._:-]{1,80}")
Entries = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Catalogue:
    """The first edition of the catalogue at every node of the pack; `legacy`: what codes of the edition `older` are in it."""

    edition: str
    sources: tuple[str, ...]
    categories: tuple[Category, ...]
    majors: Entries
    departments: Entries
    questions: dict[str, Entries]
    older: str
    legacy: dict[str, str]

    def published(self) -> dict[str, Any]:
        """All of it as the case service takes it: JSON values only."""
        names = ("code", "zh", "en", "limit", "closing_zh", "closing_en", "department", "helping", "basis", "grade")
        categories = [
            {
                "code": c.code, "zh": c.name_zh, "en": c.name_en, "source": c.edition,
                "conditions": [{name: getattr(condition, name) for name in names} for condition in c.conditions],
                "questions": self.questions.get(c.code, ()),
            }
            for c in self.categories
        ]  # fmt: skip
        return {
            "edition": self.edition, "note": "; ".join(self.sources), "legacy": {"edition": self.older, "codes": self.legacy},
            "content": {"majors": self.majors, "departments": self.departments, "categories": categories},
        }  # fmt: skip


def read_catalogue(folder: Path, edition: str, sources: tuple[str, ...], older: str) -> Catalogue:
    """The catalogue in the files of `folder`; questions and legacy codes where there are such files. Raises PackError."""
    departments = _departments(folder / "departments.csv")
    conditions = _conditions(folder / "conditions.csv", {d["code"] for d in departments})
    majors = _majors(folder / "majors.csv")
    categories = _categories(folder / "catalogue.csv", conditions, {(m["kind"], m["code"]) for m in majors})
    known = {c.code for c in categories}
    asked, legacy = folder / "questions.toml", folder / "legacy.csv"
    return Catalogue(
        edition=edition,
        sources=sources,
        categories=categories,
        majors=majors,
        departments=departments,
        questions=_questions(asked, known) if asked.exists() else {},
        older=older,
        legacy=_legacy(legacy, known) if legacy.exists() else {},
    )


def _majors(file: Path) -> Entries:
    return tuple(
        {
            "kind": row.read("kind", _one_of(*KINDS)), "code": row.read("code", _digits), "zh": row.text("name_zh"),
            "en": row.text("name_en"), "standard": row.read("standard", _one_of("yes", "no")) == "yes",
        }
        for row in rows(file, ("kind", "code", "name_zh", "name_en", "standard"))
    )  # fmt: skip


def _departments(file: Path) -> Entries:
    found: dict[str, dict[str, Any]] = {}
    for row in rows(file, ("code", "name_zh", "name_en", "kind")):
        one = {"code": row.read("code", _ident), "zh": row.text("name_zh"), "en": row.text("name_en"), "kind": row.text("kind")}
        if one["code"] in found:
            raise row.wrong("code", f"{one['code']} stands here a second time")
        found[one["code"]] = one
    return tuple(found.values())


def _conditions(file: Path, departments: set[str]) -> dict[str, list[tuple[Row, Condition]]]:
    """The conditions of every category in the order of the file."""
    columns = ("category", "code", "condition_zh", "condition_en", "limit", "closing_zh", "closing_en", "department", "helping")
    found: dict[str, list[tuple[Row, Condition]]] = {}
    for row in rows(file, (*columns, "basis", "grade")):
        helping = tuple(row.values["helping"].split())
        for name in (row.text("department"), *helping):
            if name not in departments:
                raise row.wrong("department", f"no department has the code {name}")
        condition = Condition(
            code=row.read("code", _ident),
            zh=row.text("condition_zh"),
            en=row.text("condition_en"),
            limit=row.read("limit", _limit),
            closing_zh=row.text("closing_zh"),
            closing_en=row.text("closing_en"),
            department=row.text("department"),
            helping=helping,
            basis=row.values["basis"],
            grade=row.text("grade"),
        )
        before = found.setdefault(row.read("category", code), [])
        if any(condition.code == other.code for _, other in before):
            raise row.wrong("code", f"{row.text('category')} has the condition {condition.code} twice")
        before.append((row, condition))
    return found


def _categories(
    file: Path, conditions: dict[str, list[tuple[Row, Condition]]], majors: set[tuple[str, str]]
) -> tuple[Category, ...]:
    found: dict[str, Category] = {}
    for row in rows(file, ("code", "kind", "name_zh", "name_en", "edition", "valid_from")):
        category = Category(
            code=row.read("code", code),
            kind=row.read("kind", _one_of(*KINDS)),
            name_zh=row.text("name_zh"),
            name_en=row.text("name_en"),
            edition=row.text("edition"),
            valid_from=row.maybe("valid_from", date.fromisoformat),
            conditions=tuple(condition for _, condition in conditions.pop(row.text("code"), ())),
        )
        if category.code in found:
            raise row.wrong("code", f"{category.code} stands here a second time")
        if category.code[0] != KINDS[category.kind] or (category.kind, category.code[1:3]) not in majors:
            raise row.wrong("code", f"{category.code} lies in no major class of this kind")
        if not category.conditions:
            raise row.wrong("code", f"{category.code} has no filing condition in conditions.csv")
        found[category.code] = category
    for (row, _), *_ in conditions.values():
        raise row.wrong("category", f"no category has the code {row.text('category')}")
    return tuple(found.values())


def _questions(file: Path, known: set[str]) -> dict[str, Entries]:
    """The questions of every category; the case service, which asks them, judges the rest of what stands in them."""
    try:
        listed = tomllib.loads(content(file)).get("question", [])
    except tomllib.TOMLDecodeError as error:
        raise PackError(file, "whole file", "TOML", str(error)) from None
    found: dict[str, Entries] = {}
    for number, question in enumerate(listed, start=1):
        if (category := question.pop("category", None)) not in known:
            raise PackError(file, f"question {number}", "category", f"no category has the code {category}")
        found[category] = (*found.get(category, ()), question)
    return found


def _legacy(file: Path, known: set[str]) -> dict[str, str]:
    """Old code → current code, of those lines that know one."""
    found: dict[str, str] = {}
    for row in rows(file, ("legacy", "name_zh", "code")):
        old, new = row.read("legacy", code), row.maybe("code", code)
        if new is not None and new not in known:
            raise row.wrong("code", f"no category has the code {new}")
        if old in found:
            raise row.wrong("legacy", f"{old} stands here a second time")
        found[old] = new or ""
    return {old: new for old, new in found.items() if new}


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}, not {text!r}")
        return text

    return read


def _digits(text: str) -> str:
    if not re.fullmatch("[0-9]{2}", text):
        raise ValueError(f"a major class has 2 digits, not {text!r}")
    return text


def _ident(text: str) -> str:
    if not IDENT.fullmatch(text):
        raise ValueError(f"has 1 to 80 letters, digits or . _ : -, not {text!r}")
    return text


def _limit(text: str) -> str:
    if not LIMIT.fullmatch(text):
        raise ValueError(f"a limit is an amount and one of {', '.join(HOURS)}, such as 2WD, not {text!r}")
    return text
