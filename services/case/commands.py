"""Takes a step of the workflow: find the case, check the row of the table, decide, turn the clocks, change, state the facts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from contracts.base import Fact
from contracts.case import CaseStageEnded
from services.case import clock, domain, notices
from services.case.deeds import Act
from services.case.effects import Clocks
from services.case.guards import GUARDS, Moment, its_own
from services.case.intake import LEEWAY, Report, report
from services.case.joining import DECIDE
from services.case.photos import has
from services.case.rewards import settle
from services.case.routing import Routing
from services.case.tables import cases, steps
from shared import audit
from shared.auth import Caller
from shared.clock import civil_day, stamp, unstamp
from shared.database import Tx
from shared.errors import Conflict, Invalid, NotFound

__all__ = ["LEEWAY", "Report", "Routing", "act", "report"]

_FIND = select(cases).where(cases.c.id == bindparam("case"))
_CHANGE = update(cases).where(cases.c.id == bindparam("case"), cases.c.version == bindparam("seen"))
_NOTE = insert(steps)
_SINCE = (
    select(steps.c.version, steps.c.action, steps.c.source, steps.c.target, steps.c.at, steps.c.roles)
    .where(steps.c.case_id == bindparam("case"), steps.c.version > bindparam("seen"))
    .order_by(steps.c.version)
)


def act(
    tx: Tx, around: Routing, case_id: str, action: domain.Action, roles: frozenset[str], *,
    version: int | None = None, at: datetime | None = None, given: Mapping[str, Any] | None = None, who: Caller | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Take one step of the workflow; answers the row as it is then.

    Raises NotFound, Conflict (state, guard or version; the last says what changed), Forbidden, Invalid naming the field.
    """
    row, given = find(tx, case_id), dict(given or {})
    if version is not None and version != row["version"]:
        raise _stale(tx, row, version)
    policy = around.policy.get(tx.connection)
    roles = policy.widened(roles)
    step = domain.step(row["state"], action, roles)
    # A platform's clock, or another copy's, may be ahead of ours: whoever acts now acts after them all the same.
    at = at or max(tx.now(), _last(row))
    _in_order(tx, row, at)
    who = who or Caller("node", roles)
    mine = roles & step.roles
    moment = Moment(who, mine, at, policy, given, partial(has, tx.connection, case_id))
    _permit(step, row, moment, given)
    clocks = Clocks.of(around.calendar.get(tx.connection), policy, at, row["clocks"])
    known = given.get("department") == row["department"] or action != "dispatch"
    # What a platform does is timed by the platform: no clock of ours starts by it.
    clocks.turn(() if mine == INTEGRATOR and not row["clocks"] else step.clocks, row["limit"] or policy.handling, known=known)
    deed = Act(tx, around, row, step, at, given, who, clocks)
    changes, facts = DECIDE[action](deed)
    target = row["state"] if step.target is None else row["before"] if step.target == "before" else step.target
    changes = clocks.columns(target) | changes | {
        "state": target, "version": row["version"] + 1, "last_at": stamp(at), "changed_at": stamp(tx.now()),
    }  # fmt: skip
    _change(tx, row, changes)
    _note(tx, deed, moment, row | changes, mine)
    for fact in (*_ended(deed, around), *facts):
        tx.state(fact)
    after: dict[str, Any] = row | changes
    notices.of_step(tx, row, after, action, actor=who.name, at=at)
    if action in SETTLED:
        settle(tx, around, around.rewards, after, action)
    return _sent(tx, around, after, at) if action == "file" else after


def _sent(tx: Tx, around: Routing, row: dict[str, Any], at: datetime) -> dict[str, Any]:
    """A case just filed; dispatched at once where the rule that matched says so, by the rule and not by whoever filed."""
    rule = row["rule"]
    if not (rule and rule["automatic"] and rule["department"]):
        return row
    if row["failed_check"] and row["department"] != rule["department"]:
        # To another department than the one that did not pass it goes only with a reason, which no rule has.
        return row
    who = Caller(f"rule:{rule['rule']}", DISPATCHER)
    said = {"department": rule["department"], "helpers": rule["helping"]}
    return act(tx, around, row["id"], "dispatch", DISPATCHER, at=at, given=said, who=who)


SETTLED = frozenset({"file", "grant", "refuse", "decline"})
"""Actions after which a reward may be due, or due back."""
INTEGRATOR, DISPATCHER = frozenset({"integrator"}), frozenset({"dispatcher"})


def find(tx: Tx, case_id: str) -> dict[str, Any]:
    """The row of a case. Raises NotFound."""
    found = tx.execute(_FIND, {"case": case_id}).mappings().first()
    if found is None:
        raise NotFound("no such case here", field="/case")
    return dict(found)


def _stale(tx: Tx, row: Mapping[str, Any], seen: int) -> Conflict:
    changed = [dict(r) for r in tx.execute(_SINCE, {"case": row["id"], "seen": seen}).mappings()]
    detail = f"the case has version {row['version']}, not {seen}: somebody else acted on it"
    return Conflict(detail, field="/version", version=row["version"], state=row["state"], changed=changed)


def _permit(step: domain.Step, row: dict[str, Any], moment: Moment, given: Mapping[str, Any]) -> None:
    for name in step.guards:
        GUARDS[name].check(row, moment)
    if moment.roles == INTEGRATOR:
        its_own(row, moment)
        return
    for name in step.needs:
        if given.get(name) in (None, "", []):
            raise Invalid(f"to {step.action} needs a {name.replace('_', ' ')}", field=f"/{name}")


def _in_order(tx: Tx, row: dict[str, Any], at: datetime) -> None:
    """A step may lie neither in the future nor before the step before it."""
    if at > tx.now() + LEEWAY:
        raise Invalid("a step cannot lie in the future", field="/time")
    if at < _last(row):
        raise Invalid(f"before the step that came before it ({stamp(_last(row))})", field="/time")


def _last(row: dict[str, Any]) -> datetime:
    """When the last step happened; rows older than that column know only some of their steps."""
    return unstamp(row["last_at"] or max(row[k] for k in ("reported_at", "filed_at", "handled_at") if row[k]))


def _change(tx: Tx, row: Mapping[str, Any], changes: dict[str, Any]) -> None:
    hit = tx.execute(_CHANGE, {"case": row["id"], "seen": row["version"], **changes})
    if hit.rowcount != 1:
        raise Conflict("somebody else acted on this case at the same moment", field="/version")


def _note(tx: Tx, deed: Act, moment: Moment, after: Mapping[str, Any], roles: frozenset[str]) -> None:
    """Add the step to the timeline and to the audit log."""
    given = deed.given
    detail = {k: told(v) for k, v in given.items() if k not in ("opinion", "parts") and v not in (None, "", [])} | deed.noted
    tx.execute(
        _NOTE,
        {
            "case_id": after["id"], "version": after["version"], "action": deed.step.action, "source": deed.row["state"],
            "target": after["state"], "at": stamp(deed.at), "noted_at": stamp(tx.now()), "actor": moment.who.name,
            "roles": " ".join(sorted(roles)), "department": after["department"], "opinion": given.get("opinion"),
            "detail": detail or None, "clock": deed.clocks.told(),
        },
    )  # fmt: skip
    audit.note(tx, moment.who.name, roles, deed.step.action, "case", after["id"], detail={"version": after["version"]})


def told(value: Any) -> Any:
    """A value as the timeline keeps it."""
    return stamp(value) if isinstance(value, datetime) else value


def _ended(deed: Act, around: Routing) -> list[Fact]:
    """What the step says of the clocks that it ended."""
    day = civil_day(deed.at, around.zone)
    return [
        CaseStageEnded(
            time=deed.at, day=day, case=deed.row["id"], stage=stage, began=c.began, due=c.due,
            on_time=bool(clock.on_time(c)), seconds=deed.clocks.seconds(c),
        )
        for stage, c in deed.clocks.ended.items()
    ]  # fmt: skip
