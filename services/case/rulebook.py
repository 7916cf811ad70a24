"""The node's routing rules 派遣规则 as it keeps them: editions, checked before they are saved; and which rules broke since."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import JSON, Column, Connection, Integer, RowMapping, String, Table, bindparam, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from services.case.intake import Surroundings
from services.case.routing import Routed, Routing, route
from services.case.rules import RoutingRule
from services.case.rulesets import MOST_RULES, Fault, Known, RuleSet, RuleSets, faults
from services.case.tables import INSTANT, metadata
from shared import audit
from shared.auth import Caller
from shared.clock import civil_day, stamp
from shared.database import Tx
from shared.errors import Conflict, Invalid, NotFound
from shared.kept import Kept

rule_sets = Table(
    "case_rule_sets",
    metadata,
    Column("edition", Integer, primary_key=True, autoincrement=False),
    Column("body", JSON, nullable=False),
    Column("valid_from", String(10), nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Column("changed_by", String(120), nullable=False),
    Column("note", String(400), nullable=False),
)
"""Every set of rules that was ever saved; of those that have begun the one with the highest edition holds."""

troubles = Table(
    "case_rule_troubles",
    metadata,
    Column("edition", Integer, primary_key=True, autoincrement=False),
    Column("rule", String(40), primary_key=True),
    Column("zh", String(400), nullable=False),
    Column("en", String(400), nullable=False),
    Column("cases", Integer, nullable=False),
    Column("last_at", INSTANT, nullable=False),
)
"""Rules that could not be judged, with the last reason and for how many filings; a dispatcher decided those."""

WAITING = 20
"""How many sets may begin later."""
RULES: TypeAdapter[tuple[RoutingRule, ...]] = TypeAdapter(tuple[RoutingRule, ...])
_LAST: dict[str, Any] = {"zh": bindparam("zh_why"), "en": bindparam("en_why"), "last_at": bindparam("at")}
_COUNT = {
    name: dialect.insert(troubles)
    .values(edition=bindparam("of"), rule=bindparam("named"), cases=1, **_LAST)
    .on_conflict_do_update(index_elements=["edition", "rule"], set_={"cases": troubles.c.cases + 1, **_LAST})
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


def routes(shipped: Sequence[RoutingRule] = ()) -> Kept[RuleSets]:
    """The sets in force now and from later days on; `shipped` are the rules of the data pack, which hold until one is saved."""
    return Kept("routes", lambda connection: _load(connection, tuple(shipped)))


def shipped(folder: Path) -> tuple[RoutingRule, ...]:
    """The rules in `rules.toml` of a data pack, none where it has none. Raises Invalid naming the place in the file."""
    file = folder / "rules.toml"
    if not file.exists():
        return ()
    try:
        return RULES.validate_python(tomllib.loads(file.read_text(encoding="utf-8")).get("rules", []))
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{file.name}: {error}", field="/rules") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(f"{file.name}: {first['msg']}", field="/rules/" + "/".join(map(str, first["loc"]))) from None


def _load(connection: Connection, first: tuple[RoutingRule, ...]) -> RuleSets:
    """The newest ones, one more than may wait for their day, so that the one in force is always among them."""
    newest = select(rule_sets).order_by(rule_sets.c.edition.desc()).limit(WAITING + 1)
    found = [_set(row) for row in connection.execute(newest).mappings()]
    return RuleSets(tuple(found if len(found) > WAITING else [*found, RuleSet(rules=first)]))


def _set(row: RowMapping) -> RuleSet:
    try:
        return RuleSet(row["edition"], RULES.validate_python(row["body"]), row["valid_from"])
    except ValidationError as error:
        # Not left to whoever files the next case: it says so at each case, and at the rules themselves.
        reason = f"the stored set {row['edition']} is not readable as rules: {error.errors()[0]['msg']}"
        return RuleSet(row["edition"], (), row["valid_from"], reason)


def written(rules: Sequence[RoutingRule]) -> list[dict[str, Any]]:
    """Rules as JSON values."""
    return [rule.model_dump(mode="json") for rule in rules]


def known(connection: Connection, around: Surroundings, node: str, day: str) -> Known:
    """What rules of this node are held against on a day."""

    def cell(code: str) -> bool:
        try:
            around.centre(code)
        except Invalid:
            return False
        return True

    edition = around.catalogue.get(connection).at(datetime.fromisoformat(day).date())
    return Known(edition, lambda division: node in around.chain(division), cell)


def last(connection: Connection) -> int:
    """The highest edition, 0 where none was ever saved."""
    return int(connection.execute(select(rule_sets.c.edition).order_by(rule_sets.c.edition.desc()).limit(1)).scalar() or 0)


def change(
    tx: Tx, around: Routing, rules: Sequence[RoutingRule], seen: int, who: Caller, *,
    note: str = "", valid_from: str | None = None,
) -> int:  # fmt: skip
    """Save a set that holds from `valid_from` on, by default from today; answers its edition. `seen` is the last one it changes.

    Raises Conflict where another set came between, Invalid with all faults for rules that do not fit the catalogue of that day.
    """
    edition, today = last(tx.connection), civil_day(tx.now(), around.zone)
    start = valid_from or today
    if seen != edition:
        raise Conflict(f"the rules have edition {edition}, not {seen}", field="/edition", edition=edition)
    if start < today:
        raise Invalid("begins today or later", field="/valid_from")
    waiting = tx.execute(select(func.count()).where(rule_sets.c.valid_from > today)).scalar_one()
    if start > today and waiting >= WAITING:
        raise Conflict(f"{waiting} sets begin later already", field="/valid_from")
    refuse(rules, known(tx.connection, around, tx.node, start))
    row = {"edition": edition + 1, "body": written(rules), "valid_from": start, "changed_at": stamp(tx.now()),
           "changed_by": who.name, "note": note}  # fmt: skip
    tx.execute(insert(rule_sets), row)
    audit.note(tx, who.name, who.roles, "change_rules", "rules", str(edition + 1), detail={"rules": len(rules), "from": start})
    around.routes.changed(tx.connection)
    return edition + 1


def refuse(rules: Sequence[RoutingRule], against: Known) -> None:
    """Raises Invalid with all faults, the first one in front."""
    if len(rules) > MOST_RULES:
        raise Invalid(f"a set has at most {MOST_RULES} rules", field="/rules")
    if found := list(faults(rules, against)):
        listed = [f._asdict() for f in found[:200]]
        raise Invalid(found[0].reason, field=found[0].field, errors=listed)


def decide(tx: Tx, around: Routing, row: Mapping[str, Any], at: datetime) -> Routed:
    """What the rules say of a case that is filed now, as `routing.route`; one that cannot be judged is counted in `tx`."""
    found = route(tx.connection, around, row, at)
    if found.broken:
        why = {"zh_why": found.broken["zh"][:400], "en_why": found.broken["en"][:400], "at": stamp(at)}
        tx.execute(_COUNT[tx.connection.dialect.name], {"of": found.edition, "named": found.broken["rule"], **why})
    return found


def counted(connection: Connection, edition: int) -> list[dict[str, Any]]:
    """Rules of an edition that could not be judged: rule, reason, how many filings, and when last."""
    wanted = select(*(troubles.c[n] for n in ("rule", "zh", "en", "cases", "last_at"))).where(troubles.c.edition == edition)
    return [dict(r) for r in connection.execute(wanted.order_by(troubles.c.rule)).mappings()]


def unfit(connection: Connection, around: Routing, node: str, at: datetime) -> list[Fault]:
    """What is wrong with the set in force, held against the catalogue of this moment: for readiness and for the administrator."""
    day = civil_day(at, around.zone)
    held = around.routes.get(connection).at(day)
    return [Fault("/rules", held.fault)] if held.fault else list(faults(held.rules, known(connection, around, node, day)))


def edition(connection: Connection, number: int) -> RuleSet:
    """A saved set, whether it holds or not. Raises NotFound."""
    row = connection.execute(select(rule_sets).where(rule_sets.c.edition == number)).mappings().first()
    if row is None:
        raise NotFound(f"there is no edition {number} of the rules", field="/edition")
    return _set(row)


def editions(connection: Connection, before: int | None, limit: int) -> Iterator[dict[str, Any]]:
    """Saved sets without their rules, newest first, below the edition `before`."""
    names = ("edition", "valid_from", "changed_at", "changed_by", "note")
    wanted = select(*(rule_sets.c[n] for n in names)).order_by(rule_sets.c.edition.desc())
    if before is not None:
        wanted = wanted.where(rule_sets.c.edition < before)
    yield from (dict(r) for r in connection.execute(wanted.limit(limit)).mappings())
