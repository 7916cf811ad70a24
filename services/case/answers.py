"""What the case service answers, as its interface document shows it; a test holds real answers against these."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.case import Channel, Located, Means, Provenance, Stage
from services.case import domain


class Case(BaseModel):
    """A case without persons and without free text; instants in UTC, place in WGS 84 degrees."""

    id: str
    number: str = Field(description="for people to read out: node, day, daily sequence")
    version: int = Field(description="counts the steps; an action names the one that its sender saw")
    state: domain.State
    category: str
    edition: str = Field(description="edition of the catalogue in force at the report")
    condition: str | None = Field(description="filing condition of the catalogue")
    channel: Channel
    application: str | None = Field(description="program that the report came in by")
    provenance: Provenance
    dataset: str | None = Field(description="record that it comes from, where it was not reported here")
    lon: float
    lat: float
    located: Located | None = Field(description="what the place was taken from")
    division: str
    cell: str | None
    part: str | None = Field(description="code of the part that it is about")
    department: str | None = Field(description="the department in the lead")
    reported_at: str
    filed_at: str | None
    due_at: str | None = Field(description="deadline of the handling; before the dispatch what it would be by one at filing")
    handled_at: str | None
    ended_at: str | None
    on_time: bool | None = Field(description="of a closed case: handled at or before its deadline")
    means: Means | None
    appealed: Literal["asked", "granted", "denied"] | None = Field(
        description="granted: not counted as overdue 不计超时; on_time stays as it was"
    )
    stage: Stage | None = Field(description="whose clock counts now")
    warn_at: str | None = Field(description="when that clock turns yellow")
    late_at: str | None = Field(description="when it turns red")
    reply_by: str | None = Field(description="until when a supervision wants an answer")
    postponements: int
    suspensions: int
    reopenings: int
    joined: int = Field(description="further reports of the same problem")
    merged_into: str | None
    parent: str | None
    changed_at: str


class Words(BaseModel):
    """A sentence in both languages."""

    zh: str
    en: str


class ClockNow(BaseModel):
    """The clock of one stage, and in words why its deadline is what it is."""

    stage: Stage
    limit: str
    began: str
    due: str
    held: bool
    ended: str | None
    light: Literal["green", "yellow", "red"]
    left_seconds: int | None = Field(
        description="in the limit's own kind of time, negative when it is over; null in a year that is not announced"
    )
    explained: Words


class Total(BaseModel):
    """The clock of the whole case, from the report to its end or until now; it has no limit of its own and never stands."""

    began: str
    ended: str | None
    seconds: int = Field(description="real time")
    work_seconds: int | None = Field(description="working time of the node's calendar; null over a year that is not announced")


class CaseNow(Case):
    """A case and what the caller may do with it now; `barred` says of the rest of his actions why not."""

    light: Literal["green", "yellow", "red"] | None
    allowed: list[domain.Action]
    barred: dict[str, str]


class CaseFile(CaseNow):
    """A case as the node's own staff see it, with what people wrote; nothing of it travels."""

    text: str | None
    place: str | None
    answers: dict[str, Any] | None
    verified: Literal["exist", "not_exist", "unable"] | None
    helpers: list[str] | None
    handler: str | None
    returned_by: list[str] | None = Field(description="departments that gave it back as not their own")
    rule: dict[str, Any] | None = Field(description="the routing rule that matched, and why")
    wakes_at: str | None
    clocks: list[ClockNow]
    total: Total


class CasePage(BaseModel):
    """One page of cases; `next` is the cursor of the following one, null on the last."""

    items: list[Case]
    next: str | None


class Guarded(BaseModel):
    """A guard of the workflow in words."""

    name: str
    zh: str
    en: str


class ClockEffect(BaseModel):
    stage: Stage
    effect: domain.Effect


class Step(BaseModel):
    """A row of the workflow; a null target stays where it is, "before" goes back to where something was asked for."""

    source: domain.State
    action: domain.Action
    target: domain.State | Literal["before"] | None
    roles: list[str]
    clocks: list[ClockEffect]
    guards: list[Guarded]
    needs: list[str] = Field(description="fields of the action that must be filled")
    zh: str
    en: str


class PolicyNow(BaseModel):
    """The node's policy and how often it was changed; a change names the edition that its author saw."""

    model_config = ConfigDict(extra="forbid")
    edition: int
    policy: dict[str, Any]


def answered(model: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """The documented answer of a route, beside what the route really sends."""
    return {status: {"model": model}}
