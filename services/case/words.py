"""What states, actions, events, stages and roles are called in both languages, for mails and printed files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.case import domain
from services.case.catalogue import Catalogues, Edition
from services.case.domain import State
from services.case.telling import Event
from shared.clock import unstamp
from shared.errors import SanjiError
from shared.kept import Kept

Language = Literal["zh", "en"]


class Pair(NamedTuple):
    """The same in both languages."""

    zh: str
    en: str

    def said(self, language: str) -> str:
        return self.zh if language == "zh" else self.en


STATES: dict[State, Pair] = {
    "reported": Pair("待受理", "reported"), "verifying": Pair("待核实", "being verified"), "accepted": Pair("待立案", "taken up"),
    "filed": Pair("待派遣", "filed"), "void_asked": Pair("作废待审", "to be voided?"),
    "dispatched": Pair("待处置", "with a department"),
    "return_asked": Pair("回退待审", "to be taken back?"), "handling": Pair("处置中", "being handled"),
    "postpone_asked": Pair("延期待部门审", "more time? (department)"), "postpone_review": Pair("延期待审", "more time?"),
    "suspend_asked": Pair("挂账待审", "to be suspended?"), "suspended": Pair("挂账", "suspended"),
    "done": Pair("待部门确认", "done, with the department"), "handled": Pair("待核查", "handled"),
    "checking": Pair("核查中", "being checked"), "checked": Pair("待结案", "checked"),
    "self_handled": Pair("自处理审核", "put right on the spot"), "refused": Pair("不予受理", "refused"),
    "declined": Pair("不予立案", "not filed"), "withdrawn": Pair("已撤回", "withdrawn"), "void": Pair("已作废", "void"),
    "closed": Pair("已结案", "closed"), "forced": Pair("强制结案", "ended by force"), "merged": Pair("已并案", "merged"),
    "appealed": Pair("申诉中", "appealed"), "appeal_review": Pair("申诉终审", "appeal in review"),
}  # fmt: skip

EVENTS: dict[Event, Pair] = {
    "reached": Pair("状态变更", "new state"), "assigned": Pair("已指派给您", "assigned"), "returned": Pair("退回", "returned"),
    "reworked": Pair("返工", "rework"), "postponed": Pair("已延期", "more time granted"),
    "supervised": Pair("督办", "supervised"),
    "answered": Pair("督办已回复", "supervision answered"), "reopened": Pair("要求重办", "reopened by the reporter"),
    "withdrawn": Pair("上报人撤回", "withdrawn by the reporter"), "merged": Pair("并案", "merged"),
    "due_soon": Pair("即将超期", "due soon"), "overdue": Pair("已超期", "overdue"),
    "reply_due": Pair("督办逾期未回复", "supervision not answered in time"), "commented": Pair("新批注", "new comment"),
    "rated": Pair("已评价", "rated"),
}  # fmt: skip

STAGES: dict[str, Pair] = {
    "acceptance": Pair("受理", "acceptance"), "verification": Pair("核实", "verification"), "filing": Pair("立案", "filing"),
    "dispatch": Pair("派遣", "dispatch"), "handling": Pair("处置", "handling"), "check": Pair("核查", "check"),
    "closing": Pair("结案", "closing"),
}  # fmt: skip

CHANNELS: dict[str, Pair] = {
    "collector": Pair("采集员上报", "collector"), "public": Pair("公众上报", "public"), "hotline": Pair("热线", "hotline"),
    "platform": Pair("平台推送", "platform"), "telemetry": Pair("物联感知", "telemetry"),
    "leader": Pair("领导批示", "leader's note"),
    "order": Pair("上级交办", "order from above"),
}  # fmt: skip

ROLES: dict[str, Pair] = {
    "collector": Pair("采集员", "collector"), "acceptor": Pair("受理员", "acceptor"),
    "shift_supervisor": Pair("值班长", "shift supervisor"), "dispatcher": Pair("派遣员", "dispatcher"),
    "department": Pair("专业部门", "department"), "handler": Pair("处置人员", "handler"), "checker": Pair("核查员", "checker"),
    "leader": Pair("督办领导", "leader"), "evaluator": Pair("考核员", "evaluator"), "integrator": Pair("接入平台", "platform"),
    "administrator": Pair("管理员", "administrator"), "auditor": Pair("审计员", "auditor"),
    "reporter": Pair("上报人", "reporter"),
    "timer": Pair("系统定时", "timer"),
}  # fmt: skip


def state(code: str, language: str) -> str:
    """A state in words; the code itself where it has none."""
    return known(STATES, code, language)


def event(code: str, language: str) -> str:
    return known(EVENTS, code, language)


def action(source: str, code: str, language: str) -> str:
    """What an action is called in the state in which it was taken; the code where the workflow has no such row any more."""
    for step in domain.WORKFLOW:
        if (step.source, step.action) == (source, code):
            return step.zh if language == "zh" else step.en
    return code


def known(pairs: Mapping[Any, Pair], code: str | None, language: str) -> str:
    """The word for a code of one of the tables above; the code where there is none."""
    found = pairs.get(code or "")
    return found.said(language) if found else code or ""


class Place(Protocol):
    """What is asked of the node's surroundings."""

    zone: ZoneInfo
    catalogue: Kept[Catalogues]


Names = Callable[[str], Mapping[str, str]]
"""The names of a division in both languages."""


class Speech:
    """Names of categories, departments and divisions, and instants in the node's zone, in one language."""

    def __init__(self, around: Place, names: Names, connection: Connection, language: str) -> None:
        self.language, self._zone, self._names = language, around.zone, names
        self._catalogues = around.catalogue.get(connection)

    def _edition(self, row: Mapping[str, Any] | None) -> Edition:
        """The edition that a case was filed under, else the one of today."""
        at = (row or {}).get("reported_at")
        day = (unstamp(at).astimezone(self._zone) if at else datetime.now(self._zone)).date()
        try:
            return self._catalogues.of((row or {})["edition"], day)
        except (KeyError, SanjiError):
            return self._catalogues.at(day)

    def category(self, code: str, row: Mapping[str, Any] | None = None) -> str:
        found = self._edition(row).categories.get(code)
        return self._either(found.zh, found.en, code) if found else code

    def department(self, code: str | None, row: Mapping[str, Any] | None = None) -> str:
        found = self._edition(row).departments.get(code or "")
        return self._either(found.zh, found.en, found.code) if found else code or ""

    def condition(self, category: str, code: str | None, row: Mapping[str, Any]) -> str:
        """The filing condition in words, its code where it is not known any more."""
        found = self._edition(row).categories.get(category)
        for condition in found.conditions if found else ():
            if condition.code == code:
                return self._either(condition.zh, condition.en, condition.code)
        return code or ""

    def questions(self, category: str, row: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, str]]]:
        """The questions of a category by their keys: what is asked, and what the options are called."""
        found = self._edition(row).categories.get(category)
        return {
            q.key: (self._either(q.zh, q.en, q.key), {o.code: self._either(o.zh, o.en, o.code) for o in q.options})
            for q in (found.questions if found else ())
        }

    def division(self, code: str) -> str:
        found = self._names(code)
        return self._either(found.get("zh", ""), found.get("en", ""), code)

    def _either(self, zh: str, en: str, code: str) -> str:
        return (zh if self.language == "zh" else en) or zh or code

    def instant(self, text: str | None) -> str:
        """Such as 2026-03-02 09:00; empty for none."""
        return unstamp(text).astimezone(self._zone).strftime("%Y-%m-%d %H:%M") if text else ""
