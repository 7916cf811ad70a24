"""Erasure on time: what is due goes, from the rows, the raw files and older copies; what stands still is noticed."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from deploy.migrate import migrate
from services.case.commands import Report, act, report
from services.case.erasure import Erasure
from services.case.reporters import Contact, Custody, erase, keep, look_again, prolong, read, reporters, state
from services.case.tables import cases
from shared import audit
from shared.auth import Caller
from shared.database import Tx, open_engine, reading, writing
from shared.errors import NotFound
from shared.log import record
from shared.vault import Sealed, Unreadable, Vault, bucket_of
from shared.writer import Writer
from tests import served
from tests.served import LEAF, Served
from tests.world import Around

NOW = datetime.now(UTC)
DAYS, OBJECTIONS = 90, 15
CLERK = Caller("clerk", frozenset({"acceptor"}))
REPORTER = Caller("reporter", frozenset({"reporter"}))
CONTACT = Contact(name="王小明", phone="13800001234", note="nobody may ever find this again")


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


@dataclass
class House:
    """A node's database, its keys, and a clock that each act sets by itself."""

    engine: Engine
    vault: Vault
    around: Around = field(default_factory=Around)
    vacuum_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        self.custody = Custody(self.vault, DAYS, self.around.zone)
        self.writer = Writer(self.engine, LEAF)

    @contextmanager
    def at(self, when: datetime = NOW) -> Iterator[Tx]:
        with writing(self.engine) as connection:
            yield Tx(connection, LEAF, now=lambda: when, recorder=record)

    def reported(self, days: float, contact: Contact | None = CONTACT) -> str:
        """A case reported `days` ago by somebody who left something."""
        with self.at(ago(days)) as tx:
            case = str(report(tx, self.around, Report("E0101", 1.0, 1.0))["id"])
            keep(tx, self.custody, case, contact)
        return case

    def ended(self, case: str, days: float) -> str:
        with self.at(ago(days)) as tx:
            act(tx, self.around, case, "withdraw", REPORTER.roles, who=REPORTER)
        return case

    def look(self, when: datetime = NOW) -> int:
        with self.at(when) as tx:
            return look_again(tx, self.custody, OBJECTIONS)

    def erasure(self, now: Callable[[], datetime] = lambda: NOW) -> Erasure:
        return Erasure(self.engine, self.writer, self.custody, self.around, self.vacuum_bytes, now)

    def there(self, case: str) -> bool:
        with reading(self.engine) as connection:
            return bool(state(connection, case)["contact"])

    def expires(self, case: str) -> str | None:
        with reading(self.engine) as connection:
            found: str | None = state(connection, case)["expires_on"]
            return found

    def opened(self, case: str) -> str | None:
        with self.at() as tx:
            found: str | None = read(tx, self.custody, case, CLERK, "a reason to look")["name"]
            return found

    def day(self, days: float) -> str:
        return self.custody.day(ago(days)).isoformat()


@pytest.fixture
def house(engine: Engine, tmp_path: Path) -> Iterator[House]:
    made = House(engine, Vault(tmp_path / "secrets" / "keys.db", LEAF))
    yield made
    made.writer.close()
    made.vault.close()


def test_the_last_day_depends_on_the_case_s_end(house: House) -> None:
    """At first a lower bound; on that day the case is asked: still open, over not long enough, over long enough."""
    still_open, late, over = house.reported(92), house.ended(house.reported(120), 40), house.ended(house.reported(95), 92)
    fresh = house.reported(89)
    assert house.expires(fresh) == house.day(-1) and house.expires(still_open) == house.day(2)
    assert house.look() == 3
    assert house.expires(still_open) == house.day(-90) and house.expires(late) == house.day(-50)
    assert [house.there(c) for c in (still_open, late, over, fresh)] == [True, True, False, True]
    assert house.opened(still_open) == house.opened(late) == CONTACT.name, "prolonged records open as before"
    assert house.look() == 0
    assert house.look(NOW + timedelta(days=51)) == 2 and not house.there(late) and house.there(fresh)


def test_nothing_is_erased_while_its_reporter_may_object(house: House) -> None:
    case = house.ended(house.reported(95), 92)
    with house.at() as tx:
        assert look_again(tx, house.custody, objections=365) == 1
    assert house.there(case) and house.expires(case) == house.day(92 - 365)


def test_a_merged_report_is_kept_as_long_as_the_case_that_goes_on(house: House) -> None:
    head, joined = house.reported(300), house.reported(200)
    with house.at(ago(199)) as tx:
        values = {"state": "merged", "merged_into": head, "ended_at": tx.now().isoformat()}
        tx.execute(update(cases).where(cases.c.id == joined).values(**values))
    house.look()
    assert house.there(joined), "the case that it is part of is open"
    house.ended(head, 10)
    house.look(NOW + timedelta(days=79))
    assert house.there(joined)
    house.look(NOW + timedelta(days=200))
    assert not house.there(joined) and not house.there(head)


def test_what_staff_prolonged_waits_for_its_day(house: House) -> None:
    case = house.ended(house.reported(88), 87)
    with house.at() as tx:
        prolong(tx, house.custody, case, (NOW + timedelta(days=60)).date(), CLERK, "an objection is open")
    assert house.look(NOW + timedelta(days=40)) == 0 and house.there(case)
    assert house.look(NOW + timedelta(days=62)) == 1 and not house.there(case)


def test_every_erasure_is_in_the_audit_log_without_its_content(house: House) -> None:
    case = house.ended(house.reported(95), 92)
    house.look()
    with reading(house.engine) as connection:
        (entry,) = audit.page(connection, audit.Sought(action="erase_contact"))
    assert (entry["actor"], entry["subject"]) == ("node", case) and "王" not in str(entry)


def columns(house: House, case: str) -> Sealed:
    with reading(house.engine) as connection:
        row = connection.execute(select(reporters).where(reporters.c.case_id == case)).one()
        return Sealed(row.bucket, bytes(row.wrapped), bytes(row.nonce), bytes(row.ciphertext))


def test_an_older_copy_of_the_database_opens_nothing_after_the_month_is_over(house: House) -> None:
    case = house.ended(house.reported(200), 150)
    sealed, bucket = columns(house, case), house.day(110)[:7]
    assert sealed.bucket == bucket and house.vault.open(case, sealed)
    house.erasure().round()
    assert not house.there(case) and bucket not in house.vault.buckets()
    with pytest.raises(Unreadable):
        house.vault.open(case, sealed)


def test_a_key_is_kept_while_its_month_lasts_or_somebody_needs_it(house: House) -> None:
    """Of the two that expired in a month long over, one was prolonged by hand within it, and the loop never came to it."""
    gone, needed = house.ended(house.reported(200), 150), house.reported(200)
    with house.at() as tx:
        tx.execute(update(reporters).where(reporters.c.case_id == needed).values(expires_on=house.day(-1)))
    now = house.reported(0.1)
    house.erasure().round()
    assert not house.there(gone) and house.opened(needed) == CONTACT.name
    assert house.vault.buckets() == sorted({house.day(110)[:7], house.day(-90)[:7]}) and house.there(now)


def test_a_restored_copy_is_erased_again(house: House, tmp_path: Path) -> None:
    """Erased at the reporter's wish long before its day; then the database is put back to what it was before."""
    if house.engine.dialect.name != "sqlite":
        pytest.skip("the older copy is a file here; what is erased again is the same on both")
    case, other = house.reported(1), house.reported(1)
    copy = tmp_path / "older.db"
    with sqlite3.connect(tmp_path / "node.db") as source, sqlite3.connect(copy) as target:
        source.backup(target)
    with house.at() as tx:
        assert erase(tx, [case], "reporter", ["reporter"]) == 1
    house.erasure().round()
    restored = House(open_engine(f"sqlite:///{copy}"), house.vault)
    assert restored.there(case) and restored.there(other)
    restored.erasure().round()
    assert not restored.there(case) and restored.opened(other) == CONTACT.name
    restored.writer.close()


def test_a_record_without_its_key_is_marked_and_disturbs_nobody(house: House, tmp_path: Path) -> None:
    """As after a restore without the keys: nothing can be prolonged, the loop goes on, staff see that it is lost."""
    case, fine = house.reported(92), house.ended(house.reported(95), 92)
    house.vault.close()
    house.vault.path.unlink()
    house.erasure().round()
    with reading(house.engine) as connection:
        found = state(connection, case)
    assert found["lost"] and not found["contact"] and not house.there(fine)
    with pytest.raises(NotFound):
        house.opened(case)


@pytest.fixture
def on_file(tmp_path: Path) -> Iterator[House]:
    engine = open_engine(f"sqlite:///{tmp_path}/node.db")
    migrate(engine)
    made = House(engine, Vault(tmp_path / "secrets" / "keys.db", LEAF))
    yield made
    made.writer.close()
    made.vault.close()
    engine.dispose()


def files(base: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(base.rglob("*")) if p.is_file())


def test_nothing_is_left_in_the_raw_files(on_file: House, tmp_path: Path) -> None:
    """Of three hundred records with a growing and shrinking table around them: no sealed byte, no wrapped key, no key."""
    base = tmp_path
    old = [on_file.reported(200 + n % 20) for n in range(300)]
    kept = [on_file.reported(1) for _ in range(100)]
    bits = {part for case in old for part in columns(on_file, case)[1:]}
    bits |= {part[n : n + 8] for part in set(bits) for n in (0, len(part) // 2)} - {b""}
    with sqlite3.connect(on_file.vault.path) as file:
        keys = {k for (k,) in file.execute("SELECT key FROM keys WHERE bucket < ?", (bucket_of(NOW.date()),))}
    raw = files(base)
    assert keys and all(key in raw for key in keys) and all(bit in raw for bit in bits), "the search finds what is there"
    for case in old:
        on_file.ended(case, 150)
    on_file.erasure().round()
    raw = files(base)
    assert [bit.hex() for bit in bits if bit in raw] == [] and [k for k in keys if k in raw] == []
    assert (base / "node.db-wal").stat().st_size < 300_000, "the log before the file was emptied"
    assert CONTACT.name and CONTACT.name.encode() not in raw and b"13800001234" not in raw
    assert {on_file.opened(case) for case in kept} == {CONTACT.name}


def test_a_database_is_rewritten_once_a_day_at_most_and_only_after_an_erasure(
    on_file: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    plainly = Erasure._plainly

    def seen(self: Erasure, statement: str) -> object:
        ran.append(statement)
        return plainly(self, statement)

    monkeypatch.setattr(Erasure, "_plainly", seen)
    clock = [NOW]
    loop = on_file.erasure(lambda: clock[0])

    def erased() -> int:
        with on_file.at() as tx:
            erase(tx, [on_file_case()], "reporter", ["reporter"])
        ran.clear()
        loop.round()
        return ran.count("VACUUM")

    def on_file_case() -> str:
        return cases_left.pop()

    cases_left = [on_file.reported(1) for _ in range(5)]
    loop.round()
    assert ran == []
    assert erased() == 1
    assert erased() == 0 and "PRAGMA wal_checkpoint(TRUNCATE)" in ran
    clock[0] += timedelta(hours=25)
    ran.clear()
    loop.round()
    assert ran.count("VACUUM") == 1, "what waited is cleaned a day later, though nothing new was erased"
    clock[0] += timedelta(hours=25)
    loop.vacuum_bytes = 1000
    assert erased() == 0, "a large database is not held up for minutes"
    ran.clear()
    loop.round()
    assert ran == [], "and nothing waits for ever"


def overdue(node: Served) -> float:
    lines = node.client.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("sanji_reporter_overdue_seconds{"))


def troubles(node: Served) -> dict[str, str]:
    found: dict[str, str] = node.client.get("/readyz").json()["troubles"]
    return found


def test_a_node_erases_by_itself_and_a_loop_that_stands_still_is_noticed(engine: Engine, tmp_path: Path) -> None:
    """First the loop of a running node, then the same node with its loop stopped as if it had never been there."""
    with served.node(tmp_path, engine, LEAF) as node:
        house = House(engine, node.runtime.extra["custody"].vault)
        first = house.ended(house.reported(95), 94)
        until = time.monotonic() + 25
        while house.there(first) and time.monotonic() < until:
            time.sleep(0.2)
        assert not house.there(first), "the loop of a running node finds it within its pause of ten seconds"
        node.runtime.loops.drop("erasure")
        assert "reporters" not in troubles(node) and overdue(node) == 0
        second = house.ended(house.reported(90 + 1.5), 91)
        assert overdue(node) > 0 and "reporters" not in troubles(node), "a day's delay is no alarm"
        house.ended(house.reported(93), 92)
        assert overdue(node) > 24 * 3600
        assert "should have been erased" in troubles(node)["reporters"]
        assert node.client.get("/readyz").status_code == 503 and house.there(second)
        node.runtime.extra["erasure"].round()
        assert "reporters" not in troubles(node) and overdue(node) == 0
        house.writer.close()


def test_a_failing_loop_says_so(engine: Engine, tmp_path: Path) -> None:
    with served.node(tmp_path, engine, LEAF) as node:
        loop = node.runtime.extra["erasure"]

        def broken() -> None:
            raise OSError("no space")

        loop.round = broken
        until = time.monotonic() + 25
        while "loop erasure" not in troubles(node) and time.monotonic() < until:
            time.sleep(0.2)
        assert "no space" in troubles(node)["loop erasure"]


def test_the_keys_are_no_part_of_the_database(on_file: House, tmp_path: Path) -> None:
    """Whoever takes the database and leaves the keys has nothing."""
    case = on_file.reported(1)
    shutil.copy(tmp_path / "node.db", tmp_path / "taken.db")
    thief = House(open_engine(f"sqlite:///{tmp_path}/taken.db"), Vault(tmp_path / "empty" / "keys.db", LEAF))
    shutil.copy(tmp_path / "node.db-wal", tmp_path / "taken.db-wal")
    assert thief.there(case)
    with pytest.raises(NotFound, match="cannot be opened"):
        thief.opened(case)
    thief.writer.close()
