"""Facts that the case service states: the life of one case from report to close."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.base import Code, Day, Edition, Fact, Ident, Instant, ShortIdent, published

Provenance = Literal["live", "imported", "replayed", "generated"]
"""Where a case comes from; only `live` ones are daily business, and pages say so."""

Channel = Literal["collector", "public", "hotline", "platform", "telemetry", "leader", "order"]


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
    place: Place


@published
class CaseFiled(CaseFact):
    """The report became a case 立案; its deadline is fixed here."""

    type: ClassVar[str] = "cn.sanji.case.filed.v1"
    due: Instant


@published
class CaseRefused(CaseFact):
    """The report was not accepted 不予受理."""

    type: ClassVar[str] = "cn.sanji.case.refused.v1"
    reason: Literal["not_found", "out_of_scope", "duplicate", "transferred", "other"]


@published
class CaseDispatched(CaseFact):
    """A department was given the case 派遣."""

    type: ClassVar[str] = "cn.sanji.case.dispatched.v1"
    department: Ident


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
