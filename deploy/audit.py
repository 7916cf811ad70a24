"""`sanji audit`: checks the audit log of a node by its own chain and by a head that was known before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shared import audit
from shared.database import open_engine
from shared.settings import load

app = typer.Typer(help="The audit log of a node.", no_args_is_help=True)
Since = Annotated[str | None, typer.Option(help="a head printed earlier, SIZE:CHAIN; without it the one beside the database")]


@app.callback()
def audit_() -> None:
    """The audit log of a node."""


@app.command()
def verify(
    settings: Annotated[Path, typer.Argument(help="a node's node.json", exists=True, dir_okay=False)], since: Since = None
) -> None:
    """Recompute the chain of the audit log and print its head; 0 only if nothing was altered, taken out, added or cut off."""
    node = load(settings)
    try:
        known = audit.Head.parse(since) if since else audit.seen(node.audit_head)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    found = audit.verify(open_engine(node.database_url), known)
    typer.echo(f"{found.head.size} entries prove themselves, held against a head of {known.size}")
    typer.echo(f"head {found.head}")
    typer.echo(found.fault or "ok")
    raise typer.Exit(1 if found.fault else 0)
