"""What routing rules 派遣规则 can ask of a case: typed comparisons that become functions and say what they found; pure.

Every comparison is true, false, unknown (None: the case does not have what is asked about) or broken (it cannot be made, because
the calendar or the catalogue changed since). How they go together stands in `rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from contracts.base import IDENT
from services.case.entries import Category
from services.case.questions import Question
from services.case.worktime import Unannounced, WorkCalendar

Said = tuple[str, str]
"""The same in Chinese and in English."""


class Broken(NamedTuple):
    """Why something cannot be judged."""

    zh: str
    en: str


Outcome: TypeAlias = bool | Broken | None
"""True, false, unknown (None) or broken."""


class Held(Protocol):
    """What the register of parts says of one."""

    @property
    def owner(self) -> str | None: ...
    @property
    def maintainer(self) -> str | None: ...


@dataclass
class Subject:
    """A case as rules see it at a moment `at` in the node's zone; what costs something is looked up when it is asked for.

    `category` is the case's entry of the catalogue. `repeated(days, place, metres)` counts earlier cases of the same family at
    the same cell or part, None where the case has none, or within the metres.
    """

    row: Mapping[str, Any]
    at: datetime
    category: Category | None
    chain: Callable[[str], tuple[str, ...]]
    find: Callable[[str], Held | None]
    calendar: Callable[[], WorkCalendar]
    repeated: Callable[[int, str, int], int | None]
    _codes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def codes(self, kind: str) -> tuple[str, ...]:
        """The case's own code first, then those that it belongs to; none where it is not known."""
        found = self._codes.get(kind)
        if found is None:
            found = self._codes[kind] = CODES[kind](self)
        return found

    @cached_property
    def part(self) -> Held | None:
        return self.find(self.row["part"]) if self.row["part"] else None

    @cached_property
    def questions(self) -> dict[str, Question]:
        return {q.key: q for q in self.category.questions} if self.category else {}

    def answer(self, key: str) -> Any:
        return (self.row["answers"] or {}).get(key)


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Kind = Literal["category", "area", "cell", "channel", "weekday", "owner", "maintainer"]


def _of_part(name: str) -> Callable[[Subject], tuple[str, ...]]:
    def codes(of: Subject) -> tuple[str, ...]:
        code = getattr(of.part, name, None)
        return (code,) if code else ()

    return codes


CODES: dict[str, Callable[[Subject], tuple[str, ...]]] = {
    "category": lambda of: (of.row["category"], of.row["category"][:3]),
    "area": lambda of: of.chain(of.row["division"]),
    "cell": lambda of: (of.row["cell"],) if of.row["cell"] else (),
    "channel": lambda of: (of.row["channel"],),
    "weekday": lambda of: (DAYS[of.at.weekday()],),
    "owner": _of_part("owner"),
    "maintainer": _of_part("maintainer"),
}
NAMES: dict[str, Said] = {
    "category": ("类别", "category"), "area": ("区划", "division"), "cell": ("单元网格", "cell"), "channel": ("渠道", "channel"),
    "weekday": ("星期", "weekday"), "owner": ("部件权属单位", "the part's owner"),
    "maintainer": ("部件养护单位", "the part's maintainer"), "part": ("部件", "the part"),
}  # fmt: skip
Judge = Callable[[Subject], Outcome]
Code = Annotated[str, Field(max_length=80, pattern=f"^{IDENT}$")]
Minute = Annotated[str, Field(max_length=5, pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]


class Comparison(BaseModel):
    """One question to a case."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def judge(self) -> Judge:
        raise NotImplementedError

    def said(self, of: Subject, outcome: Outcome) -> Said:
        raise NotImplementedError


class Among(Comparison):
    """A code of the case is one of these, or belongs to one: a category to its family, a division to those around it."""

    kind: Kind
    among: Annotated[tuple[Code, ...], Field(strict=False, min_length=1, max_length=300)]

    def judge(self) -> Judge:
        kind, wanted = self.kind, frozenset(self.among)

        def check(of: Subject) -> Outcome:
            found = of.codes(kind)
            return not wanted.isdisjoint(found) if found else None

        return check

    def said(self, of: Subject, outcome: Outcome) -> Said:
        (zh, en), found = NAMES[self.kind], of.codes(self.kind)
        if not found:
            return f"{zh}未知", f"{en} is not known"
        if outcome is True:
            hit = next(code for code in found if code in self.among)
            return (f"{zh}为 {hit}", f"{en} is {hit}") if hit == found[0] else (
                f"{zh} {found[0]} 属于 {hit}", f"{en} {found[0]} is in {hit}")  # fmt: skip
        rest = len(self.among) - 5
        zh_more, en_more = (f" 等 {len(self.among)} 项", f" and {rest} more") if rest > 0 else ("", "")
        listed = self.among[:5]
        return f"{zh} {found[0]} 不属于 {'、'.join(listed)}{zh_more}", f"{en} {found[0]} is not in {', '.join(listed)}{en_more}"


class Within(Comparison):
    """The place lies inside a polygon of (longitude, latitude) in degrees; it closes itself."""

    kind: Literal["within"]
    polygon: Annotated[
        tuple[Annotated[tuple[Annotated[float, Field(ge=-180, le=180)], Annotated[float, Field(ge=-90, le=90)]],
                        Field(strict=False)], ...],
        Field(strict=False, min_length=3, max_length=200),
    ]  # fmt: skip

    def judge(self) -> Judge:
        edges = list(zip(self.polygon, (*self.polygon[1:], self.polygon[0]), strict=True))

        def check(of: Subject) -> Outcome:
            # A ray to the east: the count of edges that it crosses is odd inside.
            x, y, inside = of.row["lon"], of.row["lat"], False
            for (ax, ay), (bx, by) in edges:
                if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
                    inside = not inside
            return inside

        return check

    def said(self, of: Subject, outcome: Outcome) -> Said:
        return ("位于规则划定的范围内", "the place lies in the rule's outline") if outcome else (
            "位于规则划定的范围外", "the place lies outside the rule's outline")  # fmt: skip


class TimeOfDay(Comparison):
    """The clock on the wall shows `begin` or later and less than `end`; from evening to morning it runs over midnight."""

    kind: Literal["time"]
    begin: Minute = Field(examples=["22:00"])
    end: Minute = Field(examples=["06:00"])

    def judge(self) -> Judge:
        begin, end = (int(t[:2]) * 60 + int(t[3:]) for t in (self.begin, self.end))

        def check(of: Subject) -> Outcome:
            now = of.at.hour * 60 + of.at.minute
            return begin <= now < end if begin < end else now >= begin or now < end

        return check

    def said(self, of: Subject, outcome: Outcome) -> Said:
        zh, en = ("在", "is") if outcome else ("不在", "is not")
        return f"{of.at:%H:%M} {zh} {self.begin}–{self.end} 之间", f"{of.at:%H:%M} {en} between {self.begin} and {self.end}"


class Working(Comparison):
    """The moment lies in working time, or on a work day, of the node's calendar."""

    kind: Literal["working"]
    what: Literal["time", "day"] = "time"

    def judge(self) -> Judge:
        def check(of: Subject) -> Outcome:
            calendar, day, now = of.calendar(), of.at.date(), of.at.hour * 60 + of.at.minute
            try:
                works = calendar.works(day)
            except Unannounced as error:
                return Broken(f"{error.year}年的工作日历未载入", f"the work days of {error.year} are not announced")
            return works and (self.what == "day" or any(a <= now < b for a, b in calendar.periods(day)))

        return check

    def said(self, of: Subject, outcome: Outcome) -> Said:
        zh, en = ("工作时间", "working time") if self.what == "time" else ("工作日", "a work day")
        when = f"{of.at:%Y-%m-%d %H:%M}"
        return f"{when} {'' if outcome else '不'}是{zh}", f"{when} is {'' if outcome else 'not '}{en}"


class Repeated(Comparison):
    """At least so many earlier cases of the same family within the days before, at the same cell or part, or near by."""

    kind: Literal["repeated"]
    at_least: int = Field(ge=1, le=1000)
    days: int = Field(ge=1, le=366)
    place: Literal["cell", "part", "near"] = "cell"
    metres: int = Field(50, ge=5, le=300, description="what is near")

    def judge(self) -> Judge:
        def check(of: Subject) -> Outcome:
            count = of.repeated(self.days, self.place, self.metres)
            return None if count is None else count >= self.at_least

        return check

    def said(self, of: Subject, outcome: Outcome) -> Said:
        count = of.repeated(self.days, self.place, self.metres)
        if count is None:
            zh, en = NAMES[self.place]
            return f"{zh}未知", f"{en} is not known"
        near = self.place == "near"
        zh, en = (f"{self.metres} 米内", f"within {self.metres} m") if near else (
            f"同一{NAMES[self.place][0]}", f"at the same {self.place}")  # fmt: skip
        many = "1 earlier case" if count == 1 else f"{count} earlier cases"
        return f"{zh} {self.days} 天内同类案件 {count} 件（需 {self.at_least} 件）", (
            f"{many} of the family {en} in {self.days} days ({self.at_least} needed)")  # fmt: skip


class IsKnown(Comparison):
    """The case has a part of the register, a cell, or a part whose owner or maintainer is known; always true or false."""

    kind: Literal["known"]
    what: Literal["part", "owner", "maintainer", "cell"]

    def judge(self) -> Judge:
        if self.what == "part":
            return lambda of: of.part is not None
        return lambda of: bool(of.codes(self.what))

    def said(self, of: Subject, outcome: Outcome) -> Said:
        zh, en = NAMES[self.what]
        return (f"{zh}已知", f"{en} is known") if outcome else (f"{zh}未知", f"{en} is not known")
