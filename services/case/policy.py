"""What a node may decide about its own case work: limits of stages, colours, who is asked first, how long things may take."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import JSON, Column, Connection, Integer, String, Table, insert, select

from contracts.case import Channel, Stage
from services.case.tables import INSTANT, metadata
from services.case.worktime import Limit
from shared.clock import stamp
from shared.database import Tx
from shared.errors import Conflict
from shared.kept import Kept

policies = Table(
    "case_policies",
    metadata,
    Column("edition", Integer, primary_key=True),
    Column("body", JSON, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Column("changed_by", String(120), nullable=False),
)
"""Every policy that was ever in force, in order; the last one holds."""

STAGES: dict[Stage, str] = {
    "acceptance": "0.25UH", "verification": "0.5UH", "filing": "0.25UH", "dispatch": "0.25UH", "check": "0.5UH",
    "closing": "0.25UH",
}  # fmt: skip
"""Defaults seen in one city's running system: a quarter of an hour at the desks, half an hour for a collector on the way."""


class Duplicates(BaseModel):
    """Within what distance and time two reports of one family of categories may be the same problem."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    metres: float = Field(default=50, gt=0, le=2000)
    hours: float = Field(default=24, gt=0, le=24 * 366)


class Policy(BaseModel):
    """The rules of one node; the defaults are those of one city's practice and no standard's."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    stages: dict[Stage, str] = Field(default=STAGES, description="limit of each stage; the handling's is the condition's")
    handling: str = Field(default="4WH", description="limit of the handling where a condition names none")
    yellow: float = Field(default=0.8, gt=0, lt=1, description="share of the limit after which the light is yellow")
    red: float = Field(default=1.0, ge=1, le=2, description="share of the limit after which the light is red")
    verify: list[Channel] = Field(default=["public", "hotline"], description="channels whose reports are verified before filing")
    postponements: int = Field(default=2, ge=0, le=5)
    suspensions: int = Field(default=1, ge=0, le=5)
    suspension_days: int = Field(default=365, ge=1, le=366)
    reopen_days: int = Field(default=15, ge=0, le=365)
    after_photo: bool = Field(default=False, description="whether a department's feedback needs a photo of the place afterwards")
    merged_roles: dict[str, list[str]] = Field(
        default={}, description="roles that count as others here, such as {'acceptor': ['shift_supervisor']}"
    )
    duplicates: dict[str, Duplicates] = Field(default={}, description="by category or family; '*' for all others")

    @field_validator("stages")
    @classmethod
    def _all_stages(cls, value: dict[Stage, str]) -> dict[Stage, str]:
        whole = STAGES | value
        if "handling" in whole:
            raise ValueError("the limit of the handling stands by itself")
        for limit in whole.values():
            Limit.parse(limit)
        return whole

    @field_validator("handling")
    @classmethod
    def _a_limit(cls, value: str) -> str:
        Limit.parse(value)
        return value

    @field_validator("merged_roles")
    @classmethod
    def _separate(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for role, others in value.items():
            strange = {role, *others} - MERGEABLE
            if strange:
                raise ValueError(f"{min(strange)} cannot be merged with another role; these can: {', '.join(sorted(MERGEABLE))}")
        return value

    def near(self, category: str, family: str) -> Duplicates:
        """The distance and time for a category: its own, its family's, everybody's."""
        for key in (category, family, "*"):
            if key in self.duplicates:
                return self.duplicates[key]
        return Duplicates()

    def widened(self, roles: frozenset[str]) -> frozenset[str]:
        """The roles that somebody has here, those merged with them included."""
        return roles.union(*(self.merged_roles.get(role, ()) for role in roles))


MERGEABLE = frozenset({"acceptor", "shift_supervisor", "dispatcher", "checker", "collector"})
"""Desks of one centre. A department is none of them: who does the work must not also judge it 监管分离."""


def _load(connection: Connection) -> Policy:
    body = connection.execute(select(policies.c.body).order_by(policies.c.edition.desc()).limit(1)).scalar()
    return Policy.model_validate(body) if body is not None else Policy()


def kept() -> Kept[Policy]:
    """The policy in force."""
    return Kept("policy", _load)


def edition(connection: Connection) -> int:
    """How many policies there have been; 0 while the defaults hold."""
    return int(connection.execute(select(policies.c.edition).order_by(policies.c.edition.desc()).limit(1)).scalar() or 0)


def change(tx: Tx, held: Kept[Policy], new: Policy, seen: int, by: str) -> dict[str, Any]:
    """Put a new policy in force; `seen` is the edition that its author changed. Raises Conflict where another came between."""
    last = edition(tx.connection)
    if seen != last:
        raise Conflict(f"the policy has edition {last}, not {seen}", field="/edition", edition=last)
    row = {"edition": last + 1, "body": new.model_dump(mode="json"), "changed_at": stamp(tx.now()), "changed_by": by}
    tx.execute(insert(policies), row)
    held.changed(tx.connection)
    return {"edition": last + 1, "policy": row["body"]}
