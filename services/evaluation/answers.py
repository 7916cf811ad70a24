"""What the evaluation service answers, as its interface document shows it; a test holds real answers against these."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from contracts.case import Channel, Provenance


class Words(BaseModel):
    """A text in both languages."""

    zh: str
    en: str


class Counts(BaseModel):
    """Figures of one group; counts by the civil day on which things happened, backlogs at the moment of the answer."""

    reported: int
    refused: int
    filed: int
    closed: int
    closed_on_time: int
    reworked: int
    exempted: int = Field(description="closed overdue, taken out of the overdue figures by a granted appeal, by day of closing")
    open: int = Field(description="filed and not ended")
    overdue_open: int = Field(description="of these, past the deadline; a suspended case has none")
    median_seconds: float | None = Field(description="from report to close, of all closed cases")
    on_time_rate: float | None = Field(
        description="closed on time ÷ (closed − exempted + overdue open); null where nothing was due"
    )


class Figure(Counts):
    """Figures with the value of each dimension that was asked for."""

    origin: str | None = None
    division: str | None = None
    area: str | None = None
    category: str | None = None
    day: str | None = None
    provenance: Provenance | None = None


class Figures(BaseModel):
    as_of: str = Field(description="UTC, to the minute")
    formula: Words
    items: list[Figure]


class Unit(BaseModel):
    code: str
    names: Words
    totals: Counts


class Day(BaseModel):
    day: str
    reported: int
    refused: int
    filed: int
    closed: int
    closed_on_time: int
    reworked: int
    exempted: int


class Origin(BaseModel):
    """How many cases were reported live, imported, replayed, generated."""

    provenance: Provenance
    reported: int


class Overview(BaseModel):
    """What a page shows, all of one snapshot."""

    as_of: str
    totals: Counts
    children: list[Unit]
    trend: list[Day]
    provenance: list[Origin]
    on_time_formula: Words


class Link(BaseModel):
    """How well this node hears one log below it."""

    code: str
    names: Words
    log: str
    state: Literal["ok", "lagging", "silent", "quarantine", "behind", "fork"]
    heard_at: str | None = Field(description="when the last fact was folded")
    lag_events: int
    lag_seconds: float = Field(description="for how long it has been silent or behind; 0 while in step")
    verified_seq: int = Field(description="sequence up to which the chain is proved and folded")
    quarantine: int = Field(description="wrong batches that were kept aside and never applied")


class Links(BaseModel):
    links: list[Link]


class Case(BaseModel):
    """A case without persons and without free text, as its origin stated it; instants in UTC, place in WGS 84 degrees."""

    id: str
    origin: str = Field(description="node that works it")
    number: str | None
    state: str | None
    category: str
    edition: str | None
    channel: Channel
    provenance: Provenance
    dataset: str | None
    part: str | None = Field(description="the managed part 部件 that it is about")
    lon: float | None
    lat: float | None
    division: str
    cell: str | None
    department: str | None
    reported_at: str
    filed_at: str | None
    due_at: str | None
    handled_at: str | None
    ended_at: str | None
    on_time: bool | None
    exempt: bool = Field(description="overdue, and not held against the department after its appeal 申诉")
    changed_at: str | None = Field(description="when this node learnt of the last change")


class CasePage(BaseModel):
    """One page of cases; `next` is the cursor of the following one, null on the last."""

    items: list[Case]
    next: str | None
