"""Guards of the workflow: what must be true of a case and of who acts, each by its name in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.case.policy import Policy
from shared.auth import Caller
from shared.clock import unstamp
from shared.errors import Conflict, Forbidden, SanjiError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Moment:
    """What a guard judges by: who acts with which roles, when, under which policy, with what said."""

    who: Caller
    roles: frozenset[str]
    at: datetime
    policy: Policy
    given: Mapping[str, Any]
    photos: Callable[[str], bool] = lambda _: False
    """Whether a case has a photo of a kind; asked only where a guard needs it."""


def _verified(row: Row, now: Moment) -> None:
    if "integrator" in now.roles:
        return
    if row["verified"] == "not_exist":
        raise Conflict("the collector found no problem there: refuse it, or ask for another verification", field="/action")
    if row["verified"] is None and row["channel"] in now.policy.verify:
        raise Conflict(f"a report by {row['channel']} is verified on the spot first", field="/action")


def _my_department(row: Row, now: Moment) -> None:
    """The lead speaks for the case; of a department that helps only the handlers work on it."""
    if now.roles - {"department", "handler"} or not now.who.departments:
        return
    helping = () if "department" in now.roles else row["helpers"] or ()
    if not now.who.departments & {row["department"], *helping}:
        raise Forbidden("this case lies with another department")


def _mine(row: Row, now: Moment) -> None:
    if "department" not in now.roles and row["handler"] not in (None, now.who.name):
        raise Forbidden("this case is assigned to somebody else")


def _not_overdue(row: Row, now: Moment) -> None:
    if row["due_at"] and now.at > unstamp(row["due_at"]):
        raise Conflict("the handling is overdue: more time cannot be asked for any more", field="/action")


def _postponable(row: Row, now: Moment) -> None:
    if row["postponements"] >= now.policy.postponements:
        raise Conflict(f"more time was granted {row['postponements']} times, which is as often as it may be", field="/action")


def _suspendable(row: Row, now: Moment) -> None:
    if row["suspensions"] >= now.policy.suspensions:
        raise Conflict(f"the case was suspended {row['suspensions']} times, which is as often as it may be", field="/action")


def _not_given_back(row: Row, now: Moment) -> None:
    wanted = now.given.get("department")
    if wanted in (row["returned_by"] or ()) and not now.given.get("opinion"):
        raise Conflict(f"{wanted} gave this case back as not its own: say in the opinion why it goes there again",
                       field="/department", returned_by=row["returned_by"])  # fmt: skip
    if row["failed_check"] and wanted and wanted != row["department"] and not now.given.get("opinion"):
        raise Conflict(f"a case that did not pass its check goes back to {row['department']}: say in the opinion why not",
                       field="/department")  # fmt: skip


def _not_a_hand(row: Row, now: Moment) -> None:
    if now.who.name in (row["hands"] or ()):
        raise Forbidden("who had a hand in the work cannot check it")


def _checked_by_another(row: Row, now: Moment) -> None:
    if row["checked_by"] is None or row["checked_by"] in (row["hands"] or ()):
        raise Conflict("the case needs a check by somebody who had no hand in the work", field="/action")


def its_own(row: Row, now: Moment) -> None:
    if row["clocks"]:
        # Clocks of ours say that somebody here took a step of it, or had it reported here.
        raise Forbidden("a platform acts only on what it works on itself: this case is worked on here")


def _after_photo(row: Row, now: Moment) -> None:
    if now.policy.after_photo and "integrator" not in now.roles and not now.photos("after"):
        raise Conflict("a photo of the place after the work is needed first", field="/photos")


def _was_overdue(row: Row, now: Moment) -> None:
    if row["on_time"] is not False:
        raise Conflict("only a case that was handled late can be appealed", field="/action")


def _not_appealed(row: Row, now: Moment) -> None:
    if row["appealed"]:
        raise Conflict("an appeal is heard once, and this case had its own", field="/action")


def _other_reviewer(row: Row, now: Moment) -> None:
    if now.who.name == (row["pending"] or {}).get("reviewed_by"):
        raise Forbidden("the second review is by somebody else than the first")


def _reopenable(row: Row, now: Moment) -> None:
    if row["filed_at"] is None:
        raise Conflict("a thing that a collector put right at once cannot be reopened: report it anew", field="/action")
    last = unstamp(row["ended_at"]) + timedelta(days=now.policy.reopen_days)
    if now.at > last:
        raise Conflict(f"the time for reopening ended {now.policy.reopen_days} days after the closing: report it anew",
                       field="/action")  # fmt: skip


def _supervised(row: Row, now: Moment) -> None:
    if row["reply_by"] is None:
        raise Conflict("no supervision of this case waits for an answer", field="/action")


@dataclass(frozen=True)
class Guard:
    """A check, what it demands in words, and whether it judges what is said, which nobody knows before an action is tried."""

    check: Callable[[Row, Moment], None]
    zh: str
    en: str
    of_input: bool = False


GUARDS: dict[str, Guard] = {
    "verified": Guard(_verified, "须经核实的渠道先核实", "reports of some channels are verified on the spot first"),
    "my_department": Guard(
        _my_department, "限主办部门（协办部门的处置人员可处置）", "by the department in the lead, or a handler of one that helps"
    ),
    "mine": Guard(_mine, "限被指派的处置人员", "by the handler it is assigned to"),
    "not_overdue": Guard(_not_overdue, "未超期", "not after the deadline"),
    "postponable": Guard(_postponable, "延期次数未用完", "not more often than the policy allows"),
    "suspendable": Guard(_suspendable, "挂账次数未用完", "not more often than the policy allows"),
    "not_given_back": Guard(
        _not_given_back, "派回退过的部门、核查不通过改派须说明理由", "with a reason where it goes back to who gave it back", True
    ),
    "not_a_hand": Guard(_not_a_hand, "核查人不得是处置人", "by somebody who had no hand in the work"),
    "checked_by_another": Guard(_checked_by_another, "须由非处置人核查", "after a check by somebody who had no hand in the work"),
    "its_own": Guard(its_own, "限平台自办案件", "by a platform that works on the case itself"),
    "after_photo": Guard(_after_photo, "须有处置后照片", "with a photo afterwards, where the policy wants one"),
    "was_overdue": Guard(_was_overdue, "限超期结案", "only of a case that was handled late"),
    "not_appealed": Guard(_not_appealed, "每案仅一次", "once for each case"),
    "other_reviewer": Guard(_other_reviewer, "终审与初审不同人", "by another reviewer than the first"),
    "reopenable": Guard(_reopenable, "限期内", "within the time set after the closing"),
    "supervised": Guard(_supervised, "有待回复的督办", "where a supervision waits for an answer"),
}


def barred(names: tuple[str, ...], row: Row, now: Moment) -> str | None:
    """Why the action cannot be done by this person now, in a sentence; None where only what is said can still be wrong."""
    for name in ("its_own", *names) if now.roles == {"integrator"} else names:
        guard = GUARDS[name]
        try:
            if not guard.of_input:
                guard.check(row, now)
        except SanjiError as error:
            return error.detail
    return None


def light(row: Row, at: str) -> str | None:
    """The colour at an instant (as text) of the clock that counts now; None where none runs."""
    if row["warn_at"] is None:
        return None
    return "green" if at <= row["warn_at"] else "yellow" if at <= row["late_at"] else "red"
