"""The entries of a catalogue (立案结案标准): classes, filing conditions, departments; and the rules that make them right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from contracts.base import IDENT, SHORT
from services.case.limits import Limit
from services.case.questions import Question, filled
from services.case.questions import faults as of_questions
from services.case.texts import plain
from shared.errors import Invalid

LETTERS = {"part": "P", "event": "E"}
KINDS = {letter: kind for kind, letter in LETTERS.items()}
MOST_CONDITIONS, MOST_QUESTIONS = 50, 30
CODE = "[EP][0-9]{2}[0-9]{2,3}"

Kind = Literal["part", "event"]
Name = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(filled)]
Words = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(filled)]
Maybe = Annotated[str, Field(max_length=500), AfterValidator(plain)]
"""A text that a list may come without, such as the English one."""
Office = Annotated[str, Field(pattern=f"^{IDENT}$")]


class Entry(BaseModel):
    """What all entries have in common: closed, never changed, strictly typed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Major(Entry):
    """A major class 大类. Inside one of the standard a place numbers its own sub-classes down from 99; in its own it is free."""

    kind: Kind
    code: Annotated[str, Field(pattern="^[0-9]{2}$")]
    zh: Name
    en: Maybe = ""
    standard: bool = True

    @property
    def family(self) -> str:
        """What the codes of its categories begin with."""
        return LETTERS[self.kind] + self.code


class Department(Entry):
    """A responsible body 责任部门: an authority, a managing unit, a company, or whoever owns the part."""

    code: Office = Field(examples=["sanitation"])
    zh: Name
    en: Maybe = ""
    kind: Literal["authority", "unit", "company", "owner"] = "unit"


class Condition(Entry):
    """A filing condition 立案条件 with its limit 处置时限, closing condition 结案条件, responsible department and legal basis."""

    code: Annotated[str, Field(pattern=f"^{SHORT}$")] = Field(description="inside its category", examples=["1"])
    zh: Words
    en: Maybe = ""
    limit: str = Field(max_length=8, description="amount and unit: UH, UD urgent; WH, WD work; ND natural", examples=["2WD"])
    closing_zh: Words
    closing_en: Maybe = ""
    department: Office
    helping: Annotated[tuple[Office, ...], Field(strict=False, max_length=20)] = ()
    basis: Maybe = Field("", description="legal basis 法律依据")
    grade: Annotated[str, Field(pattern="^[a-z_]{1,20}$")] = "ordinary"


class Category(Entry):
    """A sub-class 小类: letter of the kind, major class (2 digits), its own number (2 or 3 digits)."""

    code: Annotated[str, Field(pattern=f"^{CODE}$")] = Field(examples=["E0113"])
    zh: Name
    en: Maybe = ""
    extension: bool = Field(False, description="numbered by a place, not by the standard")
    source: Maybe = Field("", description="whose list it comes from")
    conditions: Annotated[tuple[Condition, ...], Field(strict=False, max_length=MOST_CONDITIONS)]
    questions: Annotated[tuple[Question, ...], Field(strict=False, max_length=MOST_QUESTIONS)] = ()
    _edition: str = PrivateAttr("")

    @property
    def kind(self) -> str:
        return KINDS[self.code[0]]

    @property
    def major(self) -> str:
        return self.code[1:3]

    @property
    def sub(self) -> str:
        return self.code[3:]

    @property
    def family(self) -> str:
        """Kind and major class: what is looked through for duplicates."""
        return self.code[:3]

    @property
    def edition(self) -> str:
        """The edition that it was found in."""
        return self._edition

    @property
    def default(self) -> Condition:
        """The condition that counts where nobody named one: the first."""
        return self.conditions[0]

    def condition(self, code: str | None) -> Condition:
        """Raises Invalid for a code that this category has not."""
        if code is None:
            return self.default
        for condition in self.conditions:
            if condition.code == code:
                return condition
        known = ", ".join(c.code for c in self.conditions)
        raise Invalid(f"{self.code} has no filing condition {code}; it has: {known}", field="/condition")


class Content(Entry):
    """What an edition says; `checked` makes one from anything."""

    majors: Annotated[tuple[Major, ...], Field(strict=False, max_length=100)]
    departments: Annotated[tuple[Department, ...], Field(strict=False, max_length=1000)]
    categories: Annotated[tuple[Category, ...], Field(strict=False, max_length=3000)]


class Fault(NamedTuple):
    """Something in a content that breaks a rule: JSON pointer, codes of the entry (category, condition or question), field."""

    pointer: str
    at: tuple[str, ...]
    field: str
    reason: str


def checked(body: Any) -> Content:
    """The content that `body` (JSON or the like) describes. Raises Invalid with the first fault and a list of all."""
    try:
        content = body if isinstance(body, Content) else Content.model_validate(body)
    except ValidationError as error:
        found = [{"field": "/" + "/".join(map(str, e["loc"])), "reason": e["msg"]} for e in error.errors()[:200]]
        raise Invalid(found[0]["reason"], field=found[0]["field"], errors=found) from None
    if wrong := list(faults(content)):
        listed = [{"field": f.pointer, "reason": f.reason} for f in wrong[:200]]
        raise Invalid(wrong[0].reason, field=wrong[0].pointer, errors=listed)
    return content


def faults(content: Content) -> Iterator[Fault]:
    """Every rule that the content breaks."""
    majors: dict[tuple[str, str], Major] = {(m.kind, m.code): m for m in content.majors}
    offices = {d.code for d in content.departments}
    yield from _twice("majors", [(m.kind, m.code) for m in content.majors])
    yield from _twice("departments", [(d.code,) for d in content.departments])
    yield from _twice("categories", [(c.code,) for c in content.categories])
    tops = _tops(content.categories)
    for at, category in enumerate(content.categories):
        where = f"/categories/{at}"
        major = majors.get((category.kind, category.major))
        if major is None:
            yield Fault(f"{where}/code", (category.code,), "code", f"no {category.kind} major class {category.major}")
        elif category.extension and major.standard and int(category.sub) <= tops.get(category.family, 0):
            yield Fault(f"{where}/code", (category.code,), "code", _too_low(category, content.categories))
        yield from _of_category(category, where, offices)


def _twice(name: str, keys: list[tuple[str, ...]]) -> Iterator[Fault]:
    seen: set[tuple[str, ...]] = set()
    for at, key in enumerate(keys):
        if key in seen:
            yield Fault(f"/{name}/{at}/code", key, "code", f"{' '.join(key)} is there twice")
        seen.add(key)


def _tops(categories: Iterable[Category]) -> dict[str, int]:
    """The highest number that the standard itself gave in each family."""
    found: dict[str, int] = {}
    for category in categories:
        if not category.extension:
            found[category.family] = max(found.get(category.family, 0), int(category.sub))
    return found


def _too_low(category: Category, categories: Iterable[Category]) -> str:
    free = next_extension(categories, category.family, len(category.sub))
    instead = f"the next free number is {free}" if free else "no number is free there"
    return f"{category.code} is an extension among or below the standard's own numbers; {instead}"


def _of_category(category: Category, where: str, offices: set[str]) -> Iterator[Fault]:
    code = category.code
    if not category.conditions:
        yield Fault(f"{where}/conditions", (code,), "conditions", f"{code} needs at least one filing condition")
    seen: set[str] = set()
    for at, condition in enumerate(category.conditions):
        here, place = f"{where}/conditions/{at}", (code, condition.code)
        if condition.code in seen:
            yield Fault(f"{here}/code", place, "code", f"{code} has the condition {condition.code} twice")
        seen.add(condition.code)
        if reason := _not_a_limit(condition.limit):
            yield Fault(f"{here}/limit", place, "limit", reason)
        for name in ("department", *(["helping"] if condition.helping else [])):
            named = condition.helping if name == "helping" else (condition.department,)
            if strange := set(named) - offices:
                yield Fault(f"{here}/{name}", place, name, f"no department {min(strange)}")
    for at, name, reason in of_questions(category.questions):
        yield Fault(f"{where}/questions/{at}/{name}", (code, category.questions[at].key), name, reason)


def _not_a_limit(text: str) -> str | None:
    """Why this cannot be counted by; one limit is written in one way only, so that editions can be compared."""
    try:
        limit = Limit.parse(text)
    except Invalid as error:
        return error.detail
    return None if str(limit) == text else f"write {limit} for {text}"


def next_extension(categories: Iterable[Category], family: str, digits: int = 2) -> str | None:
    """The code that the next local extension of a family takes: the highest free one, counted down from 99 (999)."""
    known = [c for c in categories if c.family == family]
    taken, top = {int(c.sub) for c in known}, _tops(known).get(family, 0)
    free = next((n for n in range(10**digits - 1, top, -1) if n not in taken), None)
    return None if free is None else f"{family}{free:0{digits}d}"
