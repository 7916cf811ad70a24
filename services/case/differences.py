"""What differs between two catalogues, entry by entry and field by field: what an administrator reads before publishing one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import BaseModel, Field

from services.case.entries import Category, Content, Entry

What = Literal["major", "department", "category"]


class Named(BaseModel):
    """An entry that only one of the two has."""

    what: What
    code: str
    zh: str
    en: str


class Change(BaseModel):
    """A field that both have, and differently. A condition or question that only one has is a change from or to nothing."""

    what: What
    code: str
    field: str = Field(examples=["conditions/1/limit"])
    before: Any = None
    after: Any = None


class Difference(BaseModel):
    """Everything that has to be done to the first to get the second."""

    added: list[Named]
    removed: list[Named]
    changed: list[Change]

    @property
    def empty(self) -> bool:
        return not (self.added or self.removed or self.changed)


def difference(old: Content, new: Content) -> Difference:
    found = Difference(added=[], removed=[], changed=[])
    _compare(found, "major", {m.family: m for m in old.majors}, {m.family: m for m in new.majors})
    _compare(found, "department", {d.code: d for d in old.departments}, {d.code: d for d in new.departments})
    _compare(found, "category", {c.code: c for c in old.categories}, {c.code: c for c in new.categories})
    return found


def _compare(found: Difference, what: What, old: dict[str, Any], new: dict[str, Any]) -> None:
    found.added += [Named(what=what, code=c, zh=new[c].zh, en=new[c].en) for c in sorted(new.keys() - old.keys())]
    found.removed += [Named(what=what, code=c, zh=old[c].zh, en=old[c].en) for c in sorted(old.keys() - new.keys())]
    for code in sorted(old.keys() & new.keys()):
        found.changed += [Change(what=what, code=code, field=f, before=b, after=a) for f, b, a in _fields(old[code], new[code])]


def _fields(old: Entry, new: Entry) -> Iterator[tuple[str, Any, Any]]:
    """(field, before, after) of every field of the two that differs."""
    if old == new:
        return
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    for name in before:
        if name in ("conditions", "questions") and isinstance(old, Category) and isinstance(new, Category):
            yield from _parts(name, getattr(old, name), getattr(new, name))
        elif before[name] != after[name]:
            yield name, before[name], after[name]


def _parts(name: str, old: Iterable[Any], new: Iterable[Any]) -> Iterator[tuple[str, Any, Any]]:
    """The same for the conditions or questions of a category, and for their order: the first condition is the default."""
    key = "code" if name == "conditions" else "key"
    before, after = {getattr(o, key): o for o in old}, {getattr(n, key): n for n in new}
    if before.keys() == after.keys() and list(before) != list(after):
        yield name, list(before), list(after)
    for code in [*before, *(c for c in after if c not in before)]:
        one, other = before.get(code), after.get(code)
        if one is not None and other is not None:
            yield from ((f"{name}/{code}/{field}", b, a) for field, b, a in _fields(one, other))
        else:
            yield f"{name}/{code}", one and one.model_dump(mode="json"), other and other.model_dump(mode="json")
