"""Hashes of the log: the leaf of a body and the chain over (epoch, sequence, subject, version, leaf)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

GENESIS = bytes(32)
"""The chain value before the first entry."""


class Entry(NamedTuple):
    """One sealed fact: `version` counts the entries of one subject from 1, `body` is the stored CloudEvent."""

    epoch: int
    seq: int
    version: int
    subject: str
    body: bytes


class Head(NamedTuple):
    """How far a log is known: the last sequence (0 = nothing) and the chain up to it."""

    epoch: int
    seq: int
    chain: bytes


EMPTY = Head(0, 0, GENESIS)


def leaf(body: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + body).digest()


def link(previous: bytes, entry: Entry) -> bytes:
    """The chain value after `entry`."""
    return hashlib.sha256(
        b"\x01"
        + previous
        + struct.pack(">IQ", entry.epoch, entry.seq)
        + entry.subject.encode()
        + struct.pack(">I", entry.version)
        + leaf(entry.body)
    ).digest()


def encode(log: str, entries: Sequence[Entry], closing: bytes) -> bytes:
    """A bus message: a line `log closing-chain`, then one line a fact. Bodies hold no raw line feed, being JSON."""
    lines = [f"{log} {closing.hex()}".encode()]
    lines += [f"{e.epoch} {e.seq} {e.version} {e.subject} ".encode() + e.body for e in entries]
    return b"\n".join(lines)


def decode(message: bytes) -> tuple[str, list[Entry], bytes]:
    """(log, entries, closing chain). Raises ValueError for anything that `encode` cannot have written of a sealed log."""
    first, *rest = message.split(b"\n")
    log, closing = first.decode("ascii").split(" ")
    entries = []
    for line in rest:
        epoch, seq, version, subject, body = line.split(b" ", 4)
        entries.append(Entry(_number(epoch, 31), _number(seq, 63), _number(version, 31), subject.decode("ascii"), body))
    if not entries or len(closing) != 64:
        raise ValueError("a batch needs entries and a closing chain of 32 bytes")
    return log, entries, bytes.fromhex(closing)


def _number(text: bytes, bits: int) -> int:
    """A count from 1 that fits the chain and every database. Raises ValueError for another, and for other ways to write it."""
    value = int(text) if len(text) < 20 and text.isdigit() and text[:1] != b"0" else 0
    if not 0 < value < 1 << bits:
        raise ValueError("a position in a log is a whole number from 1")
    return value
