"""The catalogue of problems (立案结案标准): which edition of it holds on which day, and what it says of a category.

A case keeps the edition under which it was filed: `Catalogues` finds the edition of a day and, for an old case, its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property

from services.case.entries import Category, Content, Department, faults
from shared.errors import Invalid, NotFound


@dataclass(frozen=True)
class Edition:
    """A content with code and validity: it holds from `valid_from` up to, but not on, `valid_to`; without them without end.

    `node` published it; the data pack's own has none. `additions` are the codes that the place added, `set_aside` those of its
    additions that have no room in this edition.
    """

    code: str
    content: Content
    valid_from: date | None = None
    valid_to: date | None = None
    node: str | None = None
    note: str = ""
    additions: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()

    @cached_property
    def categories(self) -> dict[str, Category]:
        found = {}
        for category in sorted(self.content.categories, key=lambda c: c.code):
            found[category.code] = copy = category.model_copy()
            copy._edition = self.code
        return found

    @cached_property
    def departments(self) -> dict[str, Department]:
        return {d.code: d for d in self.content.departments}

    @cached_property
    def own(self) -> Content:
        """What the edition says itself, without the additions."""
        mine = tuple(c for c in self.content.categories if c.code not in self.additions)
        return self.content.model_copy(update={"categories": mine})

    def at(self, day: date) -> bool:
        return (self.valid_from is None or self.valid_from <= day) and (self.valid_to is None or day < self.valid_to)

    def category(self, code: str) -> Category:
        """Raises Invalid for a code that this edition has not."""
        if (found := self.categories.get(code)) is None:
            raise Invalid(f"no category {code} in the catalogue {self.code}", field="/category")
        return found

    def search(self, text: str) -> list[Category]:
        """The categories whose code or name holds `text`, in either language."""
        wanted = text.strip().casefold()
        return [c for c in self.categories.values() if any(wanted in t.casefold() for t in (c.code, c.zh, c.en))]


@dataclass(frozen=True)
class Addition:
    """A category that a node added for itself, in force half-open like an edition."""

    category: Category
    valid_from: date
    valid_to: date | None = None

    def at(self, day: date) -> bool:
        return self.valid_from <= day and (self.valid_to is None or day < self.valid_to)


def joined(edition: Edition, additions: Iterable[Addition]) -> Edition:
    """The edition with the additions that have room in it; one that breaks a rule there is set aside, never half taken."""
    content, aside = edition.content, []
    for added in additions:
        wider = content.model_copy(update={"categories": (*content.categories, added.category)})
        if next(faults(wider), None) is None:
            content = wider
        else:
            aside.append(added.category.code)
    codes = tuple(c.code for c in content.categories[len(edition.content.categories) :])
    return replace(edition, content=content, additions=codes, set_aside=tuple(aside))


@dataclass(frozen=True)
class Legacy:
    """What the codes of an older catalogue are in this one; only those whose meaning is certainly the same."""

    edition: str = ""
    codes: dict[str, str] = field(default_factory=dict)

    def mapped(self, codes: Iterable[str]) -> tuple[dict[str, str], list[str]]:
        """(code → current code, codes that have none)."""
        wanted = sorted(set(codes))
        return {c: self.codes[c] for c in wanted if c in self.codes}, [c for c in wanted if c not in self.codes]


MANY_DAYS = 1000


@dataclass(frozen=True)
class Catalogues:
    """All editions that a node knows. `published` may hold several of one day: the one of the nearest node counts.

    `path` are the nodes from the root to this one. The pack's own, `base`, holds where no published one does.
    """

    base: Edition
    published: tuple[Edition, ...] = ()
    additions: tuple[Addition, ...] = ()
    legacy: Legacy = Legacy()
    path: tuple[str, ...] = ()
    _days: dict[tuple[str, date], Edition] = field(default_factory=dict, compare=False, repr=False)

    def at(self, day: date) -> Edition:
        """The edition in force on that day, with what the place adds to it."""
        held = [e for e in self.published if e.at(day) and e.node in self.path]
        return self._with_additions(max(held, key=lambda e: self.path.index(e.node or ""), default=self.base), day)

    def of(self, code: str, day: date) -> Edition:
        """The edition under which a case was filed on `day`, with the additions of that day. Raises NotFound."""
        for edition in (*self.published, self.base):
            if edition.code == code:
                return self._with_additions(edition, day)
        raise NotFound(f"no edition {code} of the catalogue is known here", field="/edition")

    def _with_additions(self, edition: Edition, day: date) -> Edition:
        key = (edition.code, day)
        if (found := self._days.get(key)) is None:
            if len(self._days) >= MANY_DAYS:
                self._days.clear()
            now = [a for a in self.additions if a.at(day)]
            found = self._days[key] = joined(edition, now) if now else edition
        return found
