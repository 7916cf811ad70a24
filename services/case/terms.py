"""Cuts text into what can be searched for 分词: words, and for scripts without spaces single characters and pairs of them.

The same cuts are made of what is stored and of what is asked, on every database. A text becomes a line of runs: a run is a word
of letters and digits, or a stretch of Chinese, Japanese or Korean. What is asked is cut the same way into terms, and a case is
found when every term fits: a stretch anywhere in a stretch, a word at the begin of a word, digits also at the end of one, because
people know the last digits of a number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import Invalid

WIDE = (
    "々-〇〡-〩ぁ-ゖ\u3099-ゟァ-ヺー-ヿㄅ-ㄯㆠ-ㆿㇰ-ㇿ㐀-䶿一-鿿가-힣\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003fffd"
)  # fmt: skip
"""Scripts written without spaces, as ranges of a regular expression; compatibility forms are folded into these before."""
PLANES = 0x20000
"""Code points below this hold every sign that is no letter by itself, but for a few selectors that nobody types."""


def _marks() -> str:
    """Signs that belong to the letter before them, such as vowels of Tibetan, as ranges of a regular expression."""
    wide = re.compile(f"[{WIDE}]")
    found = [c for c in map(chr, range(PLANES)) if unicodedata.category(c)[0] == "M" and not wide.match(c)]
    return "".join(found)


RUNS = re.compile(f"[{WIDE}]+|(?:(?![{WIDE}])[^\\W_][{_marks()}]*)+")
_WIDE = re.compile(f"[{WIDE}]")
_DIGIT, _DIGITS = re.compile(r"[0-9]"), re.compile(r"[0-9]+")
LONGEST = 40
"""Characters of a word that the index tells apart; the rest is compared when a case was found."""
MOST_TERMS = 8
BACKWARDS = "\x02"
"""Begins the token of a word with digits read backwards, so that the last digits are a begin as well."""
LAST = b"\xff"
"""Sorts behind every UTF-8 text."""


def fold(text: str) -> str:
    """Without differences that nobody searches by: width, capitals, compatibility forms."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def line(*texts: str | None) -> str:
    """The runs of these texts, with a space before and after each."""
    found = [run for text in texts if text for run in RUNS.findall(fold(text))]
    return f" {' '.join(found)} " if found else " "


def tokens(line: str) -> set[str]:
    """What a line is found by: characters and pairs of stretches, words, backwards where digits are."""
    found: set[str] = set()
    for run in line.split():
        if _WIDE.match(run):
            found.update(run)
            found.update(map(str.__add__, run, run[1:]))
        else:
            found.add(run[:LONGEST])
            if _DIGIT.search(run):
                found.add(BACKWARDS + run[: -LONGEST - 1 : -1])
    return found


@dataclass(frozen=True)
class Term:
    """One thing that must be there. `text` is folded; `wide`: a stretch without spaces."""

    text: str
    wide: bool

    @property
    def digits(self) -> bool:
        return bool(_DIGITS.fullmatch(self.text))

    @property
    def needles(self) -> tuple[str, ...]:
        """A line fits when it holds one of these."""
        if self.wide:
            return (self.text,)
        return (f" {self.text}", f"{self.text} ") if self.digits else (f" {self.text}",)

    def exact(self) -> list[bytes]:
        """Tokens that every line has that fits; each character of a stretch is in one of them."""
        if not self.wide:
            return []
        if len(self.text) == 1:
            return [self.text.encode()]
        pairs = [self.text[n : n + 2] for n in range(0, len(self.text) - 1, 2)]
        return [p.encode() for p in dict.fromkeys([*pairs, self.text[-2:]])]

    def ranges(self) -> list[tuple[bytes, bytes]]:
        """Ranges of tokens (from, to) of which every line that fits has one; empty where there are exact ones."""
        if self.wide:
            return []
        begins = [self.text[:LONGEST]] + ([BACKWARDS + self.text[: -LONGEST - 1 : -1]] if self.digits else [])
        return [(b.encode(), b.encode() + LAST) for b in begins]


def terms(asked: str) -> tuple[Term, ...]:
    """What somebody asks for. Raises Invalid where nothing is left to search for, or too much at once."""
    found = [Term(run, bool(_WIDE.match(run))) for run in dict.fromkeys(RUNS.findall(fold(asked)))]
    if not found:
        raise Invalid("holds nothing to search for: no letter, no digit", field="/text")
    if len(found) > MOST_TERMS:
        raise Invalid(f"asks for {len(found)} words at once; at most {MOST_TERMS}", field="/text")
    return tuple(found)


def snippet(texts: Sequence[str | None], sought: Sequence[Term], around: int = 30) -> str | None:
    """The first place in these texts that shows a term, with some of what stands around it; None where none shows one."""
    for text in texts:
        if not text:
            continue
        # Folding changes lengths, so each character is folded by itself to know where it came from.
        folded = [fold(c) for c in text]
        whole = "".join(folded)
        spots = [at for term in sought if (at := whole.find(term.text)) >= 0]
        if spots:
            starts = [n for n, piece in enumerate(folded) for _ in piece]
            middle = starts[min(spots)]
            begin, end = max(0, middle - around), min(len(text), middle + 2 * around)
            return f"{'…' if begin else ''}{text[begin:end]}{'…' if end < len(text) else ''}"
    return None
