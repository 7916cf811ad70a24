"""The desk 工作台: which cases wait for somebody, by the roles that he has, what is due first, and how many of each colour."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    Index,
    String,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    union_all,
)

from services.case import domain
from services.case.lists import WAITING, Light, lit
from services.case.queries import PUBLIC
from services.case.tables import cases
from shared.auth import Caller
from shared.clock import stamp
from shared.errors import Forbidden, Invalid

MAIN: tuple[domain.Action, ...] = (
    "verify", "accept", "file", "dispatch", "grant", "assign", "endorse", "finish", "handle", "ask_check", "pass_check", "close",
)  # fmt: skip
"""What brings a case on its way; everything else turns it aside or only adds to it."""
TASKS: frozenset[domain.State] = frozenset({"verifying", "checking"})
"""Tasks 核实、核查 may be for one collector; what is for nobody is for all."""
LIGHTS: tuple[Light, ...] = get_args(Light)

_HELPED: ColumnElement[bool] = literal_column(f"CAST(helpers AS TEXT) <> 'null' AND {WAITING}")
_DESK = ("state", "department", "handler", "warn_at", "late_at", "due_at", "reported_at", "id")
Index("case_cases_desk", *(cases.c[name] for name in _DESK), sqlite_where=WAITING, postgresql_where=WAITING)
Index("case_cases_helped", cases.c.stage, cases.c.id, sqlite_where=_HELPED, postgresql_where=_HELPED)


def _waits() -> dict[domain.State, frozenset[str]]:
    """For whom a case in each state waits: who may take the first step of the table that brings it on its way.

    A platform acts by itself and has no desk; what a handler was given waits for him and not for his department.
    """
    found: dict[domain.State, frozenset[str]] = {}
    for state in domain.STATES:
        step = next((s for s in domain.steps(state) if s.action in MAIN), None)
        roles = step.roles - {"integrator"} if step else frozenset()
        if roles:
            found[state] = frozenset({"handler"}) if "handler" in roles else roles
    return found


WAITS = _waits()


@dataclass(frozen=True)
class Desk:
    """Whose desk it is: somebody's roles as they hold here, and his departments."""

    who: Caller
    roles: frozenset[str]

    def states(self, wanted: Sequence[domain.State] | None = None) -> frozenset[domain.State]:
        """The states in which cases wait for this desk."""
        return frozenset(s for s, roles in WAITS.items() if roles & self.roles and (wanted is None or s in wanted))


def asked(who: Caller, roles: frozenset[str], role: str | None) -> Desk:
    """The desk of all his roles, or of one of them. Raises Forbidden for a role that he has not."""
    if role is not None and role not in roles:
        raise Forbidden("this is the desk of another role", field="/role")
    return Desk(who, roles if role is None else frozenset({role}))


class Part(NamedTuple):
    """A set of cases that wait for a desk: the conditions for it, to which an index leads, and whether they are tasks."""

    where: list[ColumnElement[bool]]
    tasks: bool = False


def _parts(desk: Desk, states: frozenset[domain.State], department: str | None) -> Iterator[Part]:
    """The disjoint parts of what waits for the desk."""
    c, mine = cases.c, desk.who.departments
    of_department = frozenset(s for s in states if WAITS[s] == {"department"})
    of_handler = frozenset(s for s in states if WAITS[s] == {"handler"})
    of_collectors = states & TASKS
    anybody = states - of_department - of_handler - of_collectors
    led = [] if department is None else [c.department == department]
    if anybody:
        yield Part([WAITING, c.state.in_(sorted(anybody)), *led])
    if of_handler:
        yield Part([WAITING, c.state.in_(sorted(of_handler)), c.handler == desk.who.name, *led])
    if of_collectors:
        assignee = c.pending["assignee"].as_string()
        free = or_(assignee.is_(None), assignee == desk.who.name)
        yield Part([WAITING, c.state.in_(sorted(of_collectors)), free, *led], tasks=True)
    if of_department and not mine:
        yield Part([WAITING, c.state.in_(sorted(of_department)), *led])
    elif of_department:
        yield Part([WAITING, c.state.in_(sorted(of_department)), c.department.in_(sorted(mine)), *led])
        # The stage, which is that of all these states, leads to the few that have helpers; the state leads SQLite elsewhere.
        others = [c.stage == "handling", _helps(mine), func.coalesce(c.department, "").not_in(sorted(mine))]
        yield Part([_HELPED, c.state.in_(sorted(of_department)), *others, *led])


def _helps(mine: frozenset[str]) -> ColumnElement[bool]:
    """One of these departments is among the helping ones."""
    listed = cast(cases.c.helpers, Text)
    return or_(*(listed.contains(f'"{name}"', autoescape=True) for name in sorted(mine)))


def counts(connection: Connection, desk: Desk, at: datetime) -> dict[str, Any]:
    """How many cases wait, by colour: {"at", "roles": {role: {"green", "yellow", "red", "none", "total"}}, "states": {...}}."""
    colour = _colour(stamp(at))
    found: dict[domain.State, dict[str, int]] = {}
    shown = select(cases.c.state, colour.label("colour"), func.count().label("many")).group_by(cases.c.state, colour)
    parts = [shown.where(*part.where) for part in _parts(desk, desk.states(), None)]
    for state, name, many in connection.execute(union_all(*parts)) if parts else ():
        of_state = found.setdefault(state, _none())
        of_state[name] += many
        of_state["total"] += many
    roles = {role: _none() for role in sorted(desk.roles & frozenset().union(*WAITS.values()))}
    for state, of_state in found.items():
        for role in WAITS[state] & desk.roles:
            roles[role] = {name: roles[role][name] + many for name, many in of_state.items()}
    return {"at": stamp(at), "roles": roles, "states": found}


def _none() -> dict[str, int]:
    return dict.fromkeys((*LIGHTS, "none", "total"), 0)


def _colour(at: str) -> ColumnElement[str]:
    # Written out, because PostgreSQL takes two parameters for two things, and then does not see what it groups by.
    names: dict[str, ColumnElement[str]] = {name: literal_column(f"'{name}'", String()) for name in (*LIGHTS, "none")}
    when = lit(cases.c, at)
    return case((cases.c.warn_at.is_(None), names["none"]), *((when[name], names[name]) for name in LIGHTS), else_=names["red"])


def queue(
    connection: Connection, desk: Desk, at: datetime, *, states: Sequence[domain.State] | None = None,
    light: Literal["green", "yellow", "red"] | None = None, department: str | None = None, cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[dict[str, Any]], str | None]:  # fmt: skip
    """The cases that wait, tasks for this very person first, then by what is due, and the cursor of the next page.

    Due is when the clock turns red that counts; where none runs, the deadline of the handling; before there is one, the report.
    """
    parts = [_keys(desk.who, part, stamp(at), light) for part in _parts(desk, desk.states(states), department)]
    if not parts:
        return [], None
    every = union_all(*parts).subquery()
    rank, due, ident = every.c.rank, every.c.due, every.c.id
    query = select(rank, due, ident).order_by(rank, due, ident).limit(limit + 1)
    if cursor is not None:
        a, b, c = _after(cursor)
        query = query.where(or_(rank > a, and_(rank == a, or_(due > b, and_(due == b, ident > c)))))
    keys = connection.execute(query).all()
    wanted = select(*(cases.c[name] for name in PUBLIC)).where(cases.c.id.in_([key.id for key in keys[:limit]]))
    rows = {row["id"]: dict(row) for row in connection.execute(wanted).mappings()}
    following = " ".join(map(str, keys[limit - 1])) if len(keys) > limit else None
    return [rows[key.id] for key in keys[:limit]], following and base64.urlsafe_b64encode(following.encode()).decode()


def _keys(who: Caller, part: Part, at: str, light: Light | None) -> Any:
    """What a part of the queue is sorted by: 0 for a task for this person, when it is due, its id."""
    c = cases.c
    due = func.coalesce(c.late_at, c.due_at, c.reported_at).label("due")
    rank = case((c.pending["assignee"].as_string() == who.name, 0), else_=1) if part.tasks else literal(1)
    shown = [] if light is None else [lit(c, at)[light]]
    return select(rank.label("rank"), due, c.id).where(*part.where, *shown)


def _after(cursor: str) -> tuple[int, str, str]:
    try:
        rank, due, ident = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        if rank not in ("0", "1") or not due.isprintable() or not ident.isprintable():
            raise ValueError
        return int(rank), due, ident
    except ValueError:
        raise Invalid("not a cursor of this list", field="/cursor") from None
