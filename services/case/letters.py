"""Writes the mails: notices and the weekly digest, as plain text and as simple HTML, in the language of whoever gets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape
from typing import Any

from services.case import words
from services.case.words import Pair, Speech
from shared.clock import unstamp

HEAD = ("number", "event", "state", "category", "division", "due_at")
COLUMNS: dict[str, Pair] = {
    "number": Pair("案卷号", "case"), "event": Pair("事项", "what"), "state": Pair("状态", "state"),
    "category": Pair("类别", "category"), "division": Pair("所在区划", "division"), "due_at": Pair("处置时限", "due"),
}  # fmt: skip
FIGURES: dict[str, Pair] = {
    "opened": Pair("上周新增", "opened last week"), "closed": Pair("上周结案", "closed last week"),
    "open": Pair("在办", "open now"), "overdue": Pair("其中超期", "of these overdue"),
    "supervised": Pair("督办未回复", "supervisions not answered"),
}  # fmt: skip
STYLE = "border-collapse:collapse;font-family:sans-serif;font-size:14px"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as mail programs show it, everything escaped."""
    head = "".join(f"<th align='left' style='padding:4px 10px;border-bottom:1px solid #888'>{escape(c)}</th>" for c in columns)
    lines = ("".join(f"<td style='padding:4px 10px'>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table style='{STYLE}'><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def notices(payload: Mapping[str, Any], speech: Speech) -> tuple[str, str, str]:
    """(subject, plain text, HTML) of a mail about happenings."""
    language = speech.language
    rows = [_cells(line, speech) for line in payload["lines"]]
    more = payload.get("more") or 0
    if len(rows) == 1 and not more:
        subject = f"{rows[0][1]} {rows[0][0]}"
    else:
        subject = Pair(f"{len(rows) + more} 件案卷的通知", f"notices of {len(rows) + more} cases").said(language)
    titles = [COLUMNS[name].said(language) for name in HEAD]
    text = "\n\n".join("\n".join(f"{t}: {cell}" for t, cell in zip(titles, row, strict=True) if cell) for row in rows)
    rest = Pair(f"另有 {more} 件，请登录查看。", f"and {more} more: see the application.").said(language) if more else ""
    return subject, f"{text}\n\n{rest}".rstrip() + "\n", _page(table(titles, rows) + (f"<p>{escape(rest)}</p>" if rest else ""))


def _cells(line: Mapping[str, Any], speech: Speech) -> list[str]:
    return [
        line["number"], words.event(line["event"], speech.language), words.state(line["state"], speech.language),
        speech.category(line["category"]), speech.division(line["division"]), speech.instant(line.get("due_at")),
    ]  # fmt: skip


def digest(payload: Mapping[str, Any], speech: Speech) -> tuple[str, str, str]:
    """(subject, plain text, HTML) of a weekly digest."""
    language, figures = speech.language, payload["figures"]
    kind, _, name = payload["target"].partition(":")
    whom = words.known(words.ROLES, name, language) if kind == "role" else speech.department(name)
    subject = Pair(f"周报 {payload['week']} {whom}", f"weekly digest {payload['week']}, {whom}").said(language)
    rows = [[pair.said(language), str(figures[key])] for key, pair in FIGURES.items()]
    if oldest := figures["oldest"]:
        told = f"{oldest['number']} {speech.category(oldest['category'])} {speech.instant(oldest['reported_at'])}"
        rows.append([Pair("最久未结", "oldest open").said(language), told])
    text = "\n".join(f"{name}: {value}" for name, value in rows) + "\n"
    return subject, f"{subject}\n\n{text}", _page(f"<h3>{escape(subject)}</h3>" + table(["", ""], rows))


def _page(body: str) -> str:
    return f"<!doctype html><html><head><meta charset='utf-8'></head><body>{body}</body></html>"


KINDS = {"notices": notices, "digest": digest}


def letter(payload: Mapping[str, Any], speech: Speech, *, item: str, at: str, sender: str, receiver: str) -> EmailMessage:
    """The whole mail. Its Message-ID is that of the item, so that a mail program knows a repetition."""
    subject, text, html = KINDS[payload["kind"]](payload, speech)
    found = EmailMessage()
    found["Subject"], found["From"], found["To"] = subject, sender, receiver
    found["Date"] = format_datetime(unstamp(at))
    found["Message-ID"] = f"<{item}@{sender.rpartition('@')[2]}>"
    # Tells programs that answer by themselves not to.
    found["Auto-Submitted"] = "auto-generated"
    found.set_content(text)
    found.add_alternative(html, subtype="html")
    return found
