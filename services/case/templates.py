"""Templates of answers 答复模板: texts for an action in a state, with placeholders that are filled from the case.

A placeholder is a name of `PLACEHOLDERS` in braces. Which ones a text has is checked at saving, so that filling cannot fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from sqlalchemy import Column, Connection, Integer, String, Table, delete, insert, or_, select, update

from services.case import domain
from services.case.domain import Action, State
from services.case.questions import filled
from services.case.tables import INSTANT, metadata
from services.case.words import Speech
from shared.clock import stamp
from shared.database import Tx
from shared.errors import Conflict, NotFound

templates = Table(
    "case_templates",
    metadata,
    Column("code", String(40), primary_key=True),
    Column("action", String(24), nullable=False),
    # Empty for every state in which there is this action.
    Column("state", String(16)),
    Column("place", Integer, nullable=False),
    Column("title_zh", String(80), nullable=False),
    Column("title_en", String(80), nullable=False),
    Column("text_zh", String(1500), nullable=False),
    Column("text_en", String(1500), nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Column("changed_by", String(120), nullable=False),
)

MOST, LONGEST = 500, 2000
"""Templates of a node; characters of a filled text, as many as an opinion may have."""

PLACEHOLDERS: dict[str, Callable[[Mapping[str, Any], Speech], str]] = {
    "number": lambda row, _: row["number"],
    "category": lambda row, speech: speech.category(row["category"], row),
    "due": lambda row, speech: speech.instant(row["due_at"]),
    "reported": lambda row, speech: speech.instant(row["reported_at"]),
    "department": lambda row, speech: speech.department(row["department"], row),
    "division": lambda row, speech: speech.division(row["division"]),
}
"""What each name in braces stands for."""
UNKNOWN = {"zh": "（未定）", "en": "(not set)"}
"""What stands for something that the case does not have yet."""
BRACED = re.compile(r"\{([^{}]*)\}")
Text = Annotated[str, Field(min_length=1, max_length=1500), AfterValidator(filled)]
Title = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(filled)]


class Template(BaseModel):
    """A template for one action, in one state or in all that have the action."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    action: Action
    state: State | None = None
    place: int = Field(0, ge=0, le=9999, description="where it stands among others")
    title_zh: Title
    title_en: Title
    text_zh: Text = Field(examples=["案卷{number}（{category}）请于{due}前处置完毕。"])
    text_en: Text = Field(examples=["Please deal with {number} ({category}) by {due}."])

    @field_validator("text_zh", "text_en")
    @classmethod
    def _known(cls, value: str) -> str:
        if strange := sorted(set(BRACED.findall(value)) - PLACEHOLDERS.keys()):
            raise ValueError(f"no placeholder {{{strange[0]}}}; there are {', '.join(PLACEHOLDERS)}")
        if set(BRACED.sub("", value)) & set("{}"):
            raise ValueError("a brace stands alone; only placeholders are in braces")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Template:
        states = [s.source for s in domain.WORKFLOW if s.action == self.action]
        if self.state is not None and self.state not in states:
            raise ValueError(f"nobody can {self.action} a case that is {self.state}; only: {', '.join(states)}")
        return self


def put(tx: Tx, code: str, new: Template, by: str) -> dict[str, Any]:
    """Enter or change a template; answers its row. Raises Conflict where there are too many."""
    values = new.model_dump() | {"changed_at": stamp(tx.now()), "changed_by": by}
    if not tx.execute(update(templates).where(templates.c.code == code).values(**values)).rowcount:
        if len(every(tx.connection)) >= MOST:
            raise Conflict(f"a node has at most {MOST} templates; remove one first")
        tx.execute(insert(templates), {"code": code, **values})
    return {"code": code, **values}


def remove(tx: Tx, code: str) -> None:
    """Raises NotFound."""
    if not tx.execute(delete(templates).where(templates.c.code == code)).rowcount:
        raise NotFound("no such template here", field="/code")


def every(connection: Connection) -> list[dict[str, Any]]:
    """All templates, by action and place."""
    order = (templates.c.action, templates.c.place, templates.c.code)
    return [dict(row) for row in connection.execute(select(templates).order_by(*order)).mappings()]


def for_case(
    connection: Connection, row: Mapping[str, Any], action: Action | None, speeches: Mapping[str, Speech]
) -> list[dict[str, Any]]:
    """The templates for what can be done with a case now, filled in each language; of one action or of all."""
    possible = [step.action for step in domain.steps(row["state"]) if action in (None, step.action)]
    of_state = or_(templates.c.state.is_(None), templates.c.state == row["state"])
    query = select(templates).where(of_state, templates.c.action.in_(possible))
    rows = connection.execute(query.order_by(templates.c.action, templates.c.place, templates.c.code)).mappings()
    return [
        {"code": found["code"], "action": found["action"], "title_zh": found["title_zh"], "title_en": found["title_en"]}
        | {f"text_{language}": fill(found[f"text_{language}"], row, speech) for language, speech in speeches.items()}
        for found in rows
    ]


def fill(text: str, row: Mapping[str, Any], speech: Speech) -> str:
    """The text with everything in braces filled; what the case does not have yet is said to be open."""

    def value(match: re.Match[str]) -> str:
        make = PLACEHOLDERS.get(match[1])
        return (make(row, speech) if make else "") or UNKNOWN[speech.language]

    return BRACED.sub(value, text)[:LONGEST]
