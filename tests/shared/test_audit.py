"""The audit log: chained whatever is rolled back and however many write, refused to be changed, and every change is found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from deploy.cli import app
from deploy.migrate import migrate
from deploy.render import render
from shared import audit
from shared.database import Tx, open_engine, reading, writing
from shared.settings import load
from shared.writer import Writer
from tests import served

MANY = 40


def note(tx: Tx, subject: str, **more: Any) -> int:
    return audit.note(tx, "somebody", {"dispatcher", "acceptor"}, "accept", "case", subject, **more)


def filled(engine: Engine, count: int = MANY) -> audit.Head:
    with writing(engine) as connection:
        for n in range(count):
            note(Tx(connection, "650102"), f"c{n}", reason="because of that" if n % 2 else None, detail={"version": n})
        return audit.head(connection)


def subjects(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return [row["subject"] for row in audit.page(connection, audit.Sought(limit=1000))][::-1]


def test_what_was_noted_is_read_and_proves_itself(engine: Engine) -> None:
    head = filled(engine)
    assert head.size == MANY
    assert audit.verify(engine) == audit.Checked(head)
    with reading(engine) as connection:
        first, second = audit.page(connection, audit.Sought(limit=2))
        older = audit.page(connection, audit.Sought(before=second["id"], limit=1000))
        assert [r["id"] for r in older] == list(range(second["id"] - 1, 0, -1))
        assert first["roles"] == ["acceptor", "dispatcher"] and first["detail"] == {"version": MANY - 1}
        assert [r["subject"] for r in audit.page(connection, audit.Sought(subject="c7"))] == ["c7"]
        assert audit.page(connection, audit.Sought(actor="nobody")) == []
        assert audit.page(connection, audit.Sought(since=first["at"], until=first["at"])) == []
        assert len(audit.page(connection, audit.Sought(since=first["at"]))) >= 1


def test_an_empty_log_is_right(engine: Engine) -> None:
    assert audit.verify(engine) == audit.Checked(audit.EMPTY)


def test_what_is_rolled_back_leaves_no_gap(engine: Engine) -> None:
    """A savepoint, a whole transaction, and a group in which one use case fails, so that all are run again."""
    with writing(engine) as connection:
        tx = Tx(connection, "650102")
        note(tx, "kept")
        with pytest.raises(ZeroDivisionError), tx.attempt():
            note(tx, "lost")
            raise ZeroDivisionError
        note(tx, "kept")
    with pytest.raises(ZeroDivisionError), writing(engine) as connection:
        note(Tx(connection, "650102"), "lost")
        raise ZeroDivisionError
    writer = Writer(engine, "650102")

    def work(n: int) -> Callable[[Tx], int]:
        return lambda tx: note(tx, "grouped") // (n % 3)

    futures = [writer.submit(work(n)) for n in range(60)]
    failed = sum(f.exception(20) is not None for f in futures)
    writer.close()
    assert failed == 20 and subjects(engine) == ["kept"] * 2 + ["grouped"] * 40
    assert audit.verify(engine).fault == ""


def test_several_processes_on_one_database_make_one_chain(engine: Engine) -> None:
    """Each with its own engine and so its own idea of the last entry, all at once."""
    others = [open_engine(engine.url.render_as_string(hide_password=False)) for _ in range(4)]

    def some(other: Engine) -> None:
        for n in range(25):
            with writing(other) as connection:
                note(Tx(connection, "650102"), f"c{n}")
                note(Tx(connection, "650102"), f"d{n}")

    threads = [threading.Thread(target=some, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for other in others:
        other.dispose()
    assert audit.verify(engine).head.size == 200 and audit.verify(engine).fault == ""


CHANGES = (
    "UPDATE audit_entries SET actor = 'another' WHERE id = 3",
    "DELETE FROM audit_entries WHERE id = 3",
    "DELETE FROM audit_entries",
)


@pytest.mark.parametrize("change", [*CHANGES, "replace"])
def test_the_database_refuses_every_change(engine: Engine, change: str) -> None:
    head = filled(engine)
    columns = "id, at, actor, roles, action, kind, subject, reason, outcome, detail, chain"
    replace = f"REPLACE INTO audit_entries ({columns}) SELECT 3, {columns.partition(',')[2]} FROM audit_entries WHERE id = 4"
    if change == "replace":
        change = replace if engine.dialect.name == "sqlite" else "TRUNCATE audit_entries"
    with pytest.raises(DBAPIError, match="only ever added to"), engine.begin() as connection:
        connection.execute(text(change))
    assert audit.verify(engine, head) == audit.Checked(head)


def forge(engine: Engine, *changes: str) -> None:
    """Change the log as somebody does who owns the database."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            for name in ("update", "delete", "replace"):
                connection.execute(text(f"DROP TRIGGER audit_entries_{name}"))
        else:
            connection.execute(text("ALTER TABLE audit_entries DISABLE TRIGGER ALL"))
        for change in changes:
            connection.execute(text(change))


FORGED = {
    **{name: (f"UPDATE audit_entries SET {name} = '7' WHERE id = 7",) for name in audit.SAID},
    "reason removed": ("UPDATE audit_entries SET reason = NULL WHERE id = 8",),
    "chain": ("UPDATE audit_entries SET chain = (SELECT chain FROM audit_entries WHERE id = 9) WHERE id = 7",),
    "missing": ("DELETE FROM audit_entries WHERE id = 7",),
    "first": ("DELETE FROM audit_entries WHERE id = 1",),
    "swapped": (
        "UPDATE audit_entries SET id = 1000 WHERE id = 7", "UPDATE audit_entries SET id = 7 WHERE id = 8",
        "UPDATE audit_entries SET id = 8 WHERE id = 1000",
    ),
    "renumbered": ("DELETE FROM audit_entries WHERE id = 40", "UPDATE audit_entries SET id = 40 WHERE id = 39"),
    "before the first": ("UPDATE audit_entries SET id = 0 WHERE id = 40",),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_every_forgery_is_found_at_its_place(engine: Engine, name: str) -> None:
    filled(engine)
    forge(engine, *FORGED[name])
    found = audit.verify(engine)
    place = {"reason removed": 8, "first": 1, "renumbered": 39, "before the first": 40}.get(name, 7)
    assert found.fault and found.head.size == place - 1


def test_entries_cut_off_or_written_anew_are_found_by_an_earlier_head(engine: Engine) -> None:
    """A log without its end is right in itself, and so is one that somebody wrote again; whoever noted a head knows better."""
    head = filled(engine)
    early = audit.Head(10, audit.verify(engine).head.chain)
    assert "written anew" in audit.verify(engine, early).fault
    forge(engine, "DELETE FROM audit_entries WHERE id > 35")
    assert audit.verify(engine).fault == ""
    assert audit.verify(engine, head).fault == "the entries from 36 to 40 are missing, which were seen before"
    with writing(engine) as connection:
        for n in range(5):
            note(Tx(connection, "650102"), f"other{n}")
    assert audit.verify(engine).fault == "" and "written anew" in audit.verify(engine, head).fault


def test_a_head_is_written_down_and_never_over_one_that_is_gone(engine: Engine, tmp_path: Path) -> None:
    """What the loop of a node does: it goes forward with the log, and stays where the log was cut."""
    path = tmp_path / "audit.head"
    audit.write_down(engine, path)
    assert audit.seen(path) == audit.EMPTY
    first = filled(engine)
    audit.write_down(engine, path)
    assert audit.seen(path) == first == audit.Head.parse(str(first))
    second = filled(engine)
    audit.write_down(engine, path)
    assert audit.seen(path) == second
    forge(engine, "DELETE FROM audit_entries WHERE id > 70")
    audit.write_down(engine, path)
    filled(engine)
    audit.write_down(engine, path)
    assert audit.seen(path) == second and "written anew" in audit.verify(engine, audit.seen(path)).fault
    for wrong in ("", "12", "x:00", f"1:{'0' * 63}", f"1:{'g' * 64}"):
        with pytest.raises(ValueError):
            audit.Head.parse(wrong)


def test_the_command_checks_a_node(tmp_path: Path) -> None:
    """With the head beside the database, with one from a piece of paper, and after somebody was at the log."""
    file = render(served.topology(), served.LEAF, tmp_path)
    node = load(file)
    engine = open_engine(node.database_url)
    migrate(engine)
    head = filled(engine)
    audit.write_down(engine, node.audit_head)

    def sanji(*more: str) -> tuple[int, str]:
        answer = CliRunner().invoke(app, ["audit", "verify", str(file), *more])
        return answer.exit_code, answer.output

    assert sanji() == (0, f"40 entries prove themselves, held against a head of 40\nhead {head}\nok\n")
    assert sanji("--since", str(audit.Head(39, audit.GENESIS)))[0] == 1 and sanji("--since", "39")[0] == 2
    forge(engine, "DELETE FROM audit_entries WHERE id > 30")
    code, told = sanji()
    assert code == 1 and "the entries from 31 to 40 are missing" in told
    forge_again = "UPDATE audit_entries SET actor = 'another' WHERE id = 5"
    with engine.begin() as connection:
        connection.execute(text(forge_again))
    code, told = sanji()
    assert code == 1 and "the entry 5 is not the one that was written there" in told and "4 entries prove" in told


def test_columns_cannot_flow_into_each_other() -> None:
    assert audit.link(audit.GENESIS, 1, ["ab", "c"]) != audit.link(audit.GENESIS, 1, ["a", "bc"])
    assert audit.link(audit.GENESIS, 1, [None]) != audit.link(audit.GENESIS, 1, [""])
    assert audit.link(audit.GENESIS, 1, ["a"]) != audit.link(audit.GENESIS, 2, ["a"])


def test_an_entry_is_cheap(tmp_path: Path) -> None:
    """Every change of state writes one: well below what the change itself costs. The bound allows for a busy machine."""
    engine = open_engine(f"sqlite:///{tmp_path}/cheap.db")
    audit.entries.create(engine)
    with writing(engine) as connection:
        tx, best = Tx(connection, "650102"), 1.0
        for _ in range(10):
            begun = perf_counter()
            for n in range(200):
                note(tx, f"c{n}", detail={"version": n})
            best = min(best, (perf_counter() - begun) / 200)
    assert best < 100e-6
