"""The decision what to do with a batch of sealed facts, without any input or output, so that a simulator can run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.chain import Entry, Head, link


@dataclass(frozen=True)
class Apply:
    """These entries are new, in order and prove themselves; `chains` has the value after each, `head` stands after all."""

    entries: tuple[Entry, ...]
    chains: tuple[bytes, ...]
    head: Head


@dataclass(frozen=True)
class Duplicate:
    """Everything in the batch is known already."""


@dataclass(frozen=True)
class Gap:
    """Entries from `first` to `last` (inclusive) are missing before the batch."""

    first: int
    last: int


@dataclass(frozen=True)
class Wrong:
    """The batch contradicts itself or what is known; it must never be applied."""

    reason: str


Judgement = Apply | Duplicate | Gap | Wrong


def judge(head: Head, entries: Sequence[Entry], closing: bytes) -> Judgement:
    """Compare a batch with the head of its log. Pure; the caller applies and moves the head in one transaction."""
    if any(b.seq != a.seq + 1 for a, b in zip(entries, entries[1:], strict=False)):
        return Wrong("sequences are not consecutive")
    if entries[-1].seq < head.seq:
        return Duplicate()
    if entries[-1].seq == head.seq:
        return Duplicate() if closing == head.chain else Wrong(f"another history at sequence {head.seq}")
    if entries[0].seq > head.seq + 1:
        return Gap(head.seq + 1, entries[0].seq - 1)
    fresh = tuple(e for e in entries if e.seq > head.seq)
    epochs = [head.epoch, *(e.epoch for e in fresh)]
    if any(b < a for a, b in zip(epochs, epochs[1:], strict=False)):
        return Wrong("an epoch runs backwards")
    chains = [head.chain]
    for entry in fresh:
        chains.append(link(chains[-1], entry))
    if chains[-1] != closing:
        return Wrong(f"the chain breaks between {head.seq + 1} and {entries[-1].seq}")
    return Apply(fresh, tuple(chains[1:]), Head(fresh[-1].epoch, fresh[-1].seq, chains[-1]))
