"""How a case file looks on paper: A4, page numbers, a font that has Chinese, tables, pictures; knows nothing of cases."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors  # type: ignore[import-untyped]
from reportlab.lib.enums import TA_CENTER  # type: ignore[import-untyped]
from reportlab.lib.pagesizes import A4  # type: ignore[import-untyped]
from reportlab.lib.styles import ParagraphStyle  # type: ignore[import-untyped]
from reportlab.lib.units import mm  # type: ignore[import-untyped]
from reportlab.pdfbase import pdfmetrics  # type: ignore[import-untyped]
from reportlab.pdfbase.cidfonts import UnicodeCIDFont  # type: ignore[import-untyped]
from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]
from reportlab.platypus import (  # type: ignore[import-untyped]
    Image,
    KeepTogether,
    LongTable,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    TableStyle,
)

FONT = "STSong-Light"
"""A font that every reader of PDF has for Chinese, so that it need not be in the file."""
MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN - 12
"""A frame keeps six points on each side for itself."""
LATIN = "Helvetica"
"""The same for letters and digits, which the Chinese font sets badly in many readers."""
BLANK = "□"
"""Stands for a character that the font has not."""
LABEL, GRID = colors.HexColor("#555555"), colors.HexColor("#bbbbbb")


@cache
def _ready() -> None:
    pdfmetrics.registerFont(UnicodeCIDFont(FONT))
    # Bold and italic are the same font: it has no other cuts.
    pdfmetrics.registerFontFamily(FONT, normal=FONT, bold=FONT, italic=FONT, boldItalic=FONT)


def printable(text: str) -> tuple[str, int]:
    """The text with a blank for each character that the font has not, and how many there are. Arabic letters are among them."""
    missing = 0
    made = []
    for character in text:
        there = character == "\n" or _has(character)
        missing += not there
        made.append(character if there else BLANK)
    return "".join(made), missing


@cache
def _has(character: str) -> bool:
    try:
        character.encode("gbk")
    except UnicodeEncodeError:
        return False
    return True


def style(size: float = 9.5, **more: Any) -> Any:
    """A style of paragraphs; lines may break between any two Chinese characters."""
    return ParagraphStyle("text", fontName=FONT, fontSize=size, leading=size * 1.45, wordWrap="CJK", **more)


_PLAIN = re.compile(r"[!-~]+(?: +[!-~]+)*")


def _marked(text: str) -> str:
    """The text as a paragraph takes it: runs of letters and digits in their own font, lines as lines."""
    made, last = [], 0
    for run in _PLAIN.finditer(text):
        made += [escape(text[last : run.start()]), f'<font name="{LATIN}">{escape(run[0])}</font>']
        last = run.end()
    return "".join([*made, escape(text[last:])]).replace("\n", "<br/>")


class Sheet:
    """Collects what is printed, one thing after the other, and at the end makes the file."""

    def __init__(self) -> None:
        _ready()
        self.story: list[Any] = []
        self.missing = 0

    def text(self, text: str, size: float = 9.5, **more: Any) -> Any:
        """A paragraph of plain text, whatever stands in it; lines stay lines."""
        shown, missing = printable(text.replace("\t", "    "))
        self.missing += missing
        return Paragraph(_marked(shown), style(size, **more))

    def title(self, text: str) -> None:
        self.story += [self.text(text, 16, alignment=TA_CENTER), Spacer(1, 4 * mm)]

    def heading(self, text: str) -> None:
        self.story += [Spacer(1, 3 * mm), self.text(text, 11.5, keepWithNext=1), Spacer(1, 1 * mm)]

    def line(self, text: str, size: float = 9.5) -> None:
        self.story.append(self.text(text, size))

    def pairs(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and values side by side."""
        if shown := [row for row in rows if row[1]]:
            self._rows([], shown, [30 * mm, WIDTH - 30 * mm], 9.5)

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]], shares: Sequence[float]) -> None:
        """A table whose head stands on every page; `shares` are parts of the width."""
        self._rows([self.text(title, 8.5, textColor=LABEL) for title in titles], rows, [WIDTH * share for share in shares], 8.5)

    def _rows(self, head: list[Any], rows: Sequence[Sequence[str]], widths: Sequence[float], size: float) -> None:
        """A row that may be higher than a page is cut into several; a line is drawn only under the last of them."""
        cells, rules = ([head] if head else []), list(_TIGHT)
        rules += [("LINEBELOW", (0, 0), (-1, 0), 0.8, GRID)] if head else []
        for row in rows:
            parts = [pieces(cell) for cell in row]
            for n in range(max(map(len, parts))):
                shades = [{"textColor": LABEL} if not head and not column else {} for column in range(len(row))]
                texts = (part[n] if n < len(part) else "" for part in parts)
                cells.append([self.text(text, size, **shade) for text, shade in zip(texts, shades, strict=True)])
            rules.append(("LINEBELOW", (0, len(cells) - 1), (-1, len(cells) - 1), 0.3, GRID))
        self.story.append(LongTable(cells, colWidths=list(widths), repeatRows=1 if head else 0, style=TableStyle(rules)))

    def pictures(self, pictures: Sequence[tuple[bytes, str]], across: int = 3) -> None:
        """Pictures with a line under each. One that cannot be read is left out, its line stays."""
        wide = WIDTH / across
        cells = [[_picture(data, wide - 4 * mm), self.text(words, 8)] for data, words in pictures]
        for start in range(0, len(cells), across):
            row = [*cells[start : start + across], *([[]] * (across - len(cells[start : start + across])))]
            self.story.append(KeepTogether([LongTable([row], colWidths=[wide] * across, style=TableStyle(_TIGHT))]))

    def made(self, title: str, foot: Callable[[int, int], str]) -> bytes:
        """The file; `foot` says what stands under page n of m."""
        out = io.BytesIO()
        document = SimpleDocTemplate(
            out, pagesize=A4, leftMargin=MARGIN, rightMargin=MARGIN, topMargin=16 * mm, bottomMargin=18 * mm, title=title,
            author="", creator="sanji", subject="",
        )  # fmt: skip
        document.build(self.story, canvasmaker=lambda *a, **k: _Numbered(foot, *a, **k))
        return out.getvalue()


_TIGHT: list[Any] = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 2), ("RIGHTPADDING", (0, 0), (-1, -1), 2),
    ("TOPPADDING", (0, 0), (-1, -1), 2),
]  # fmt: skip


def pieces(text: str, letters: int = 180, lines: int = 8) -> list[str]:
    """The text in pieces that are each far less high than a page."""
    found: list[str] = []
    for line in text.split("\n"):
        for start in range(0, max(1, len(line)), letters):
            part = line[start : start + letters]
            fits = start == 0 and found and len(found[-1]) + len(part) < letters and found[-1].count("\n") < lines
            if fits:
                found[-1] += f"\n{part}"
            else:
                found.append(part)
    return found


def _picture(data: bytes, wide: float) -> Any:
    try:
        picture = Image(io.BytesIO(data))
    except (OSError, ValueError):
        return Spacer(wide, 10 * mm)
    scale = min(wide / picture.imageWidth, 45 * mm / picture.imageHeight)
    picture.drawWidth, picture.drawHeight = picture.imageWidth * scale, picture.imageHeight * scale
    return picture


class _Numbered(Canvas):  # type: ignore[misc]
    """Keeps its pages until it knows how many there are."""

    def __init__(self, foot: Callable[[int, int], str], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._foot, self._pages = foot, list[dict[str, Any]]()

    def showPage(self) -> None:  # noqa: N802
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, page in enumerate(self._pages, 1):
            self.__dict__.update(page)
            said, _ = printable(self._foot(number, len(self._pages)))
            words = Paragraph(_marked(said), style(8, alignment=TA_CENTER, textColor=LABEL))
            words.wrapOn(self, WIDTH, 20 * mm)
            words.drawOn(self, MARGIN + 6, 8 * mm)
            Canvas.showPage(self)
        Canvas.save(self)
