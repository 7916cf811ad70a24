"""Seals what is known of persons, so that destroying one small key makes it unreadable wherever copies of it lie.

Each record has a random key of its own (DEK), wrapped by a key of the node for the month in which the record expires (KEK). The
keys of the months stand in a file of their own, which is in no backup of the database: a month that is over loses its key, and
then its records are lost in every older copy of the database as well. The envelope names its algorithm in its first byte, so that
another one can be added beside it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from shared.clock import stamp
from shared.errors import Conflict

AES_256_GCM_SIV = b"\x01"
"""A nonce that comes twice, as in a restored copy of a machine, tells with this cipher no more than that two texts are equal."""
KEY, NONCE = 32, 12

PRAGMAS = (
    # A journal that is emptied and not kept: nothing of a destroyed key may wait in a second file for the next checkpoint.
    "journal_mode=TRUNCATE",
    "synchronous=FULL",
    "secure_delete=ON",
    # VACUUM writes all keys into a temporary copy, which must not be a file.
    "temp_store=MEMORY",
    "busy_timeout=10000",
)
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS keys (node TEXT NOT NULL, bucket TEXT NOT NULL, key BLOB, made_at TEXT NOT NULL, "
    "destroyed_at TEXT, PRIMARY KEY (node, bucket))",
    "CREATE TABLE IF NOT EXISTS erased (node TEXT NOT NULL, record TEXT NOT NULL, bucket TEXT NOT NULL, "
    "PRIMARY KEY (node, record)) WITHOUT ROWID",
)
_FIND = "SELECT key FROM keys WHERE node = ? AND bucket = ?"
_MAKE = "INSERT OR IGNORE INTO keys (node, bucket, key, made_at) VALUES (?, ?, ?, ?)"
_ZERO = "UPDATE keys SET key = zeroblob(?) WHERE node = ? AND bucket = ?"
_DESTROY = (
    "INSERT INTO keys VALUES (?, ?, NULL, ?, ?) "
    "ON CONFLICT DO UPDATE SET key = NULL, destroyed_at = coalesce(destroyed_at, excluded.destroyed_at)"
)
_LIST = "SELECT bucket FROM keys WHERE node = ? AND key IS NOT NULL ORDER BY bucket"


class Sealed(NamedTuple):
    """A sealed record: the month of its key, its own key wrapped by that, and its content."""

    bucket: str
    wrapped: bytes
    nonce: bytes
    ciphertext: bytes


class Unreadable(Exception):
    """Nobody can open this any more: its key was destroyed or lost, or it was sealed for another record or altered."""


def bucket_of(expires: date) -> str:
    """The month in which something expires, such as 2027-03."""
    return f"{expires:%Y-%m}"


class Vault:
    """The keys of one node in the file `path`; used by all its threads, and by several processes at once."""

    def __init__(self, path: Path, node: str) -> None:
        self.path, self.node = path, node
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None

    def seal(self, record: str, plaintext: bytes, expires: date) -> Sealed:
        """Seal a record that expires in the month of `expires`. Raises Conflict where that month's key is destroyed already."""
        bucket, dek, nonce = bucket_of(expires), AESGCMSIV.generate_key(256), os.urandom(NONCE)
        wrapped = self._wrap(record, bucket, dek)
        return Sealed(bucket, wrapped, nonce, AESGCMSIV(dek).encrypt(nonce, plaintext, self._about(record)))

    def open(self, record: str, sealed: Sealed) -> bytes:
        """The content of a record. Raises Unreadable."""
        dek = self._unwrap(record, sealed)
        try:
            return AESGCMSIV(dek).decrypt(sealed.nonce, sealed.ciphertext, self._about(record))
        except (InvalidTag, ValueError) as error:
            raise Unreadable("the content is not what was sealed for this record") from error

    def prolong(self, record: str, sealed: Sealed, expires: date) -> Sealed:
        """The same record under the key of another month; its content stays as it is. Raises Unreadable, Conflict."""
        bucket = bucket_of(expires)
        return sealed._replace(bucket=bucket, wrapped=self._wrap(record, bucket, self._unwrap(record, sealed)))

    def destroy(self, bucket: str) -> None:
        """Destroy the key of a month for ever: what is still sealed under it is lost, and nothing is sealed under it again."""
        with self._lock:
            file = self._file()
            with file:
                # In its place first, so that the very bytes are gone whatever happens to the page later.
                file.execute(_ZERO, (KEY, self.node, bucket))
                file.execute(_DESTROY, (self.node, bucket, _now(), _now()))
                file.execute("DELETE FROM erased WHERE node = ? AND bucket = ?", (self.node, bucket))
            file.execute("VACUUM")

    def buckets(self) -> list[str]:
        """The months whose key is there, in order."""
        with self._lock:
            return [bucket for (bucket,) in self._file().execute(_LIST, (self.node,))]

    def bury(self, records: Iterable[tuple[str, str]]) -> None:
        """Remember, outside of the database, (record, month) of what was erased, lest a restored copy bring it back.

        It is forgotten with the key of its month, after which no copy has anything to bring back.
        """
        with self._lock, self._file() as file:
            file.executemany("INSERT OR IGNORE INTO erased VALUES (?, ?, ?)", [(self.node, *record) for record in records])

    def buried(self) -> list[str]:
        """Every record that was erased and whose month still has its key."""
        with self._lock:
            rows = self._file().execute("SELECT record FROM erased WHERE node = ? ORDER BY record", (self.node,))
            return [record for (record,) in rows]

    def close(self) -> None:
        with self._lock:
            if self._open:
                self._open.close()
            self._open = None

    def _wrap(self, record: str, bucket: str, dek: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        sealed = AESGCMSIV(self._key_to_seal(bucket)).encrypt(nonce, dek, self._about(record, bucket))
        return AES_256_GCM_SIV + nonce + sealed

    def _unwrap(self, record: str, sealed: Sealed) -> bytes:
        if sealed.wrapped[:1] != AES_256_GCM_SIV:
            raise Unreadable("sealed with an algorithm that is not known here")
        nonce, wrapped = sealed.wrapped[1 : 1 + NONCE], sealed.wrapped[1 + NONCE :]
        with self._lock:
            row = self._file().execute(_FIND, (self.node, sealed.bucket)).fetchone()
        if row is None or row[0] is None:
            raise Unreadable(f"the key of {sealed.bucket} {'is not here' if row is None else 'was destroyed'}")
        try:
            return AESGCMSIV(row[0]).decrypt(nonce, wrapped, self._about(record, sealed.bucket))
        except (InvalidTag, ValueError) as error:
            raise Unreadable("the key is not the one that was made for this record") from error

    def _key_to_seal(self, bucket: str) -> bytes:
        """The key of a month, made at the first need; read each time, because another process may have destroyed it."""
        with self._lock:
            row = self._file().execute(_FIND, (self.node, bucket)).fetchone()
            if row is None:
                with self._file() as file:
                    file.execute(_MAKE, (self.node, bucket, AESGCMSIV.generate_key(256), _now()))
                # Not the one just made: where two processes were at it, the first one's holds.
                row = self._file().execute(_FIND, (self.node, bucket)).fetchone()
        if row[0] is None:
            raise Conflict(f"the key of {bucket} was destroyed: nothing can be kept under it any more")
        return bytes(row[0])

    def _about(self, *parts: str) -> bytes:
        """What a sealed text belongs to, so that it opens nowhere else: the node, the record and, for a key, its month."""
        return b"".join(len(raw).to_bytes(2) + raw for raw in (p.encode() for p in (self.node, *parts)))

    def _file(self) -> sqlite3.Connection:
        """The open file; made at the first use, for its owner only."""
        if self._open is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            opened = sqlite3.connect(self.path, check_same_thread=False)
            for pragma in PRAGMAS:
                opened.execute(f"PRAGMA {pragma}")
            with opened:
                for table in SCHEMA:
                    opened.execute(table)
            self._open = opened
        return self._open


def _now() -> str:
    return stamp(datetime.now(UTC))
