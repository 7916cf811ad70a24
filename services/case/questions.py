"""The extra questions of a category (补充问题): typed, asked only where they apply, and their answers checked strictly."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.case.texts import plain
from shared.errors import Invalid

Kind = Literal["text", "number", "choice", "choices", "yes_no", "date"]
KINDS: tuple[str, ...] = get_args(Kind)
LONGEST = 500
"""Characters of a text answer where the question sets no limit of its own."""
LARGEST = 1e15
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")



def filled(text: str) -> str:
    """A plain text that says something. Raises ValueError."""
    if not (text := plain(text)):
        raise ValueError("must not be empty")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(filled)]
Second = Annotated[str, Field(max_length=200), AfterValidator(plain)]
"""The same in English; empty where nobody wrote it."""
Unit = Annotated[str, Field(min_length=1, max_length=20), AfterValidator(filled)]
Key = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]
Answer: TypeAlias = str | int | float | bool | list[str]


class Option(BaseModel):
    """One of the answers to choose from."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    code: Key
    zh: Name
    en: Second = ""


class Shown(BaseModel):
    """When a question is asked: the earlier question `key` was answered with one of `values` (`yes`/`no` for a yes/no one)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    key: Key
    values: Annotated[tuple[Key, ...], Field(strict=False, min_length=1, max_length=30)]


class Question(BaseModel):
    """One question: text, number with bounds and unit, one choice, several choices, yes or no, or a day."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    key: Key = Field(examples=["lanes_blocked"])
    kind: Kind
    zh: Name
    en: Second = ""
    required: bool = False
    minimum: float | None = Field(None, allow_inf_nan=False, description="of a number")
    maximum: float | None = Field(None, allow_inf_nan=False, description="of a number")
    unit: Unit | None = Field(None, description="of a number")
    options: Annotated[tuple[Option, ...], Field(strict=False, max_length=30)] = ()
    shown: Shown | None = Field(None, description="asked only then; without it always")


def faults(questions: Sequence[Question]) -> Iterator[tuple[int, str, str]]:
    """(position, field, reason) of everything that makes these questions unfit to be asked."""
    earlier: dict[str, Question] = {}
    for at, question in enumerate(questions):
        if question.key in earlier:
            yield at, "key", f"{question.key} is asked twice"
        yield from ((at, *fault) for fault in _by_kind(question))
        if question.shown is not None:
            yield from ((at, "shown", reason) for reason in _unseen(question.shown, earlier))
        earlier[question.key] = question


def _by_kind(question: Question) -> Iterator[tuple[str, str]]:
    """What does not fit the kind of question."""
    codes = [o.code for o in question.options]
    if question.kind in ("choice", "choices"):
        if len(codes) < 2:
            yield "options", "a choice has at least two options"
        if len(set(codes)) < len(codes):
            yield "options", "an option is there twice"
    elif codes:
        yield "options", "only a choice has options"
    low, high = question.minimum, question.maximum
    if question.kind != "number" and (low, high, question.unit) != (None, None, None):
        yield "minimum", "only a number has bounds and a unit"
    if low is not None and high is not None and low > high:
        yield "maximum", "lies below the minimum"


def _unseen(shown: Shown, earlier: Mapping[str, Question]) -> Iterator[str]:
    """Why the answer that a question waits for can never come."""
    on = earlier.get(shown.key)
    if on is None:
        yield f"no question {shown.key} stands before it"
    elif not (possible := _answers(on)):
        yield f"{shown.key} is no choice and no yes/no question"
    elif strange := set(shown.values) - possible:
        yield f"{shown.key} is never answered with {min(strange)}"


def _answers(question: Question) -> set[str]:
    return {"yes", "no"} if question.kind == "yes_no" else {o.code for o in question.options}


def check(questions: Sequence[Question], answers: Mapping[str, Any]) -> dict[str, Answer]:
    """The answers in the order of the questions. Raises Invalid naming `/answers/<key>`.

    Refused are: a key that is not asked, an answer to a question that is not shown, a shown and required one left out, and any
    value of another type than the question's (a yes is `true`, not "yes"). A null is no answer.
    """
    if strange := set(answers) - {q.key for q in questions}:
        raise Invalid("this category does not ask that", field=_pointer(min(map(str, strange))))
    found: dict[str, Answer] = {}
    for question in questions:
        where, given = _pointer(question.key), answers.get(question.key)
        if not _asked(question, found):
            if given is not None:
                raise Invalid(f"is only asked depending on the answer to {question.shown and question.shown.key}", field=where)
        elif given is not None:
            found[question.key] = _READ[question.kind](question, given, where)
        elif question.required:
            raise Invalid("this category needs an answer here", field=where)
    return found


def _pointer(key: str) -> str:
    return "/answers/" + key.replace("~", "~0").replace("/", "~1")


def _asked(question: Question, before: Mapping[str, Answer]) -> bool:
    if question.shown is None:
        return True
    given = before.get(question.shown.key)
    if isinstance(given, bool):
        given = "yes" if given else "no"
    return bool({*given} & {*question.shown.values}) if isinstance(given, list) else given in question.shown.values


def _text(question: Question, given: Any, where: str) -> Answer:
    if not isinstance(given, str):
        raise Invalid("must be a text", field=where)
    try:
        text = plain(given)
    except ValueError as error:
        raise Invalid(str(error), field=where) from None
    if not 1 <= len(text) <= LONGEST:
        raise Invalid(f"must have 1 to {LONGEST} characters", field=where)
    return text


def _number(question: Question, given: Any, where: str) -> Answer:
    # The comparison also refuses what is no number at all (NaN), and a whole one too long to be compared with bounds.
    if not isinstance(given, int | float) or isinstance(given, bool) or not abs(given) <= LARGEST:
        raise Invalid("must be a number", field=where)
    low, high = question.minimum, question.maximum
    if (low is not None and given < low) or (high is not None and given > high):
        bounds = " and ".join(f"{word} {bound:g}" for word, bound in (("at least", low), ("at most", high)) if bound is not None)
        raise Invalid(f"must be {bounds}" + (f" {question.unit}" if question.unit else ""), field=where)
    return given


def _choice(question: Question, given: Any, where: str) -> Answer:
    codes = [o.code for o in question.options]
    if not isinstance(given, str) or given not in codes:
        raise Invalid(f"must be one of: {', '.join(codes)}", field=where)
    return given


def _choices(question: Question, given: Any, where: str) -> Answer:
    codes = [o.code for o in question.options]
    if not isinstance(given, list) or not given or any(not isinstance(g, str) or g not in codes for g in given):
        raise Invalid(f"must be a list of one or more of: {', '.join(codes)}", field=where)
    if len(set(given)) < len(given):
        raise Invalid("names an option twice", field=where)
    return [code for code in codes if code in given]


def _yes_no(question: Question, given: Any, where: str) -> Answer:
    if not isinstance(given, bool):
        raise Invalid("must be true or false", field=where)
    return given


def _date(question: Question, given: Any, where: str) -> Answer:
    try:
        if isinstance(given, str) and DAY.fullmatch(given):
            return date.fromisoformat(given).isoformat()
    except ValueError:
        pass
    raise Invalid("must be a day such as 2026-03-01", field=where)


_READ: dict[str, Callable[[Question, Any, str], Answer]] = {
    "text": _text, "number": _number, "choice": _choice, "choices": _choices, "yes_no": _yes_no, "date": _date,
}  # fmt: skip
