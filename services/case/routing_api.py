"""HTTP of the routing rules: reading and changing them, checking and rehearsing a change, and what they say of a case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from services.case import queries, rulebook
from services.case.api import CATEGORY, STAFF, Here, Id
from services.case.rehearsal import Past, rehearse
from services.case.routing import examine
from services.case.routing_answers import CaseRouting, CheckedRules, RehearsalDone, RoutingNow, SavedSets
from services.case.rules import Day, RoutingRule
from services.case.rulesets import MOST_RULES, Fault, RuleSet, faults, warnings
from services.case.texts import Plain
from shared.auth import Caller, allow
from shared.clock import civil_day
from shared.database import Tx, now, reading
from shared.telemetry import Gauge
from shared.web import Runtime, refuse_unknown

EXAMPLE = {
    "id": "lamps", "zh": "路灯", "en": "Street lamps", "when": {"kind": "category", "among": ["P0111"]},
    "then": {"department": "part.maintainer"},
}  # fmt: skip


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Rules in trouble are among the measures of the node."""
    runtime: Runtime = app.state.runtime
    runtime.measures.append(lambda: measured(runtime))
    yield


router = APIRouter(prefix="/api/case/v1", tags=["case"], lifespan=life)


def measured(runtime: Runtime) -> list[Gauge]:
    """Rules that do not fit the catalogue in force, and filings for which a rule of the present set could not be judged."""
    around = runtime.extra["around"]
    with reading(runtime.engine) as connection:
        unfit = rulebook.unfit(connection, around, runtime.node.code, now())
        counted = rulebook.counted(connection, _in_force(connection, around).edition)
    return [
        ("sanji_rules_unfit", "Faults of the routing rules in force", "rules", {"routing": float(len(unfit))}),
        ("sanji_rules_broken", "Filings that a broken routing rule left to a person", "rule",
         {t["rule"] or "-": float(t["cases"]) for t in counted}),
    ]  # fmt: skip


class RoutingRules(BaseModel):
    """Rules in order: the first that matches decides."""

    model_config = ConfigDict(extra="forbid", strict=True)
    rules: list[RoutingRule] = Field(max_length=MOST_RULES, examples=[[EXAMPLE]])

    @field_validator("rules", mode="wrap")
    @classmethod
    def _placed(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> list[RoutingRule]:
        """Name the place of a fault as the sender wrote it, without the kinds by which the reader told the conditions apart."""
        try:
            found: list[RoutingRule] = handler(value)
        except ValidationError as error:
            found_wrong = error.errors(include_url=False, include_input=False)[:200]
            lines = [_line(e["type"], e["msg"], _place(e["loc"], value)) for e in found_wrong]
            raise ValidationError.from_exception_data("rules", lines) from None
        return found


def _line(kind: str, reason: str, place: tuple[int | str, ...]) -> InitErrorDetails:
    return {"type": PydanticCustomError(kind, "{reason}", {"reason": reason}), "loc": place, "input": None}


def _inside(value: Any, step: int | str) -> bool:
    return step in value if isinstance(value, dict) else isinstance(value, list) and isinstance(step, int) and step < len(value)


def _place(loc: tuple[int | str, ...], value: Any) -> tuple[int | str, ...]:
    found: list[int | str] = []
    for n, step in enumerate(loc):
        if _inside(value, step):
            value = value[step]
        elif n < len(loc) - 1 or not isinstance(value, dict):
            continue
        found.append(step)
    return tuple(found)


class NewRouting(RoutingRules):
    """A whole set; it replaces the one before it from the day on from which it holds."""

    edition: int = Field(ge=0, le=2**31 - 1, description="the last edition, which this one changes")
    valid_from: Day | None = Field(None, description="today or later; by default today")
    note: Plain(400) = Field("", description="why")  # type: ignore[valid-type]


class Proposed(RoutingRules):
    """Rules that are not saved."""

    valid_from: Day | None = Field(None, description="day of the catalogue; by default today")


class Rehearsed(RoutingRules):
    """Rules to run over past cases."""

    days: int = Field(90, ge=1, le=3660, description="reported within so many days")
    category: str | None = Field(None, max_length=20, pattern=CATEGORY, description="a category or a family")
    limit: int = Field(10_000, ge=1, le=10_000)


def _in_force(connection: Connection, around: Any) -> RuleSet:
    found: RuleSet = around.routes.get(connection).at(civil_day(now(), around.zone))
    return found


def _shown(here: Runtime, connection: Connection, number: int | None = None) -> dict[str, Any]:
    """A set held against the catalogue of today, or of the later day on which it begins."""
    around = here.extra["around"]
    found = _in_force(connection, around) if number is None else rulebook.edition(connection, number)
    day = max(civil_day(now(), around.zone), found.valid_from)
    return _checked(here, connection, found.rules, day) | {
        "edition": found.edition, "last": rulebook.last(connection), "valid_from": found.valid_from or None, "fault": found.fault,
        "rules": rulebook.written(found.rules), "troubles": rulebook.counted(connection, found.edition),
    }  # fmt: skip


def _checked(here: Runtime, connection: Connection, rules: Sequence[RoutingRule], day: str) -> dict[str, Any]:
    against = rulebook.known(connection, here.extra["around"], here.node.code, day)
    wrong = list(faults(rules, against))
    # What does not fit is not searched for what it leaves out.
    vain: list[Fault] = [] if wrong else list(warnings(rules, against.edition))
    return {"faults": [f._asdict() for f in wrong], "warnings": [w._asdict() for w in vain]}


@router.get("/routing", response_model=RoutingNow)
def rules_now(
    request: Request, here: Here, _: Annotated[Caller, allow(*STAFF)],
    edition: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="a saved edition instead of the set in force")] = None,
) -> dict[str, Any]:  # fmt: skip
    """The routing rules in force 派遣规则, held against the catalogue."""
    refuse_unknown(request)
    with reading(here.engine) as connection:
        return _shown(here, connection, edition)


@router.put("/routing", response_model=RoutingNow)
async def change_rules(body: NewRouting, here: Here, caller: Annotated[Caller, allow("administrator")]) -> dict[str, Any]:
    """Save a set of rules. Refused with all its faults where it does not fit the catalogue, and where another came between."""
    around = here.extra["around"]

    def work(tx: Tx) -> int:
        return rulebook.change(tx, around, body.rules, body.edition, caller, note=body.note, valid_from=body.valid_from)

    saved = await asyncio.wrap_future(here.writer.submit(work))
    return await run_in_threadpool(_read, here, saved)


def _read(here: Runtime, edition: int) -> dict[str, Any]:
    with reading(here.engine) as connection:
        return _shown(here, connection, edition)


@router.get("/routing/editions", response_model=SavedSets)
def saved_sets(
    request: Request, here: Here, _: Annotated[Caller, allow(*STAFF)],
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:  # fmt: skip
    """Every set that was saved, the newest first."""
    refuse_unknown(request)
    with reading(here.engine) as connection:
        items = list(rulebook.editions(connection, before, limit + 1))
    return {"items": items[:limit], "next": items[limit - 1]["edition"] if len(items) > limit else None}


@router.post("/routing/check", response_model=CheckedRules)
def check_rules(body: Proposed, here: Here, _: Annotated[Caller, allow("administrator", "dispatcher")]) -> dict[str, Any]:
    """What saving these rules would refuse, and which of them no case would reach; nothing is saved."""
    with reading(here.engine) as connection:
        return _checked(here, connection, body.rules, body.valid_from or civil_day(now(), here.extra["around"].zone))


@router.post("/routing/rehearsal", response_model=RehearsalDone)
def rehearse_rules(body: Rehearsed, here: Here, _: Annotated[Caller, allow("administrator", "dispatcher")]) -> dict[str, Any]:
    """Run rules over past cases 演练: what would differ from the rules in force and from what was done. Nothing is saved."""
    around, at = here.extra["around"], now()
    with reading(here.engine) as connection:
        rulebook.refuse(body.rules, rulebook.known(connection, around, here.node.code, civil_day(at, around.zone)))
        return rehearse(connection, around, body.rules, Past(body.days, body.category, body.limit), at)


@router.get("/cases/{case_id}/routing", response_model=CaseRouting)
def routing_of_case(case_id: Id, request: Request, here: Here, _: Annotated[Caller, allow(*STAFF)]) -> dict[str, Any]:
    """What the rules say of a case now, rule by rule; who gave it back, and whom to ask next."""
    refuse_unknown(request)
    with reading(here.engine) as connection:
        return examine(connection, here.extra["around"], queries.row(connection, case_id), now())
