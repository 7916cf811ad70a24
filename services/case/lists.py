"""Lists of cases: the grammar of their filters and orders, and pages of them, with a full-text search as one of the filters."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, Connection, Index, and_, func, literal_column, not_, select

from contracts.case import Channel, Stage
from services.case import domain, search
from services.case.queries import PUBLIC
from services.case.tables import cases
from services.case.terms import snippet, terms
from services.case.texts import CODE_PATTERN
from shared.clock import stamp
from shared.errors import Invalid
from shared.listing import CHANGED, Chain, Order, Wanted, conditions, inside, instant
from shared.listing import page as listed

Light = Literal["green", "yellow", "red"]
Sort = Literal["changed", "due", "reported"]
ENDED = tuple(s for s in domain.STATES if s not in domain.OPEN and s not in ("appealed", "appeal_review"))
WAITING: ColumnElement[bool] = literal_column(f"state NOT IN ({', '.join(repr(state) for state in ENDED)})")
"""Somebody has work to do with the case. The indexes that hold only these are found by this very text, so it has no type: to a
truth value the library adds a comparison on SQLite."""

_CHILD: ColumnElement[bool] = literal_column("parent IS NOT NULL")
Index("case_cases_by_state", cases.c.state, cases.c.changed_at, cases.c.id)
Index("case_cases_by_department", cases.c.department, cases.c.changed_at, cases.c.id)
Index("case_cases_by_report", cases.c.reported_at, cases.c.id)
Index("case_cases_open", cases.c.changed_at, cases.c.id, sqlite_where=WAITING, postgresql_where=WAITING)
Index("case_cases_open_due", cases.c.due_at, cases.c.id, sqlite_where=WAITING, postgresql_where=WAITING)
Index("case_cases_division", cases.c.division)
Index("case_cases_parent", cases.c.parent, sqlite_where=_CHILD, postgresql_where=_CHILD)

ORDERS = {"changed": CHANGED, "due": Order("due", "due_at"), "reported": Order("reported", "reported_at", descending=True)}
LED = ("part", "parent", "cell", "department", "state")
"""Columns by whose value an index leads to the cases."""
SERVED = {("changed", "department"), ("changed", "state"), ("due", "state")}
"""Orders and columns of which one index has both, however many cases have the value."""
FEW = 2000
"""So few cases are sorted in less time than it takes to look for them in any order."""
CODE = r"^[0-9A-Z]{2,20}$"
MOMENT: dict[str, Any] = {"format": "date-time"}


class Filters(BaseModel):
    """Which cases a list shows; a saved filter is one of these. What is left out filters nothing."""

    model_config = ConfigDict(extra="forbid")
    category: str | None = Field(None, pattern=CODE, examples=["E0101"])
    state: domain.State | None = None
    stage: Stage | None = Field(None, description="whose clock counts now")
    light: Light | None = Field(None, description="colour of that clock")
    area: str | None = Field(None, max_length=20, description="a division and all within it")
    department: str | None = Field(None, max_length=80, pattern=CODE_PATTERN)
    channel: Channel | None = None
    condition: str | None = Field(None, max_length=40, pattern=CODE_PATTERN)
    part: str | None = Field(None, max_length=40, pattern=CODE_PATTERN)
    cell: str | None = Field(None, pattern=CODE)
    overdue: bool | None = Field(None, description="open, and the handling's deadline passed without a feedback before it")
    supervised: bool | None = Field(None, description="a supervision waits for an answer")
    parent: str | None = Field(None, max_length=40, pattern=CODE_PATTERN, description="the case that it was split from")
    text: str | None = Field(
        None, max_length=200, examples=["路灯 人民路"],
        description="words that all stand in the report, its place, number or codes; the newest case comes first",
    )  # fmt: skip
    reported_from: str | None = Field(None, description="instant with offset", json_schema_extra=MOMENT)
    reported_to: str | None = Field(None, json_schema_extra=MOMENT)
    changed_since: str | None = Field(None, json_schema_extra=MOMENT)
    bbox: str | None = Field(None, description="west,south,east,north in degrees", examples=["87.5,43.7,87.7,43.9"])
    sort: Sort | None = Field(
        None, description="`changed` (if nothing is said): last change first; `due`: open cases, the nearest deadline first; "
        "`reported`: the newest first",
    )  # fmt: skip

    def wanted(self, cursor: str | None = None, limit: int = 100) -> Wanted:
        return Wanted(self.category, self.state, self.area, self.reported_from, self.reported_to, self.changed_since, self.bbox,
                      cursor, limit)  # fmt: skip

    def checked(self) -> Filters:
        """Raises Invalid for what only shows when it is used: instants, a box, a text without a word."""
        conditions(cases.c, self.wanted(), None)
        if self.text is not None:
            terms(self.text)
            if self.sort is not None:
                raise Invalid("what is found by its text is listed newest first", field="/sort")
        return self

    @property
    def open(self) -> bool:
        """Whether only cases can pass with which somebody has work to do."""
        return bool(self.stage or self.light or self.overdue or self.supervised or self.sort == "due")


def _where(filters: Filters, at: str) -> Callable[[Any], list[Any]]:
    """The conditions that only lists of cases know, at the instant `at`."""

    def made(c: Any) -> list[Any]:
        names = ("stage", "department", "channel", "condition", "part", "cell", "parent")
        found = [c[name] == value for name in names if (value := getattr(filters, name)) is not None]
        if filters.light is not None:
            found.append(lit(c, at)[filters.light])
        if filters.overdue is not None:
            late = and_(c.ended_at.is_(None), func.coalesce(c.due_at < func.coalesce(c.handled_at, at), False))
            found.append(late if filters.overdue else not_(late))
        if filters.supervised is not None:
            asked = and_(c.reply_by.is_not(None), c.ended_at.is_(None))
            found.append(asked if filters.supervised else not_(asked))
        return found

    return made


def lit(c: Any, at: str) -> Mapping[str, Any]:
    """The colours of the clock that counts at an instant, as conditions; as `guards.light` says it of one case."""
    return {"green": c.warn_at >= at, "yellow": and_(c.warn_at < at, c.late_at >= at), "red": c.late_at < at}


def page(
    connection: Connection, filters: Filters, chain: Chain, at: datetime, cursor: str | None = None, limit: int = 100
) -> tuple[list[dict[str, Any]], str | None]:
    """De-identified cases and the cursor of the next page, None on the last. Raises Invalid naming the filter.

    A page may be shorter than `limit`, or empty, while there is a next one: the work behind each is bounded.
    """
    if filters.text is not None:
        rows, following = found(connection, filters, chain, at, cursor, limit)
        return [{name: row[name] for name in PUBLIC} for row in rows], following
    order = ORDERS[filters.sort or "changed"]
    few, first = _led(connection, filters, order)
    if few is None and first is None and filters.open:
        first = WAITING
    wanted, where = filters.wanted(cursor, limit), _where(filters, stamp(at))
    return listed(connection, cases, PUBLIC, wanted, chain, where=where, order=order, first=first, few=few)


def _led(connection: Connection, filters: Filters, order: Order | None) -> tuple[Any, Any]:
    """(few, first): a condition by which an index leads to few cases; else one by which it leads to them in this order."""
    counted = {}
    for name in LED:
        if (value := getattr(filters, name)) is not None:
            some = select(1).where(cases.c[name] == value).limit(FEW + 1).subquery()
            counted[name] = connection.execute(select(func.count()).select_from(some)).scalar_one()
    if not counted:
        return None, None
    name = min(counted, key=lambda n: counted[n])
    # What is due is only asked of open cases.
    condition = and_(cases.c[name] == getattr(filters, name), *((WAITING,) if filters.sort == "due" else ()))
    if counted[name] <= FEW:
        return condition, None
    return None, condition if order and (order.name, name) in SERVED else None


def found(
    connection: Connection, filters: Filters, chain: Chain, at: datetime, cursor: str | None = None, limit: int = 50
) -> tuple[list[dict[str, Any]], str | None]:
    """Cases that the text of `filters` finds, the newest first, each with the `snippet` that shows why, and the next cursor."""
    sought = terms(filters.checked().text or "")
    divisions = None if filters.area is None else inside(connection, cases, filters.area, chain)
    wanted, more = filters.wanted(), _where(filters, stamp(at))
    since, until = (
        None if value is None else instant(name, value)
        for name, value in (("reported_from", filters.reported_from), ("reported_to", filters.reported_to))
    )  # fmt: skip
    asked = search.Asked(filters.text or "", filters.category, divisions, since, until, _before(cursor), limit)
    rows, following = search.find(
        connection, asked, (*PUBLIC, "text", "place"), lambda c: [*conditions(c, wanted, divisions), *more(c)],
        few=_led(connection, filters, None)[0],
    )  # fmt: skip
    shown = [{name: r[name] for name in PUBLIC} | {"snippet": snippet((r["text"], r["place"]), sought)} for r in rows]
    return shown, None if following is None else base64.urlsafe_b64encode(f"text {following}".encode()).decode()


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        kind, place = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        if kind != "text" or not 0 <= int(place) < 2**63:
            raise ValueError
        return int(place)
    except ValueError:
        raise Invalid("not a cursor of this list", field="/cursor") from None


def everything(connection: Connection, filters: Filters, chain: Chain, at: datetime) -> Iterator[dict[str, Any]]:
    """All cases of a list, page by page."""
    cursor: str | None = None
    while True:
        rows, cursor = page(connection, filters, chain, at, cursor, 1000)
        yield from rows
        if cursor is None:
            return
