"""The vault: what is sealed opens only where it belongs, and never again once its month's key is destroyed."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from shared.errors import Conflict
from shared.vault import KEY, Sealed, Unreadable, Vault, bucket_of

MARCH, MAY = date(2027, 3, 14), date(2027, 5, 1)
SECRET = "王 13812345678".encode()


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = Vault(tmp_path / "secrets" / "keys.db", "650102")
    yield made
    made.close()


def keys(vault: Vault) -> list[bytes]:
    with sqlite3.connect(vault.path) as file:
        return [key for (key,) in file.execute("SELECT key FROM keys WHERE key IS NOT NULL")]


def raw(vault: Vault) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(vault.path.parent.iterdir()))


def test_what_is_sealed_opens_again(vault: Vault) -> None:
    sealed = vault.seal("c1", SECRET, MARCH)
    assert vault.open("c1", sealed) == SECRET and sealed.bucket == "2027-03" == bucket_of(MARCH)
    assert Vault(vault.path, "650102").open("c1", sealed) == SECRET
    assert SECRET not in raw(vault) and SECRET not in b"".join(sealed[1:])
    assert stat.S_IMODE(vault.path.stat().st_mode) == 0o600


def test_equal_contents_share_nothing(vault: Vault) -> None:
    one, two = vault.seal("c1", SECRET, MARCH), vault.seal("c1", SECRET, MARCH)
    assert not {*one[1:]} & {*two[1:]} and keys(vault)[0] not in one.wrapped


@pytest.mark.parametrize("part", ["wrapped", "nonce", "ciphertext"])
def test_an_altered_byte_opens_nothing(vault: Vault, part: str) -> None:
    sealed = vault.seal("c1", SECRET, MARCH)
    whole: bytes = getattr(sealed, part)
    for place in range(len(whole)):
        altered = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        with pytest.raises(Unreadable):
            vault.open("c1", sealed._replace(**{part: altered}))
    with pytest.raises(Unreadable):
        vault.open("c1", sealed._replace(**{part: b""}))


def test_nothing_opens_elsewhere(vault: Vault, tmp_path: Path) -> None:
    """Another record, another node with the same keys, another month, a node without the keys."""
    sealed, other = vault.seal("c1", SECRET, MARCH), vault.seal("c2", SECRET, MAY)
    shutil.copy(vault.path, tmp_path / "stolen.db")
    with sqlite3.connect(tmp_path / "stolen.db") as file:
        file.execute("UPDATE keys SET node = '650103'")
    attempts: list[tuple[Vault, str, Sealed]] = [
        (vault, "c2", sealed),
        (vault, "c1", sealed._replace(bucket="2027-05")),
        (vault, "c1", other),
        (vault, "c1", sealed._replace(wrapped=other.wrapped)),
        (Vault(tmp_path / "stolen.db", "650103"), "c1", sealed),
        (Vault(tmp_path / "empty.db", "650102"), "c1", sealed),
    ]
    for there, record, what in attempts:
        with pytest.raises(Unreadable):
            there.open(record, what)


def test_a_destroyed_month_is_gone_for_ever(vault: Vault) -> None:
    sealed, other = vault.seal("c1", SECRET, MARCH), vault.seal("c2", SECRET, MAY)
    (march, may) = keys(vault)
    assert march in raw(vault)
    vault.destroy("2027-03")
    vault.destroy("2027-03")
    assert march not in raw(vault) and may in raw(vault), "the bytes of the key are in no file of the vault"
    assert vault.buckets() == ["2027-05"] and vault.open("c2", other) == SECRET
    with pytest.raises(Unreadable, match="destroyed"):
        vault.open("c1", sealed)
    with pytest.raises(Unreadable):
        vault.prolong("c1", sealed, MAY)
    with pytest.raises(Conflict):
        vault.seal("c3", SECRET, MARCH)
    vault.destroy("2026-01")
    with pytest.raises(Conflict):
        vault.seal("c3", SECRET, date(2026, 1, 9))


def test_many_destroyed_months_leave_no_byte(vault: Vault) -> None:
    """So many that the file has many pages, which are split and joined on the way."""
    months = [date(1700 + n // 12, n % 12 + 1, 1) for n in range(600)]
    for month in months:
        vault.seal("c1", SECRET, month)
    made = keys(vault)
    assert len(set(made)) == 600 and {len(k) for k in made} == {KEY}
    for month in months[:40]:
        vault.destroy(bucket_of(month))
    left = raw(vault)
    assert [n for n, key in enumerate(made[:40]) if key in left] == []
    assert all(key in left for key in made[40:])


def test_a_prolonged_record_survives_its_old_month(vault: Vault) -> None:
    sealed = vault.seal("c1", SECRET, MARCH)
    longer = vault.prolong("c1", sealed, MAY)
    assert longer.ciphertext == sealed.ciphertext and longer.bucket == "2027-05"
    vault.destroy("2027-03")
    assert vault.open("c1", longer) == SECRET
    with pytest.raises(Unreadable):
        vault.open("c1", sealed)


def test_buried_records_are_remembered(vault: Vault) -> None:
    vault.bury([("c1", "2027-03"), ("c2", "2027-05")])
    vault.bury([("c2", "2027-05")])
    assert Vault(vault.path, "650102").buried() == ["c1", "c2"] and Vault(vault.path, "650103").buried() == []
    vault.destroy("2027-03")
    assert vault.buried() == ["c2"], "no copy can bring back what nobody can open"


def _seal_many(path: Path, first: int, out: multiprocessing.Queue[tuple[str, Sealed]]) -> None:
    vault = Vault(path, "650102")
    for n in range(first, first + 20):
        month = date(2027, n % 12 + 1, 1)
        out.put((f"c{n}", vault.seal(f"c{n}", SECRET, month)))


def test_threads_and_processes_agree_on_the_keys(vault: Vault) -> None:
    """All at once at a file that is not there yet: each month gets one key, and everybody opens everybody's records."""
    spawn = multiprocessing.get_context("spawn")
    out: multiprocessing.Queue[tuple[str, Sealed]] = spawn.Queue()
    workers = [spawn.Process(target=_seal_many, args=(vault.path, 100 * n, out)) for n in range(3)]
    for worker in workers:
        worker.start()
    found: list[tuple[str, Sealed]] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append((f"t{n}", vault.seal(f"t{n}", SECRET, MARCH)))) for n in range(20)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found += [out.get(timeout=60) for _ in range(60)]
    for worker in workers:
        worker.join(30)
    assert len(found) == 80 and all(vault.open(record, sealed) == SECRET for record, sealed in found)
    assert vault.buckets() == [f"2027-{m:02d}" for m in range(1, 13)]
