"""The facts of one case by the minute, told to a node, and what the node then says of the case and of its totals."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, select

from contracts.case import CaseClosed, CaseDispatched, CaseFact, CaseFiled, CaseHandled, CaseReported, Place
from services.evaluation.handlers import fold
from services.evaluation.tables import QUANTITIES, cases, totals
from tests.evaluation.walks import BEGIN, told

PLACE = Place(lon=87.6, lat=43.7, division="650102990001")
NAMED = {"number": "n", "category": "E0101", "edition": "e", "channel": "hotline", "place": PLACE}


def minute(n: float) -> datetime:
    return BEGIN + timedelta(minutes=n)


def step(fact: type[CaseFact], at: float, case: str = "a", **more: Any) -> CaseFact:
    found: CaseFact = told(fact, case, minute(at), **more)
    return found


def reported(case: str = "a", at: float = 0, **more: Any) -> CaseFact:
    return step(CaseReported, at, case, **(NAMED | more))


def filed(case: str = "a", at: float = 1, due: float = 60) -> CaseFact:
    return step(CaseFiled, at, case, due=minute(due))


def dispatched(case: str = "a", at: float = 2, due: float | None = None) -> CaseFact:
    return step(CaseDispatched, at, case, department="lamps", due=None if due is None else minute(due))


def closed(case: str = "a", at: float = 30, on_time: bool = True) -> CaseFact:
    return step(CaseClosed, at, case, on_time=on_time, opened="2026-03-01")


def ended(case: str = "a", at: float = 30, on_time: bool = True) -> list[CaseFact]:
    return [dispatched(case, at), step(CaseHandled, at, case), closed(case, at, on_time)]


def tell(engine: Engine, *facts: CaseFact, origin: str = "650102") -> None:
    with engine.begin() as c:
        fold(c, origin, facts)


def row(engine: Engine, case: str = "a") -> dict[str, Any]:
    with engine.begin() as c:
        return dict(c.execute(select(cases).where(cases.c.id == case)).mappings().one())


def sums(engine: Engine, **only: str) -> dict[str, int]:
    """What the totals come to, without what is 0; `only` narrows by columns of the key, such as day."""
    with engine.begin() as c:
        found = [r for r in c.execute(select(totals)).mappings() if all(r[k] == v for k, v in only.items())]
    return {n: sum(r[n] for r in found) for n in QUANTITIES if any(r[n] for r in found)}
