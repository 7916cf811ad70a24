"""Who is told what 通知规则: rules as data that name an event, whom it concerns and over which channel; values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.base import IDENT
from services.case.domain import State
from shared.auth import ROLES

Event = Literal[
    "reached", "assigned", "returned", "reworked", "postponed", "supervised", "answered", "reopened", "withdrawn", "merged",
    "due_soon", "overdue", "reply_due", "commented", "rated",
]  # fmt: skip
"""What somebody may want to be told: a case reached a state, was given to an account, was returned 退回, sent to rework 返工,
got more time 延期, was supervised 督办, a supervision was answered; the reporter reopened or withdrew it; it was merged 并案;
its clock turned yellow or red, a supervision waits beyond its day; somebody commented or rated it."""
EVENTS: tuple[Event, ...] = get_args(Event)
TIMED: frozenset[Event] = frozenset(("due_soon", "overdue", "reply_due"))
"""Events that no step makes but the passing of time."""

NAMED: dict[str, Event] = {
    "assign": "assigned", "ask_verification": "assigned", "ask_check": "assigned", "send_back": "returned", "reject": "reworked",
    "rework": "reworked", "fail_check": "reworked", "supervise": "supervised", "reply_supervision": "answered",
    "reopen": "reopened", "withdraw": "withdrawn", "merge": "merged",
}  # fmt: skip
GRANTED: dict[str, Event] = {"return_asked": "returned", "postpone_review": "postponed"}
"""What a grant means depends on what was asked for."""

Name = Annotated[str, Field(pattern=f"^{IDENT}$")]
Codes = Annotated[tuple[Annotated[str, Field(pattern="^[0-9A-Z]{1,20}$")], ...], Field(strict=False, max_length=100)]
Names = Annotated[tuple[Name, ...], Field(strict=False, max_length=100)]
Row = Mapping[str, Any]


class Narrowed(BaseModel):
    """Which cases: of these categories (codes, or what codes begin with), of these departments; nothing named is all."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    categories: Codes = ()
    departments: Names = ()

    def holds(self, row: Row) -> bool:
        if self.categories and not row["category"].startswith(self.categories):
            return False
        return not self.departments or row.get("department") in self.departments


class Audience(BaseModel):
    """Whom a notice is for: a role at this node, the department in the lead, those that help, the account that the case or the
    task was given to, or one named account."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    kind: Literal["role", "department", "helpers", "handler", "account"]
    name: Name | None = Field(None, description="the role or the account; nothing for the others")

    @model_validator(mode="after")
    def _named(self) -> Audience:
        if (self.name is not None) != (self.kind in ("role", "account")):
            raise ValueError("a role and an account are named, the others are not")
        if self.kind == "role" and self.name not in ROLES:
            raise ValueError(f"no such role: {self.name}; there are {', '.join(sorted(ROLES))}")
        return self

    def targets(self, row: Row) -> Iterator[str]:
        """As whom somebody must be known to see the notice: `role:`, `department:` or `account:` and the name."""
        if self.kind in ("role", "account"):
            yield f"{self.kind}:{self.name}"
        elif self.kind == "department" and row.get("department"):
            yield f"department:{row['department']}"
        elif self.kind == "helpers":
            yield from (f"department:{name}" for name in row.get("helpers") or ())
        elif self.kind == "handler" and (name := given_to(row)):
            yield f"account:{name}"


def given_to(row: Row) -> str | None:
    """The account that the task that is open, or else the handling, was given to."""
    return (row.get("pending") or {}).get("assignee") or row.get("handler")


class Rule(Narrowed):
    """One line of who is told what."""

    event: Event
    states: Annotated[tuple[State, ...], Field(strict=False, max_length=30)] = Field(
        (), description="for `reached`: which states; none named is every one"
    )
    audience: Audience
    channels: Annotated[tuple[Literal["inapp", "mail"], ...], Field(strict=False, min_length=1, max_length=2)] = ("inapp",)

    @model_validator(mode="after")
    def _states(self) -> Rule:
        if self.states and self.event != "reached":
            raise ValueError("only `reached` has states")
        return self


class DigestRule(BaseModel):
    """For whom a weekly digest is made, and when, in the node's zone."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    weekday: int = Field(0, ge=0, le=6, description="0 is Monday")
    hour: int = Field(8, ge=0, le=23)
    roles: Names = Field((), description="each is told of the whole node")
    departments: bool = Field(False, description="each department is told of its own cases")

    @model_validator(mode="after")
    def _known(self) -> DigestRule:
        if strange := set(self.roles) - ROLES:
            raise ValueError(f"no such role: {min(strange)}")
        return self


class Rules(BaseModel):
    """Everything that a node decided about telling."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    rules: Annotated[tuple[Rule, ...], Field(strict=False, max_length=200)] = ()
    digest: DigestRule | None = None


@dataclass(frozen=True)
class Happening:
    """Something that happened to a case, with the case as it was afterwards; `detail` holds codes."""

    event: Event
    row: Row
    at: str
    actor: str
    action: str | None = None
    before: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def codes(self) -> dict[str, Any]:
        """What a notice keeps of it: enough to show a line, nothing that anybody wrote."""
        found = {"number": self.row["number"], "state": self.row["state"], "version": self.row["version"]}
        more = {"action": self.action, "before": self.before, "due_at": self.row.get("due_at")}
        return found | {name: value for name, value in more.items() if value} | dict(self.detail)


def events(before: Row | None, after: Row, action: str) -> list[Event]:
    """What a step means to those who want to be told, the most telling first."""
    state = before["state"] if before else None
    named = GRANTED.get(state or "") if action == "grant" else NAMED.get(action)
    found: list[Event] = [named] if named else []
    return [*found, "reached"] if after["state"] != state else found


def matching(rules: Iterable[Rule], said: Happening) -> Iterator[Rule]:
    """The rules that speak of what happened."""
    for rule in rules:
        if rule.event == said.event and (not rule.states or said.row["state"] in rule.states) and rule.holds(said.row):
            yield rule


def _rule(event: Event, kind: str, name: str | None = None, **more: Any) -> Rule:
    return Rule.model_validate({"event": event, "audience": {"kind": kind, "name": name}, **more})


SUGGESTED = Rules(
    rules=(
        _rule("assigned", "handler", channels=["inapp", "mail"]),
        _rule("reached", "department", states=["dispatched"]),
        _rule("reached", "helpers", states=["dispatched"]),
        _rule("returned", "role", "dispatcher"),
        _rule("reworked", "department", channels=["inapp", "mail"]),
        _rule("reached", "role", "dispatcher", states=["return_asked", "postpone_review", "suspend_asked", "appealed"]),
        _rule("due_soon", "department", channels=["inapp", "mail"]),
        _rule("due_soon", "handler"),
        _rule("overdue", "department", channels=["inapp", "mail"]),
        _rule("overdue", "role", "shift_supervisor"),
        _rule("supervised", "department", channels=["inapp", "mail"]),
        _rule("supervised", "role", "dispatcher"),
        _rule("reply_due", "role", "shift_supervisor"),
        _rule("answered", "role", "leader"),
        _rule("reopened", "role", "shift_supervisor"),
        _rule("rated", "department"),
    ),
    digest=DigestRule(weekday=0, hour=8, roles=("leader", "shift_supervisor"), departments=True),
)
"""Where an office may begin; nothing of it holds until an administrator puts it in force."""
