"""What each action changes in a case and which facts it states; the workflow table says when it may happen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from contracts.base import Fact
from contracts.case import (
    CaseAccepted,
    CaseAmended,
    CaseAppealed,
    CaseClosed,
    CaseDispatched,
    CaseFiled,
    CaseHandled,
    CasePostponed,
    CaseRefused,
    CaseReopened,
    CaseResumed,
    CaseReturned,
    CaseReworked,
    CaseSelfHandled,
    CaseSupervised,
    CaseSuspended,
    CaseTaskAnswered,
    CaseTaskAsked,
    CaseVoided,
    CaseWithdrawn,
)
from services.case import domain, postings
from services.case.deeds import Act, Decided
from services.case.intake import about, classify, position
from services.case.rulebook import decide
from services.case.worktime import Limit, due
from shared.clock import civil_day, stamp, unstamp
from shared.errors import Conflict, Invalid


def _nothing(_: Act) -> Decided:
    return {}, []


def _over(a: Act) -> dict[str, Any]:
    """The case has ended: nothing waits for anybody any more, no supervision for its answer either."""
    return {"ended_at": stamp(a.at), **dict.fromkeys(("pending", "reply_by", "wakes_at"))}


def _ask_verification(a: Act) -> Decided:
    return {"verified": None, "pending": _assignee(a)}, [CaseTaskAsked(**a.about, task="verification")]


def _assignee(a: Act) -> dict[str, Any] | None:
    """Whom a task is for, and whether it is to be looked at at the same time of day as the report 同时段."""
    found = {k: a.given[k] for k in ("assignee", "same_period") if a.given.get(k)}
    return found or None


def _verify(a: Act) -> Decided:
    result = a.given["result"]
    if result not in ("exist", "not_exist", "unable"):
        raise Invalid("must be one of exist, not_exist, unable", field="/result")
    return {"verified": result, "pending": None}, [CaseTaskAnswered(**a.about, task="verification", result=result)]


def _recall(a: Act) -> Decided:
    verifying = a.step.source == "verifying"
    looked = bool(a.who.roles & {"collector", "checker"}) and not verifying
    task, result = "verification" if verifying else "check", "unable" if looked else "recalled"
    return {"pending": None}, [CaseTaskAnswered(**a.about | {"task": task, "result": result})]


def _amend(a: Act) -> Decided:
    """Correct category and place before the filing; what is not said stays."""
    given, row = a.given, a.row
    if not given.keys() & {"category", "lon", "lat", "cell", "part"}:
        raise Invalid("say what to correct: the category, or the place by a point, a cell or a part", field="/category")
    category = given.get("category") or row["category"]
    _, edition = classify(a.around, a.tx.connection, category, date.fromisoformat(_opened(a)))
    moved = any(given.get(k) is not None for k in ("lon", "lat", "cell", "part"))
    part = given.get("part") or row["part"]
    lon, lat = (given.get("lon"), given.get("lat")) if moved else (row["lon"], row["lat"])
    spot = position(a.around, lon, lat, given.get("cell"), given.get("part"))
    changes = {"category": category, "edition": edition, "part": part, "lon": spot.lon, "lat": spot.lat,
               "division": spot.division, "cell": spot.cell, "located": spot.located if moved else row["located"]}  # fmt: skip
    postings.add(a.tx, row | changes)
    return changes, [CaseAmended(**a.about, category=category, part=part, place=spot.fact())]


def _accept(a: Act) -> Decided:
    return {}, [CaseAccepted(**a.about)]


def _refuse(a: Act) -> Decided:
    stage = "filing" if a.step.action == "decline" else "acceptance"
    fact = CaseRefused(**a.about | {"reason": a.given.get("reason") or "other", "stage": stage})
    return _over(a), [fact]


def _file(a: Act) -> Decided:
    """Fix the deadline's rule 立案: the condition's limit. The clock starts with the dispatch; until then the deadline is what it
    would be if the case were dispatched at once. Filed anew, by whatever condition, the handling begins anew as well."""
    category, _ = classify(a.around, a.tx.connection, a.row["category"], date.fromisoformat(a.about["day"]))
    code = a.given.get("condition")
    with about("/condition"):
        condition = category.condition(code)
    end = a.given.get("due") or due(a.clocks.calendar, a.at, Limit.parse(condition.limit))
    a.clocks.running.pop("handling", None)
    changes: dict[str, Any] = {"filed_at": stamp(a.at), "due_at": stamp(end), "condition": condition.code,
                               "limit": condition.limit, "pending": None}  # fmt: skip
    if "integrator" not in a.step.roles & a.who.roles:
        # Where a platform files, it also dispatches: nobody here is asked where the case should go.
        changes["rule"] = decide(a.tx, a.around, a.row | changes, a.at).record()
    return changes, [CaseFiled(**a.about, due=end, condition=condition.code if code else None)]


BACK: dict[str, Any] = {"reported": "acceptance", "accepted": "filing", "filed": "dispatch"}


def _send_back(a: Act) -> Decided:
    origin = domain.STAGE_OF[a.step.source]
    failed = {"failed_check": True, "handled_at": None, "checked_by": None} if a.step.source == "checked" else {}
    return failed, [CaseReturned(**a.about, origin=origin, to=BACK[str(a.step.target)])]


def _dispatch(a: Act) -> Decided:
    wanted = a.given.get("department")
    if not wanted:
        raise Invalid("to dispatch needs a department", field="/department")
    again = a.row["failed_check"] and wanted == a.row["department"]
    helpers = [h for h in a.given.get("helpers") or () if h != wanted]
    changes = {"department": wanted, "helpers": helpers or None, "handler": None, "failed_check": False, "checked_by": None}
    facts: list[Fact] = [CaseReworked(**a.about)] if again else []
    return changes, [*facts, CaseDispatched(**a.about, department=wanted, due=a.clocks.due)]


def _grant(a: Act) -> Decided:
    match a.step.source:
        case "void_asked":
            return _over(a), [CaseVoided(**a.about)]
        case "return_asked":
            given_back = sorted({*(a.row["returned_by"] or ()), a.row["department"]})
            return {"returned_by": given_back, "handler": None}, [CaseReturned(**a.about, origin="handling", to="dispatch")]
        case "postpone_review":
            a.clocks.extend()
            end = a.clocks.due or unstamp(a.row["due_at"])
            changes = {"postponements": a.row["postponements"] + 1, "due_at": stamp(end), "pending": None}
            return changes, [CasePostponed(**a.about, due=end)]
        case "suspend_asked":
            until = unstamp(a.row["pending"]["until"])
            if until <= a.at:
                raise Conflict("the day until which a suspension was asked for has passed: do not suspend", field="/action")
            changes = {"wakes_at": stamp(until), "suspensions": a.row["suspensions"] + 1, "pending": None, "handler": None}
            return changes, [CaseSuspended(**a.about, until=until)]
        case "self_handled":
            return _over(a), [CaseSelfHandled(**a.about)]
    return {"appealed": "granted", "pending": None}, [CaseAppealed(**a.about, result="granted")]


def _deny(a: Act) -> Decided:
    match a.step.source:
        case "return_asked":
            return {}, _goes_on(a)
        case "self_handled":
            return _over(a), [CaseRefused(**a.about, reason="other", stage="acceptance")]
        case "appealed" | "appeal_review":
            return {"appealed": "denied", "pending": None}, [CaseAppealed(**a.about, result="denied")]
    return {"pending": None}, []


def _goes_on(a: Act) -> list[Fact]:
    """The handling's clock goes on, where it has one here."""
    return [CaseResumed(**a.about, due=a.clocks.due)] if a.clocks.due else []


def _assign(a: Act) -> Decided:
    return {"handler": a.given["handler"], "hands": a.hands(a.given["handler"])}, []


def _unassign(a: Act) -> Decided:
    return {"handler": None}, []


def _ask_postponement(a: Act) -> Decided:
    return {"before": a.row["state"], "pending": {"asked_at": stamp(a.at)}}, []


def _ask_suspension(a: Act) -> Decided:
    until, longest = a.given["until"], a.clocks.policy.suspension_days
    if not a.at < until <= a.at + timedelta(days=longest):
        raise Invalid(f"a suspension ends within {longest} days from now", field="/until")
    return {"before": a.row["state"], "pending": {"until": stamp(until)}}, []


def _resume(a: Act) -> Decided:
    return {"wakes_at": None}, _goes_on(a)


def _finish(a: Act) -> Decided:
    return {"hands": a.hands(a.who.name)}, []


def _handle(a: Act) -> Decided:
    return {"handled_at": stamp(a.at), "hands": a.hands(a.who.name)}, [CaseHandled(**a.about)]


def _rework(a: Act) -> Decided:
    return {"handled_at": None, "handler": None}, [CaseReworked(**a.about), *_goes_on(a)]


def _ask_check(a: Act) -> Decided:
    return {"pending": _assignee(a)}, [CaseTaskAsked(**a.about, task="check")]


def _pass_check(a: Act) -> Decided:
    return {"checked_by": a.who.name, "pending": None}, [CaseTaskAnswered(**a.about, task="check", result="pass")]


def _fail_check(a: Act) -> Decided:
    changes = {"failed_check": True, "handled_at": None, "checked_by": None, "pending": None}
    return changes, [CaseTaskAnswered(**a.about, task="check", result="not_pass")]


def _close(a: Act) -> Decided:
    if code := a.given.get("closing"):
        filed = civil_day(unstamp(a.row["filed_at"]), a.around.zone)
        category, _ = classify(a.around, a.tx.connection, a.row["category"], date.fromisoformat(filed))
        with about("/closing"):
            category.condition(code)
    kept = domain.on_time(unstamp(a.row["handled_at"]), unstamp(a.row["due_at"]))
    fact = CaseClosed(**a.about, on_time=kept, opened=_opened(a), means=a.given.get("means"))
    return _over(a) | {"on_time": kept, "means": a.given.get("means")}, [fact]


def _opened(a: Act) -> str:
    return civil_day(unstamp(a.row["reported_at"]), a.around.zone)


def _force_close(a: Act) -> Decided:
    """An end that no work brought: on time unless the deadline had passed by then, or by when the handling's clock last ran."""
    handling = a.clocks.running.get("handling")
    last = handling.moment(a.at) if handling else a.at
    kept = domain.on_time(unstamp(a.row["handled_at"]) if a.row["handled_at"] else last, unstamp(a.row["due_at"]))
    fact = CaseClosed(**a.about, on_time=kept, opened=_opened(a), forced=True)
    return _over(a) | {"on_time": kept}, [fact]


def _supervise(a: Act) -> Decided:
    if a.given["reply_by"] <= a.at:
        raise Invalid("an answer can only be asked for by a later moment", field="/reply_by")
    return {"reply_by": stamp(a.given["reply_by"])}, [CaseSupervised(**a.about, answered=False)]


def _reply_supervision(a: Act) -> Decided:
    return {"reply_by": None}, [CaseSupervised(**a.about, answered=True)]


def _appeal(a: Act) -> Decided:
    return {"appealed": "asked"}, [CaseAppealed(**a.about, result="asked")]


def _endorse(a: Act) -> Decided:
    return {"pending": (a.row["pending"] or {}) | {"reviewed_by": a.who.name}}, []


def _reopen(a: Act) -> Decided:
    cleared = dict.fromkeys(("ended_at", "on_time", "handled_at", "means", "checked_by", "handler", "pending", "appealed"))
    return cleared | {"reopenings": a.row["reopenings"] + 1, "failed_check": False}, [CaseReopened(**a.about)]


def _withdraw(a: Act) -> Decided:
    return _over(a), [CaseWithdrawn(**a.about)]


DECIDE: dict[domain.Action, Callable[[Act], Decided]] = {
    "ask_verification": _ask_verification, "verify": _verify, "recall": _recall, "amend": _amend, "accept": _accept,
    "refuse": _refuse, "decline": _refuse, "file": _file, "send_back": _send_back, "dispatch": _dispatch, "ask_void": _nothing,
    "grant": _grant, "deny": _deny, "assign": _assign, "unassign": _unassign, "ask_return": _nothing,
    "ask_postponement": _ask_postponement, "endorse": _endorse, "ask_suspension": _ask_suspension, "resume": _resume,
    "finish": _finish, "reject": _nothing, "handle": _handle, "rework": _rework, "ask_check": _ask_check,
    "pass_check": _pass_check, "fail_check": _fail_check, "close": _close, "supervise": _supervise,
    "reply_supervision": _reply_supervision, "force_close": _force_close, "appeal": _appeal, "reopen": _reopen,
    "withdraw": _withdraw,
}  # fmt: skip
"""The decision of each action; those that touch two cases at once are added by `joining.py`."""
