"""Tracking codes 查询码: let a reporter follow a report without an account; random, read out in groups, kept as a hash."""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: without I, L, O and U, which are misheard or misread."""
BITS, DIGITS, GROUP = 128, 26, 3
_VALUES = {c: n for n, c in enumerate(ALPHABET)} | {"O": 0, "I": 1, "L": 1}


class Code(NamedTuple):
    """A code as it is shown once, and the hash that is kept of it."""

    shown: str
    hash: str


def draw() -> Code:
    """A new code of 128 random bits and a check character: nine groups of three."""
    number = secrets.randbits(BITS)
    values = [(number >> (5 * place)) & 31 for place in reversed(range(DIGITS))]
    text = "".join(ALPHABET[v] for v in (*values, _check(values)))
    return Code("-".join(text[n : n + GROUP] for n in range(0, len(text), GROUP)), _hash(text))


def hashed(typed: str) -> str:
    """The hash of a code as somebody typed it: any case, with or without spaces and hyphens.

    What cannot be a code has a hash as well, which is nobody's, so that looking it up takes the same way and the same time.
    """
    text = "".join(typed.split()).replace("-", "").upper()
    values = [_VALUES.get(c, -1) for c in text]
    if len(values) != DIGITS + 1 or -1 in values or _check(values[:-1]) != values[-1]:
        return _hash(f"no code {typed}")
    return _hash("".join(ALPHABET[v] for v in values))


def _hash(text: str) -> str:
    # Neither salt nor a slow hash: nobody tries out 128 random bits.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _check(values: list[int]) -> int:
    """A check character over GF(32): a wrong character, and any two that changed places, give another one."""
    total = 0
    for value in values:
        total = _times(total ^ value)
    return total


def _times(value: int) -> int:
    """`value` times x modulo x^5 + x^2 + 1, whose powers are all different for 31 places."""
    doubled = value << 1
    return doubled ^ 0b100101 if doubled & 32 else doubled
