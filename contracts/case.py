"""Facts that the case service states: the life of one case from report to close."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.base import Code, Day, Edition, Fact, Ident, Instant, ShortIdent, published

Provenance = Literal["live", "imported", "replayed", "generated"]
"""Where a case comes from; only `live` ones are daily business, and pages say so."""

Channel = Literal["collector", "public", "hotline", "platform", "telemetry", "leader", "order"]

Located = Literal["map", "cell", "part", "described"]
"""What the place was taken from: a point on a map, a grid cell, the register of parts, or a description and its cell."""

Stage = Literal["acceptance", "verification", "filing", "dispatch", "handling", "check", "closing"]
"""A stretch of the work with a clock of its own."""

Means = Literal["service", "management", "enforcement"]
"""By what the problem was solved 服务、管理、执法, for the shares of the 721 method."""


class Place(BaseModel):
    """Where the problem is (never where a person is): lon, lat in WGS84 degrees, the cell and its division."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    lon: float = Field(ge=-180, le=180)
    lat: float = Field(ge=-90, le=90)
    division: Code
    cell: Code | None = None


class CaseFact(Fact):
    """What every fact about a case carries."""

    stated_by: ClassVar[str] = "case"
    case: ShortIdent


@published
class CaseReported(CaseFact):
    """A problem was reported 上报."""

    type: ClassVar[str] = "cn.sanji.case.reported.v1"
    number: ShortIdent
    category: Code
    edition: Edition
    channel: Channel
    provenance: Provenance = "live"
    dataset: Ident | None = None
    application: ShortIdent | None = Field(None, description="the program that the report came in by")
    part: Code | None = Field(None, description="the managed part 部件 that the report is about")
    located: Located | None = None
    place: Place


@published
class CaseAmended(CaseFact):
    """Category or place were corrected before the case was filed."""

    type: ClassVar[str] = "cn.sanji.case.amended.v1"
    category: Code
    part: Code | None = None
    place: Place


@published
class CaseAccepted(CaseFact):
    """The report was taken up and waits to be filed 受理."""

    type: ClassVar[str] = "cn.sanji.case.accepted.v1"


@published
class CaseTaskAsked(CaseFact):
    """A collector was asked to look: before filing 核实, or after the handling 核查."""

    type: ClassVar[str] = "cn.sanji.case.task-asked.v1"
    task: Literal["verification", "check"]


@published
class CaseTaskAnswered(CaseFact):
    """What the collector found; `recalled`: the task was taken back before an answer."""

    type: ClassVar[str] = "cn.sanji.case.task-answered.v1"
    task: Literal["verification", "check"]
    result: Literal["exist", "not_exist", "pass", "not_pass", "unable", "recalled"]


@published
class CaseFiled(CaseFact):
    """The report became a case 立案; its deadline is fixed here."""

    type: ClassVar[str] = "cn.sanji.case.filed.v1"
    due: Instant
    condition: ShortIdent | None = Field(None, description="the filing condition of the catalogue that it fulfils")


@published
class CaseRefused(CaseFact):
    """The report was not accepted 不予受理, or not filed 不予立案."""

    type: ClassVar[str] = "cn.sanji.case.refused.v1"
    reason: Literal["not_found", "out_of_scope", "duplicate", "transferred", "other"]
    stage: Literal["acceptance", "filing"] | None = None


@published
class CaseWithdrawn(CaseFact):
    """The report was taken back before it was filed."""

    type: ClassVar[str] = "cn.sanji.case.withdrawn.v1"


@published
class CaseDispatched(CaseFact):
    """A department was given the case 派遣; the clock of its handling starts or goes on, to end at `due`."""

    type: ClassVar[str] = "cn.sanji.case.dispatched.v1"
    department: Ident
    due: Instant | None = None


@published
class CaseReturned(CaseFact):
    """The case went back a step 退回: sent back by whoever had it, or given up by a department 回退."""

    type: ClassVar[str] = "cn.sanji.case.returned.v1"
    origin: Stage = Field(description="where it came back from")
    to: Stage


@published
class CaseVoided(CaseFact):
    """A filed case was void 作废."""

    type: ClassVar[str] = "cn.sanji.case.voided.v1"


@published
class CasePostponed(CaseFact):
    """More time was granted 延期."""

    type: ClassVar[str] = "cn.sanji.case.postponed.v1"
    due: Instant


@published
class CaseSuspended(CaseFact):
    """The clock stands until a day 挂账."""

    type: ClassVar[str] = "cn.sanji.case.suspended.v1"
    until: Instant


@published
class CaseResumed(CaseFact):
    """The clock of the handling goes on, to end at `due`."""

    type: ClassVar[str] = "cn.sanji.case.resumed.v1"
    due: Instant


@published
class CaseHandled(CaseFact):
    """The department says it is done 处置反馈."""

    type: ClassVar[str] = "cn.sanji.case.handled.v1"


@published
class CaseReworked(CaseFact):
    """The check failed and the same department works again 返工."""

    type: ClassVar[str] = "cn.sanji.case.reworked.v1"


@published
class CaseClosed(CaseFact):
    """The case ended 结案. `on_time`: handled at or before its deadline, as the origin judged it."""

    type: ClassVar[str] = "cn.sanji.case.closed.v1"
    on_time: bool
    opened: Day = Field(description="civil day of the report, so that spans need no look-up")
    means: Means | None = None
    forced: Literal[True] | None = Field(None, description="ended by an administrator and not by the work 强制结案")


@published
class CaseSelfHandled(CaseFact):
    """A collector put a small thing right on the spot 自处理, and that was recognised."""

    type: ClassVar[str] = "cn.sanji.case.self-handled.v1"


@published
class CaseSupervised(CaseFact):
    """A leader urged the case 督办, or (`answered`) got the answer asked for."""

    type: ClassVar[str] = "cn.sanji.case.supervised.v1"
    answered: bool


@published
class CaseAppealed(CaseFact):
    """What became of a department's appeal 申诉 against an overdue closing; `granted` takes it out of the overdue figures."""

    type: ClassVar[str] = "cn.sanji.case.appealed.v1"
    result: Literal["asked", "granted", "denied"]


@published
class CaseReopened(CaseFact):
    """The reporter said within the set time that the problem is still there."""

    type: ClassVar[str] = "cn.sanji.case.reopened.v1"


@published
class CaseMerged(CaseFact):
    """The case is the same problem as another and ends in it 并案."""

    type: ClassVar[str] = "cn.sanji.case.merged.v1"
    into: ShortIdent


@published
class CaseUnmerged(CaseFact):
    """A merging was undone; the case stands again where it stood."""

    type: ClassVar[str] = "cn.sanji.case.unmerged.v1"
    state: ShortIdent


@published
class CaseLinked(CaseFact):
    """The case is a part of another, or the answer to an order from above."""

    type: ClassVar[str] = "cn.sanji.case.linked.v1"
    to: ShortIdent
    how: Literal["split", "order"]


@published
class CaseRated(CaseFact):
    """How satisfied somebody was with the work 满意度: 3 very, 2 satisfied, 1 not."""

    type: ClassVar[str] = "cn.sanji.case.rated.v1"
    score: int = Field(ge=1, le=3)
    by: Literal["reporter", "visit", "third_party"]


@published
class CaseStageEnded(CaseFact):
    """The clock of one stage ended: when it had begun, its deadline, and how much of its own kind of time was used."""

    type: ClassVar[str] = "cn.sanji.case.stage-ended.v1"
    stage: Stage
    began: Instant
    due: Instant
    on_time: bool
    seconds: int = Field(ge=0, le=10**10, description="in the limit's own kind of time, pauses left out")
