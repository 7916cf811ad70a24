"""Many steps at once 批量办理: each stands for itself, so that one refusal costs the others nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import select

from services.case.commands import Routing, act
from services.case.domain import Action
from services.case.tables import steps
from shared.auth import Caller
from shared.database import Tx
from shared.errors import Conflict, SanjiError
from shared.problems import of_error


@dataclass(frozen=True)
class Item:
    """One step: the case, its version as the sender saw it, the action and what it says."""

    case: str
    version: int
    action: Action
    given: Mapping[str, Any]


def act_all(tx: Tx, around: Routing, items: Sequence[Item], who: Caller) -> list[dict[str, Any]]:
    """What became of each, in their order: {case, outcome, version, state, problem}.

    `done` has the new version, `repeated` says that this very step had been taken before, `refused` has the problem as the step
    by itself would have been answered. Never raises for an item.
    """
    return [_one(tx, around, item, who) for item in items]


def _one(tx: Tx, around: Routing, item: Item, who: Caller) -> dict[str, Any]:
    try:
        with tx.attempt():
            row = act(tx, around, item.case, item.action, who.roles, version=item.version, given=item.given, who=who)
    except SanjiError as error:
        if isinstance(error, Conflict) and error.field == "/version" and _before(tx, item, who):
            return _told(item, "repeated", error.extra.get("version"), error.extra.get("state"))
        return refused(item.case, error)
    return _told(item, "done", row["version"], row["state"])


def _before(tx: Tx, item: Item, who: Caller) -> bool:
    """Whether this person had taken this step from this version already: then the answer was lost and not the step."""
    taken = select(steps.c.action, steps.c.actor).where(steps.c.case_id == item.case, steps.c.version == item.version + 1)
    return bool(tx.execute(taken).first() == (item.action, who.name))


def _told(item: Item, outcome: str, version: Any, state: Any) -> dict[str, Any]:
    return {"case": item.case, "outcome": outcome, "version": version, "state": state, "problem": None}


def refused(case: str, error: SanjiError) -> dict[str, Any]:
    """An item of which nothing was done, and why."""
    problem = orjson.loads(bytes(of_error(error).body))
    return {"case": case, "outcome": "refused", "version": None, "state": None, "problem": problem}
