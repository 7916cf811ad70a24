"""What the docs name exists: paths, make targets, commands of `sanji` and their options; and the guards of every route."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi import FastAPI
from fastapi.routing import APIRoute
from typer.core import TyperGroup

from deploy.cli import app
from deploy.routers import ROUTERS
from shared.auth import Guard
from shared.web import health

SANJI: Any = typer.main.get_command(app)
CALL = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*(?:sudo )?(?:\S*/)?(?:sanji|python3? -m deploy\.cli)(?= |$)(.*)")
"""How a line of a page calls the command line."""

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PUBLIC = {
    "/api/case/v1/workflow", "/api/case/v1/policy", "/api/case/v1/duplicates", "/api/case/v1/groups", "/api/case/v1/rewards",
    "/api/case/v1/purses", "/api/case/v1/purses/mine", "/api/case/v1/reports/mine/rating",
    "/api/grid/v1/locate", "/api/grid/v1/outlines", "/api/evaluation/v1/figures",
    "/api/evaluation/v1/overview", "/api/evaluation/v1/links", "/api/evaluation/v1/live", "/livez", "/readyz", "/metrics",
    "/api/grid/v1/divisions", "/api/grid/v1/divisions/{code}", "/api/grid/v1/catalogue", "/api/web/v1/node",
    "/api/case/v1/calendar/{year}", "/api/case/v1/calendar/periods", "/api/case/v1/deadline", "/api/case/v1/catalogue",
    "/api/case/v1/reports", "/api/case/v1/reports/mine", "/api/case/v1/reports/mine/additions",
    "/api/case/v1/reports/mine/withdrawal", "/api/case/v1/reports/mine/reopening", "/api/case/v1/reports/mine/erasure",
    "/api/case/v1/reports/mine/photos",
}  # fmt: skip
"""The reviewed list of routes that anybody may call; it grows only on purpose."""


def routes() -> list[APIRoute]:
    routers = [*ROUTERS.values(), health()]
    return [r for router in routers for r in router.routes if isinstance(r, APIRoute)]


def guards(route: APIRoute) -> list[Guard]:
    return [d.call for d in route.dependant.dependencies if isinstance(d.call, Guard)]


def test_every_route_has_one_guard() -> None:
    assert FastAPI and len(routes()) >= 15
    assert [r.path for r in routes() if len(guards(r)) != 1] == []


def test_the_public_ones_are_known_and_say_why() -> None:
    found = {r.path: g.reason for r in routes() for g in guards(r) if g.roles is None}
    assert set(found) == PUBLIC
    assert all(len(reason) > 10 for reason in found.values())


def test_paths_named_in_the_docs_exist() -> None:
    missing = []
    for page in PAGES:
        for name in re.findall(r"`((?:docs|deploy|shared|services|contracts|tests)/[\w./-]*)`", page.read_text()):
            if not (ROOT / name).exists():
                missing.append(f"{page.name}: {name}")
    assert missing == []


def test_make_targets_named_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {t for p in PAGES for t in re.findall(r"(?:`|    )make ([a-z0-9-]+)", p.read_text())}
    assert named and named <= targets


def code(text: str) -> Iterator[str]:
    """What a page shows as code: spans in backticks, and lines of indented or fenced blocks with their continuations joined."""
    fenced = False
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            # Neither a comment nor what is piped or chained is an argument.
            yield from (part.strip() for part in re.split(r"&&|\||;", re.split(r"(?:^|\s)#\s", line)[0]))
        else:
            yield from re.findall(r"`([^`]+)`", line)


def wrong(call: str, group: Any = SANJI) -> Iterator[str]:
    """What is not there of a call's subcommands and options; words in capitals or in <> stand for anything."""
    command, rest = group, shlex.split(call)
    while isinstance(command, TyperGroup) and rest and not re.match(r"[-<A-Z.]", rest[0]):
        name, *rest = rest
        following = command.commands.get(name)
        if following is None:
            yield f"no command {name}"
            return
        command = following
    known = {"--help", *(o for p in command.params for o in (*p.opts, *p.secondary_opts))}
    yield from (f"{command.name} has no {o}" for o in (w.split("=")[0] for w in rest) if o.startswith("-") and o not in known)


def options(command: Any) -> set[str]:
    """All options of a command and of those below it."""
    below = command.commands.values() if isinstance(command, TyperGroup) else ()
    return {o for p in command.params for o in (*p.opts, *p.secondary_opts)}.union(*(options(c) for c in below))


def test_commands_named_in_the_docs_exist() -> None:
    calls = [(p.name, call[1]) for p in PAGES for line in code(p.read_text()) if (call := CALL.match(line))]
    assert len(calls) >= 2
    found = [f"{page}: sanji{call}: {what}" for page, call in calls for what in wrong(call)]
    assert not found, "\n".join(found)


def test_options_named_by_themselves_exist() -> None:
    """`--speed N` in a sentence is one of sanji's; options of other programs are named together with their program."""
    named = {(p.name, line.split()[0].split("=")[0]) for p in PAGES for line in code(p.read_text()) if line.startswith("--")}
    assert named
    assert [f"{page}: {option}" for page, option in sorted(named) if option not in options(SANJI)] == []


def small() -> Any:
    """A command line of two commands, one of them with commands below it, to try the search on."""
    whole, below = typer.Typer(), typer.Typer()

    @whole.command()
    def up(topology: str, state: str = "", split: bool = False) -> None: ...

    @below.command()
    def add(name: str) -> None: ...

    @below.command()
    def drop(name: str, force: bool = False) -> None: ...

    whole.add_typer(below, name="key")
    return typer.main.get_command(whole)


@pytest.mark.parametrize(
    ("line", "faults"),
    [
        ("sanji up TOPOLOGY --state DIR", 0), ("sanji", 0), (".venv/bin/python -m deploy.cli up T --no-split", 0),
        ("$ SANJI_NODE=x sanji up T --state=d", 0), ("sanji COMMAND --help", 0), ("sanji key add N", 0), ("sanji key", 0),
        ("sanji fly", 1), ("sanji up T --fast --far", 2), ("sanji key take", 1), ("python3 -m deploy.cli key add N --state d", 1),
    ],
)  # fmt: skip
def test_a_wrong_command_is_found(line: str, faults: int) -> None:
    (found,) = [m for text in code(f"    {line}  # {line}") if (m := CALL.match(text))]
    assert len(list(wrong(found[1], small()))) == faults
    assert [t for t in code(f"one `{line}` two\n\n```sh\n{line} | less\n```\n") if CALL.match(t)] == [line, line]
    assert options(small()) >= {"--state", "--split", "--no-split", "--force"} and "--fast" not in options(small())
