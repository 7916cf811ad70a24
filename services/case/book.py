"""What a node has set up about telling: its rules, the mail addresses of its staff's accounts, the webhooks that listen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import JSON, Column, Connection, Engine, Integer, String, Table, delete, insert, select, update

from services.case import webhooks
from services.case.tables import INSTANT, metadata
from services.case.telling import Happening, Names, Rules, matching
from shared.auth import ROLES
from shared.clock import stamp
from shared.database import Tx
from shared.errors import Conflict, NotFound
from shared.kept import Kept

rules = Table(
    "case_notice_rules",
    metadata,
    Column("edition", Integer, primary_key=True, autoincrement=False),
    Column("body", JSON, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Column("changed_by", String(120), nullable=False),
)
"""Every set of rules that was ever in force, in order; the last one holds."""

addresses = Table(
    "case_addresses",
    metadata,
    Column("account", String(80), primary_key=True),
    Column("address", String(254), nullable=False),
    Column("language", String(2), nullable=False),
    Column("channels", JSON, nullable=False),
    Column("roles", JSON, nullable=False),
    Column("departments", JSON, nullable=False),
    Column("entered_at", INSTANT, nullable=False),
    Column("entered_by", String(120), nullable=False),
)
"""Where an account of the staff gets mail. Tokens say who has a role, so that for mail the roles are entered here as well."""


class Address(BaseModel):
    """Where and about what an account gets mail: of single notices, and the weekly digest."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    address: str = Field(max_length=254, pattern=r"^[!-?A-Z^-~]{1,64}@[0-9A-Za-z]([0-9A-Za-z.-]{0,187}[0-9A-Za-z])?$")
    language: Literal["zh", "en"] = "zh"
    channels: Annotated[tuple[Literal["mail", "digest"], ...], Field(strict=False, max_length=2)] = ("mail", "digest")
    roles: Names = Field((), description="gets what is for these roles")
    departments: Names = Field((), description="gets what is for these departments")

    @field_validator("address")
    @classmethod
    def _bare(cls, value: str) -> str:
        if set(value) & set('<>()[],;:"\\'):
            raise ValueError("a bare address such as desk@office.example, without a name")
        return value

    @field_validator("roles")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if strange := set(value) - ROLES:
            raise ValueError(f"no such role: {min(strange)}")
        return value

    def targets(self, account: str) -> Iterator[str]:
        """As whom the account is written to."""
        yield f"account:{account}"
        yield from (f"role:{name}" for name in self.roles)
        yield from (f"department:{name}" for name in self.departments)


@dataclass(frozen=True)
class Book:
    """The rules in force, who listens from outside, and which accounts get mail for a target."""

    rules: Rules
    hooks: tuple[tuple[str, webhooks.Subscription], ...]
    mail: dict[str, tuple[str, ...]]
    digest: dict[str, tuple[str, ...]]
    kinds: frozenset[str]
    """Events that anybody wants to be told."""

    def inside(self, said: Happening) -> Iterator[tuple[str, bool, bool]]:
        """Whom inside to tell: (target, in the application, by mail)."""
        for rule in matching(self.rules.rules, said):
            for target in rule.audience.targets(said.row):
                yield target, "inapp" in rule.channels, "mail" in rule.channels

    def outside(self, said: Happening) -> Iterator[str]:
        """The webhooks to call."""
        for webhook_id, wanted in self.hooks:
            if said.event in wanted.events and wanted.holds(said.row):
                yield webhook_id


def _load(connection: Connection) -> Book:
    held = current(connection)[1]
    hooks = tuple((row["id"], webhooks.subscription(row)) for row in webhooks.every(connection) if row["enabled"])
    mail: dict[str, tuple[str, ...]] = {}
    digest: dict[str, tuple[str, ...]] = {}
    for account, address in listed(connection):
        for name, found in (("mail", mail), ("digest", digest)):
            if name in address.channels:
                for target in address.targets(account):
                    found[target] = (*found.get(target, ()), account)
    kinds = {rule.event for rule in held.rules}.union(*(wanted.events for _, wanted in hooks))
    return Book(held, hooks, mail, digest, frozenset(kinds))


_BOOKS: WeakKeyDictionary[Engine, Kept[Book]] = WeakKeyDictionary()
"""One for each database, because a kept value is not to be shared between two."""


def _kept(connection: Connection) -> Kept[Book]:
    engine = connection.engine
    if (found := _BOOKS.get(engine)) is None:
        found = _BOOKS.setdefault(engine, Kept("notices", _load))
    return found


def of(connection: Connection) -> Book:
    """What is set up now."""
    return _kept(connection).get(connection)


def changed(connection: Connection) -> None:
    """Say in the transaction of a change to rules, addresses or webhooks that it is another book from now on."""
    _kept(connection).changed(connection)


def current(connection: Connection) -> tuple[int, Rules]:
    """(edition, rules); edition 0 while nobody has set any, and then nobody is told anything."""
    row = connection.execute(select(rules.c.edition, rules.c.body).order_by(rules.c.edition.desc()).limit(1)).first()
    return (int(row.edition), Rules.model_validate(row.body)) if row else (0, Rules())


def put_rules(tx: Tx, new: Rules, seen: int, by: str) -> int:
    """Put rules in force that change edition `seen`; answers their edition. Raises Conflict where others came between."""
    last, _ = current(tx.connection)
    if seen != last:
        raise Conflict(f"the rules have edition {last}, not {seen}", field="/edition", edition=last)
    row = {"edition": last + 1, "body": new.model_dump(mode="json"), "changed_at": stamp(tx.now()), "changed_by": by}
    tx.execute(insert(rules), row)
    changed(tx.connection)
    return last + 1


def put_address(tx: Tx, account: str, new: Address, by: str) -> None:
    """Enter or change where an account gets mail."""
    values = new.model_dump(mode="json") | {"entered_at": stamp(tx.now()), "entered_by": by}
    if not tx.execute(update(addresses).where(addresses.c.account == account).values(**values)).rowcount:
        tx.execute(insert(addresses), {"account": account, **values})
    changed(tx.connection)


def remove_address(tx: Tx, account: str) -> None:
    """The account gets no mail any more. Raises NotFound."""
    if not tx.execute(delete(addresses).where(addresses.c.account == account)).rowcount:
        raise NotFound("no mail address is entered for this account", field="/account")
    changed(tx.connection)


def address(connection: Connection, account: str) -> Address | None:
    """Where an account gets mail now, None for nowhere."""
    row = connection.execute(select(addresses).where(addresses.c.account == account)).mappings().first()
    return _address(row) if row else None


def listed(connection: Connection) -> list[tuple[str, Address]]:
    """Every account with its address."""
    rows = connection.execute(select(addresses).order_by(addresses.c.account)).mappings()
    return [(row["account"], _address(row)) for row in rows]


def _address(row: Any) -> Address:
    return Address.model_validate({name: row[name] for name in Address.model_fields})
