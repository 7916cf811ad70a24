"""Rewarded reports 有偿参与: rules as data, points on a purse that is known by a code alone, a ledger that only grows.

A purse is a random code on a slip of paper or in an app; nobody is asked whose it is. It earns when a report made with it is
filed as the first of its kind at its place, loses that again when the case turns out void, and is paid out to whoever shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from sqlalchemy import JSON, Column, Connection, Index, Integer, String, Table, bindparam, func, insert, select

from services.case.duplicates import Where, near
from services.case.intake import Surroundings
from services.case.tables import INSTANT, metadata
from services.case.texts import CODE_PATTERN, Day
from services.case.tracking import draw, hashed
from shared import audit
from shared.auth import Caller
from shared.clock import civil_day, stamp, unstamp
from shared.database import Tx
from shared.errors import Conflict, Invalid, NotFound
from shared.kept import Kept

purses = Table(
    "case_purses",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("group", String(40)),
    Column("made_at", INSTANT, nullable=False),
)
"""Purses by the hash of their code; `group` is the volunteers' or merchants' group 志愿者、商户自治 that hands it out."""

groups = Table(
    "case_groups",
    metadata,
    Column("code", String(40), primary_key=True),
    Column("kind", String(12), nullable=False),
    Column("name_zh", String(120), nullable=False),
    Column("name_en", String(120), nullable=False),
    Column("ended_at", INSTANT),
)
"""Groups of reporters of a kind; a group has no list of members."""

Held = Kept[tuple[int, tuple["Reward", ...]]]

contributions = Table(
    "case_contributions",
    metadata,
    Column("case_id", String(40), primary_key=True),
    Column("purse", String(64)),
    Column("group", String(40)),
    Index("case_contributions_group", "group"),
)
"""With which purse, and for which group, a report was made."""

ledger = Table(
    "case_points",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("purse", String(64), nullable=False),
    Column("points", Integer, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("case_id", String(40)),
    Column("rule", String(40)),
    Column("day", String(10), nullable=False),
    Column("at", INSTANT, nullable=False),
    Column("actor", String(120), nullable=False),
    Index("case_points_purse", "purse", "at"),
    Index("case_points_case", "case_id"),
)
"""Earned, taken back, paid out: only ever added to, which the database itself sees to; what a purse holds is the sum."""

reward_rules = Table(
    "case_reward_rules",
    metadata,
    Column("edition", Integer, primary_key=True),
    Column("body", JSON, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Column("changed_by", String(120), nullable=False),
)

Codes = Annotated[list[Annotated[str, Field(max_length=20, pattern="^[0-9A-Z]{1,20}$")]], Field(max_length=200)]


class Reward(BaseModel):
    """A rule: what a first valid report of these categories in these areas earns."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    id: str = Field(max_length=40, pattern=CODE_PATTERN)
    categories: Codes = Field(default=[], description="codes or the beginnings of codes; none for all")
    areas: Codes = Field(default=[], description="divisions, with all that lies in them; none for all")
    points: int = Field(gt=0, le=10_000)
    daily_cap: int = Field(gt=0, le=100_000, description="points that one purse earns by this rule on one day")
    valid_from: Day | None = None
    valid_to: Day | None = Field(None, description="the first day on which it holds no more")

    @model_validator(mode="after")
    def _in_order(self) -> Reward:
        if self.valid_from and self.valid_to and self.valid_to <= self.valid_from:
            raise ValueError("a rule ends after it begins")
        return self

    def fits(self, category: str, chain: Sequence[str], day: date) -> bool:
        holds = (self.valid_from is None or self.valid_from <= day) and (self.valid_to is None or day < self.valid_to)
        kind = not self.categories or category.startswith(tuple(self.categories))
        return holds and kind and (not self.areas or bool(set(self.areas) & set(chain)))


RULES: TypeAdapter[list[Reward]] = TypeAdapter(list[Reward])
_OF = select(contributions).where(contributions.c.case_id == bindparam("case"))
_LEFT = select(func.coalesce(func.sum(ledger.c.points), 0)).where(ledger.c.purse == bindparam("of"))
_TODAY = _LEFT.where(ledger.c.day == bindparam("on"), ledger.c.rule == bindparam("by"), ledger.c.kind != "paid")
_BY_CASE = select(func.coalesce(func.sum(ledger.c.points), 0)).where(ledger.c.case_id == bindparam("case"))


def kept() -> Held:
    """(edition, rules) in force; the first that fits a report counts."""
    return Kept("rewards", _load)


def _load(connection: Connection) -> tuple[int, tuple[Reward, ...]]:
    row = connection.execute(select(reward_rules).order_by(reward_rules.c.edition.desc()).limit(1)).mappings().first()
    return (row["edition"], tuple(RULES.validate_python(row["body"], strict=False))) if row else (0, ())


def change(tx: Tx, held: Held, rules: Sequence[Reward], seen: int, who: Caller) -> int:
    """Put other rules in force from now on; answers their edition. Raises Conflict where somebody else came between."""
    last, _ = held.get(tx.connection)
    if seen != last:
        raise Conflict(f"the rules have edition {last}, not {seen}", field="/edition", edition=last)
    if len({r.id for r in rules}) != len(rules):
        raise Invalid("two rules have the same id", field="/rules")
    body = [r.model_dump(mode="json") for r in rules]
    tx.execute(insert(reward_rules), {"edition": last + 1, "body": body, "changed_at": stamp(tx.now()), "changed_by": who.name})
    audit.note(tx, who.name, who.roles, "change_rewards", "rewards", str(last + 1))
    held.changed(tx.connection)
    return last + 1


def open_purse(tx: Tx, group: str | None) -> str:
    """A new purse; answers its code, which is shown this once. Raises NotFound for a group that is not there."""
    if group is not None:
        _group(tx, group)
    code = draw()
    tx.execute(insert(purses), {"hash": code.hash, "group": group, "made_at": stamp(tx.now())})
    return code.shown


def _group(tx: Tx, code: str) -> None:
    found = tx.execute(select(groups.c.ended_at).where(groups.c.code == code)).first()
    if found is None or found.ended_at:
        raise NotFound("no such group here", field="/group")


def purse_of(connection: Connection, code: str) -> Mapping[str, Any]:
    """The purse of a code. Raises NotFound."""
    row = connection.execute(select(purses).where(purses.c.hash == hashed(code))).mappings().first()
    if row is None:
        raise NotFound("no such purse here", field="/purse")
    return dict(row)


def contribute(tx: Tx, case_id: str, purse: str | None, group: str | None) -> None:
    """Note with which purse and for which group a report is made. Raises NotFound."""
    held = purse_of(tx.connection, purse) if purse else {}
    group = group or held.get("group")
    if group:
        _group(tx, group)
    if held or group:
        tx.execute(insert(contributions), {"case_id": case_id, "purse": held.get("hash"), "group": group})


def settle(tx: Tx, around: Surroundings, held: Held, row: Mapping[str, Any], action: str) -> None:
    """Earn when a report is filed, take back when its case turns out void or refused after all; `row` is the case after it."""
    found = tx.execute(_OF, {"case": row["id"]}).mappings().first()
    if found is None or not found["purse"]:
        return
    if action == "file":
        _earn(tx, around, held.get(tx.connection)[1], row, found["purse"])
    elif row["state"] in ("void", "declined", "refused") and (earned := tx.execute(_BY_CASE, {"case": row["id"]}).scalar_one()):
        _enter(tx, around, found["purse"], -earned, "taken_back", None, row["id"], "rules")


def _earn(tx: Tx, around: Surroundings, rules: Sequence[Reward], row: Mapping[str, Any], purse: str) -> None:
    if tx.execute(_BY_CASE, {"case": row["id"]}).scalar_one():
        return
    day, chain = date.fromisoformat(civil_day(tx.now(), around.zone)), around.chain(row["division"])
    rule = next((r for r in rules if r.fits(row["category"], chain, day)), None)
    if rule is None or _known_before(tx.connection, around, row):
        return
    today = tx.execute(_TODAY, {"of": purse, "on": day.isoformat(), "by": rule.id}).scalar_one()
    if points := min(rule.points, rule.daily_cap - today):
        _enter(tx, around, purse, points, "earned", rule.id, row["id"], "rules")


def _known_before(connection: Connection, around: Surroundings, row: Mapping[str, Any]) -> bool:
    """Whether an earlier report that is still open was about the same: then this one told nobody anything new."""
    what = Where(row["category"], row["lon"], row["lat"], unstamp(row["reported_at"]), row["part"], row["id"])
    mine = row["reported_at"], row["number"]
    return any((r["reported_at"], r["number"]) < mine for r in near(connection, around, what))


def _enter(
    tx: Tx, around: Surroundings, purse: str, points: int, kind: str, rule: str | None, case_id: str | None, actor: str
) -> None:
    at = tx.now()
    tx.execute(
        insert(ledger),
        {"id": tx.new_id(), "purse": purse, "points": points, "kind": kind, "case_id": case_id, "rule": rule,
         "day": civil_day(at, around.zone), "at": stamp(at), "actor": actor},
    )  # fmt: skip


def left(connection: Connection, purse: str) -> int:
    """What a purse holds, by its hash; below zero where something was taken back after it had been paid."""
    return int(connection.execute(_LEFT, {"of": purse}).scalar_one())


def pay(tx: Tx, around: Surroundings, code: str, points: int, who: Caller) -> int:
    """Pay out to whoever shows the code; answers what is left. Raises NotFound, Conflict where the purse holds less."""
    purse = str(purse_of(tx.connection, code)["hash"])
    holds = left(tx.connection, purse)
    if points > holds:
        raise Conflict(f"the purse holds {holds} points", field="/points", holds=holds)
    _enter(tx, around, purse, -points, "paid", None, None, who.name)
    audit.note(tx, who.name, who.roles, "pay", "purse", purse[:16], detail={"points": points})
    return holds - points
