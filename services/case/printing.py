"""Prints a case file 案卷打印 as PDF: what was reported and decided, the clocks explained, the timeline, photos, comments.

Never the reporter's data: those are not read here. What people wrote about the problem is part of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select

from services.case import comments, photos, queries, words
from services.case.intake import Surroundings
from services.case.paper import Sheet
from services.case.tables import steps
from services.case.words import Names, Pair, Speech

_STEPS = select(steps).where(steps.c.case_id == bindparam("case")).order_by(steps.c.version)


@dataclass(frozen=True)
class File:
    """Everything that a printed file is made of, as it was read in one moment."""

    case: dict[str, Any]
    inside: dict[str, Any]
    steps: list[dict[str, Any]]
    comments: list[dict[str, Any]]
    pictures: list[tuple[str, str]]
    """(digest of the thumbnail, what stands under it)."""
    speech: Speech


def gather(
    connection: Connection, around: Surroundings, names: Names, case_id: str, language: str, *, internal: bool, at: datetime
) -> File:  # fmt: skip
    """Read what is to be printed, with the clocks as they stand at `at`. Raises NotFound."""
    case = queries.row(connection, case_id)
    speech = Speech(around, names, connection, language)
    taken = [dict(row) for row in connection.execute(_STEPS, {"case": case_id}).mappings()]
    shown = [c for c in comments.standing(connection, case_id) if internal or c["visibility"] == "public"]
    pictures = [_picture(photo, speech) for photo in photos.listed(connection, case_id) if not photo["withheld"]]
    return File(case, queries.inside(connection, around, case, at), taken, shown, pictures, speech)


def _picture(photo: Mapping[str, Any], speech: Speech) -> tuple[str, str]:
    kind = Pair(*photos.KINDS[photo["kind"]]).said(speech.language)
    return photo["thumb"], f"{kind} {speech.instant(photo['taken_at'] or photo['added_at'])}"


def pdf(file: File, thumb: Callable[[str], bytes], *, printed_at: str, by: str) -> bytes:
    """The file on A4 pages. `thumb` answers the thumbnail of a digest, which may raise what the store raises."""
    sheet, say = Sheet(), _sayer(file.speech.language)
    sheet.title(f"{say('案卷', 'Case file')} {file.case['number']}")
    sheet.pairs(_head(file, say))
    _told(sheet, file, say)
    _clocks(sheet, file, say)
    _timeline(sheet, file, say)
    if file.pictures:
        sheet.heading(say("照片", "Photos"))
        sheet.pictures([(thumb(digest), under) for digest, under in file.pictures])
    _add_comments(sheet, file, say)
    if sheet.missing:
        count = sheet.missing
        zh = f"有 {count} 个字符本字体无法打印，以□代替，请在系统中查看。"
        sheet.line(say(zh, f"{count} characters are not in the printed font and stand as □: see them on the screen."), 8)
    when = file.speech.instant(printed_at)

    def foot(page: int, of: int) -> str:
        return say(f"{when} 由 {by} 打印　第 {page} 页，共 {of} 页", f"printed at {when} by {by}, page {page} of {of}")

    return sheet.made(file.case["number"], foot)


Say = Callable[[str, str], str]


def _sayer(language: str) -> Say:
    return lambda zh, en: zh if language == "zh" else en


def _head(file: File, say: Say) -> Sequence[tuple[str, str]]:
    """What the case is and where it stands."""
    case, speech, language = file.case, file.speech, file.speech.language
    condition = speech.condition(case["category"], case["condition"], case)
    return [
        (say("类别", "Category"), f"{case['category']} {speech.category(case['category'], case)}"),
        (say("立案条件", "Filing condition"), condition),
        (say("状态", "State"), words.state(case["state"], language)),
        (say("来源", "Came in by"), words.known(words.CHANNELS, case["channel"], language)),
        (say("所在区划", "Division"), f"{speech.division(case['division'])} {case['division']}"),
        (say("单元网格", "Grid cell"), case["cell"] or ""),
        (say("部件", "Part"), case["part"] or ""),
        (say("坐标", "Position"), say(f"经度 {case['lon']:.6f}，纬度 {case['lat']:.6f}（WGS 84）",
                                    f"longitude {case['lon']:.6f}, latitude {case['lat']:.6f} (WGS 84)")),
        (say("地点描述", "Place in words"), case["place"] or ""),
        (say("承办部门", "Department"), speech.department(case["department"], case)),
        (say("协办部门", "Helping"), "，".join(speech.department(h, case) for h in case["helpers"] or ())),
        (say("上报时间", "Reported"), speech.instant(case["reported_at"])),
        (say("立案时间", "Filed"), speech.instant(case["filed_at"])),
        (say("处置时限", "Due"), speech.instant(case["due_at"])),
        (say("处置反馈", "Handled"), speech.instant(case["handled_at"])),
        (say("结束时间", "Ended"), speech.instant(case["ended_at"])),
        (say("是否按时", "In time"), _in_time(case, say)),
    ]  # fmt: skip


def _in_time(case: Mapping[str, Any], say: Say) -> str:
    if case["on_time"] is None:
        return ""
    if case["on_time"]:
        return say("按时", "yes")
    if case["appealed"] == "granted":
        return say("超时，不计超时（申诉通过）", "no, not counted as overdue: the appeal was granted")
    return say("超时", "no")


def _told(sheet: Sheet, file: File, say: Say) -> None:
    """What was written with the report, and the answers to the questions of its category."""
    if file.case["text"]:
        sheet.heading(say("问题描述", "What was reported"))
        sheet.line(file.case["text"])
    answers = file.case["answers"] or {}
    if answers:
        asked = file.speech.questions(file.case["category"], file.case)
        sheet.heading(say("补充问题", "Questions of the category"))
        known = {key: asked.get(key, (key, {})) for key in answers}
        sheet.pairs([(known[key][0], _value(value, known[key][1], say)) for key, value in answers.items()])


def _value(value: Any, options: Mapping[str, str], say: Say) -> str:
    """An answer in words; a choice by what the option is called."""
    if isinstance(value, bool):
        return say("是", "yes") if value else say("否", "no")
    return ", ".join(options.get(str(one), str(one)) for one in (value if isinstance(value, list) else [value]))


def _clocks(sheet: Sheet, file: File, say: Say) -> None:
    """The clock of each stage, and why its deadline is what it is."""
    if not file.inside["clocks"]:
        return
    language = file.speech.language
    rows = [
        [words.known(words.STAGES, clock["stage"], language), clock["limit"] or "", clock["explained"][language]]
        for clock in file.inside["clocks"]
    ]
    sheet.heading(say("计时", "Clocks"))
    sheet.table([say("阶段", "stage"), say("时限", "limit"), say("说明", "explained")], rows, (0.14, 0.1, 0.76))


def _timeline(sheet: Sheet, file: File, say: Say) -> None:
    language, speech = file.speech.language, file.speech
    sheet.heading(say("办理过程", "Timeline"))
    rows = [[speech.instant(file.case["reported_at"]), "", say("上报", "report"), ""]]
    for step in file.steps:
        roles = "，".join(words.known(words.ROLES, r, language) for r in step["roles"].split())
        who = f"{step['actor']}（{roles}）" if language == "zh" else f"{step['actor']} ({roles.replace('，', ', ')})"
        done = words.action(step["source"], step["action"], language)
        if step["source"] != step["target"]:
            done += f" → {words.state(step['target'], language)}"
        rows.append([speech.instant(step["at"]), who, done, step["opinion"] or ""])
    titles = [say("时间", "when"), say("经办", "who"), say("步骤", "step"), say("意见", "opinion")]
    sheet.table(titles, rows, (0.17, 0.2, 0.25, 0.38))


def _add_comments(sheet: Sheet, file: File, say: Say) -> None:
    if not file.comments:
        return
    sheet.heading(say("批注", "Comments"))
    kinds = {"internal": say("内部", "internal"), "public": say("公开", "public")}
    rows = [[file.speech.instant(c["at"]), c["author"], kinds[c["visibility"]], c["text"]] for c in file.comments]
    titles = [say("时间", "when"), say("经办", "who"), say("范围", "for"), say("内容", "text")]
    sheet.table(titles, rows, (0.17, 0.2, 0.1, 0.53))
