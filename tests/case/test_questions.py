"""The extra questions of a category: what fits to be asked, and which answers are taken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.case.questions import Question, check, faults
from shared.errors import Invalid

TWO = [{"code": "left", "zh": "左"}, {"code": "right", "zh": "右", "en": "Right"}]


def question(key: str, kind: str, **more: Any) -> Question:
    return Question.model_validate({"key": key, "kind": kind, "zh": "问", **more})


ASKED = (
    question("side", "choice", options=TWO, required=True),
    question("depth", "number", minimum=0, maximum=3, unit="m", shown={"key": "side", "values": ["left"]}, required=True),
    question("signs", "choices", options=TWO),
    question("stuck", "yes_no"),
    question("since", "date", shown={"key": "stuck", "values": ["yes"]}),
    question("which", "text", shown={"key": "signs", "values": ["right"]}, required=True),
)
LEFT = {"side": "left", "depth": 1.5}


@pytest.mark.parametrize(
    "answers",
    [
        {"side": "right"},
        LEFT,
        {"side": "left", "depth": 0},
        {"side": "left", "depth": 3},
        LEFT | {"signs": ["left"]},
        LEFT | {"signs": ["left", "right"], "which": "  一块牌 "},
        LEFT | {"stuck": True, "since": "2026-02-28"},
        LEFT | {"stuck": False},
        LEFT | {"stuck": None},
    ],
)
def test_right_answers_are_taken(answers: dict[str, Any]) -> None:
    wanted = {k: v.strip() if isinstance(v, str) else v for k, v in answers.items() if v is not None}
    assert check(ASKED, answers) == wanted


@pytest.mark.parametrize(
    ("answers", "key", "said"),
    [
        ({}, "side", "needs an answer"),
        ({"side": "up"}, "side", "must be one of: left, right"),
        ({"side": ["left"]}, "side", "must be one of"),
        ({"side": True}, "side", "must be one of"),
        ({"side": "left"}, "depth", "needs an answer"),
        ({"side": "right", "depth": 1}, "depth", "only asked depending on the answer to side"),
        ({"side": "left", "depth": "1"}, "depth", "must be a number"),
        ({"side": "left", "depth": True}, "depth", "must be a number"),
        ({"side": "left", "depth": float("nan")}, "depth", "must be a number"),
        ({"side": "left", "depth": 10**400}, "depth", "must be a number"),
        ({"side": "left", "depth": 3.01}, "depth", "must be at least 0 and at most 3 m"),
        ({"side": "left", "depth": -1}, "depth", "must be at least 0"),
        (LEFT | {"signs": "left"}, "signs", "must be a list"),
        (LEFT | {"signs": []}, "signs", "must be a list"),
        (LEFT | {"signs": ["left", "left"]}, "signs", "names an option twice"),
        (LEFT | {"signs": ["up"]}, "signs", "must be a list"),
        (LEFT | {"signs": [["left"]]}, "signs", "must be a list"),
        (LEFT | {"stuck": "yes"}, "stuck", "must be true or false"),
        (LEFT | {"stuck": 1}, "stuck", "must be true or false"),
        (LEFT | {"since": "2026-01-01"}, "since", "only asked depending on the answer to stuck"),
        (LEFT | {"stuck": True, "since": "20260101"}, "since", "must be a day"),
        (LEFT | {"stuck": True, "since": "2026-02-30"}, "since", "must be a day"),
        (LEFT | {"stuck": True, "since": 5}, "since", "must be a day"),
        (LEFT | {"signs": ["right"]}, "which", "needs an answer"),
        (LEFT | {"signs": ["right"], "which": " "}, "which", "must have 1 to 500"),
        (LEFT | {"signs": ["right"], "which": "a" * 501}, "which", "must have 1 to 500"),
        (LEFT | {"signs": ["right"], "which": "<b>x</b>"}, "which", "plain text"),
        (LEFT | {"signs": ["right"], "which": "a\0"}, "which", "U+0000"),
        (LEFT | {"signs": ["right"], "which": 7}, "which", "must be a text"),
        (LEFT | {"colour": "red"}, "colour", "does not ask that"),
        (LEFT | {"a/b~c": None}, "a~1b~0c", "does not ask that"),
    ],
)
def test_a_wrong_answer_is_named(answers: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        check(ASKED, answers)
    assert caught.value.field == f"/answers/{key}" and said in caught.value.detail


def test_answers_come_in_the_order_of_the_questions() -> None:
    assert list(check(ASKED, {"stuck": False, "depth": 1, "side": "left"})) == ["side", "depth", "stuck"]
    assert check(ASKED, {"side": "right", "signs": ["right", "left"], "which": "x"})["signs"] == ["left", "right"]


WRONG: list[tuple[str, list[Question], tuple[int, str, str]]] = [
    ("twice", [question("a", "text"), question("a", "text")], (1, "key", "asked twice")),
    ("no options", [question("a", "choice")], (0, "options", "at least two")),
    ("one option", [question("a", "choices", options=TWO[:1])], (0, "options", "at least two")),
    ("same option", [question("a", "choice", options=[TWO[0], TWO[0]])], (0, "options", "there twice")),
    ("options of a text", [question("a", "text", options=TWO)], (0, "options", "only a choice")),
    ("bounds of a text", [question("a", "text", minimum=1)], (0, "minimum", "only a number")),
    ("bounds crossed", [question("a", "number", minimum=2, maximum=1)], (0, "maximum", "below the minimum")),
    ("waits for nothing", [question("a", "text", shown={"key": "b", "values": ["x"]})], (0, "shown", "stands before it")),
    ("waits for a text", [question("b", "text"), question("a", "text", shown={"key": "b", "values": ["x"]})],
     (1, "shown", "is no choice")),
    ("waits in vain", [question("b", "yes_no"), question("a", "text", shown={"key": "b", "values": ["x"]})],
     (1, "shown", "never answered with x")),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "said"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_questions_that_cannot_be_asked_are_named(asked: list[Question], said: tuple[int, str, str]) -> None:
    (found,) = list(faults(asked))
    assert found[:2] == said[:2] and said[2] in found[2]
    assert list(faults(ASKED)) == []


@pytest.mark.parametrize("key", ["", "Depth", "1a", "a b", "a" * 41, "深"])
def test_a_key_is_a_plain_word(key: str) -> None:
    with pytest.raises(ValidationError):
        question(key, "text")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["left", "right"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([q.key for q in ASKED]), JSON))
def test_whatever_is_answered_is_taken_or_refused(answers: dict[str, Any]) -> None:
    """What is taken is taken again just as it came out, and answers every question that is shown and required."""
    try:
        found = check(ASKED, answers)
    except Invalid as error:
        assert error.field is not None and error.field.startswith("/answers/")
    else:
        assert check(ASKED, found) == found and "side" in found and ("depth" in found) == (found["side"] == "left")
