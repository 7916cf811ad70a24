"""The command line `sanji`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.mapping import Mapping
from deploy.migrate import migrate as migrate_engine
from deploy.node import serve
from deploy.replay import replay as run_replay
from deploy.supervisor import Supervisor
from deploy.topology import load
from services.evaluation.queries import recount as recount_engine
from shared.auth import new_key
from shared.database import open_engine
from shared.settings import load as load_node

app = typer.Typer(help="City services on three tiers: run a federation, a node, and look after them.", no_args_is_help=True)
console = Console()
State = Annotated[Path, typer.Option(help="folder that holds all data")]
Settings = Annotated[Path, typer.Argument(help="a node's node.json")]


@app.command()
def up(topology: Path, state: State = Path(".sanji")) -> None:
    """Run a whole federation on this machine until Ctrl-C; starting again goes on with the data."""
    supervisor = Supervisor(load(topology), state)
    console.print(f"starting {len(supervisor.nodes)} nodes and their brokers; data in {state}")
    try:
        supervisor.up()
        console.print(table(supervisor))
        console.print("[bold]Ctrl-C stops all of it.[/bold]")
        supervisor.run(lambda: None)
    except TimeoutError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from None
    finally:
        supervisor.stop()
        console.print("stopped")


@app.command()
def node(settings: Settings) -> None:
    """Run one node alone, as on a county's own machine; its broker runs beside it."""
    serve(settings)


@app.command()
def migrate(settings: Settings) -> None:
    """Bring a node's database to the newest schema."""
    migrate_engine(open_engine(load_node(settings).database_url))
    console.print("the schema is current")


@app.command()
def recount(settings: Settings, mend: bool = False) -> None:
    """Count all facts anew and name each difference to the totals; 0 only if there is none."""
    found = recount_engine(open_engine(load_node(settings).database_url), mend=mend)
    for line in found:
        console.print(line)
    console.print(f"{len(found)} differences")
    raise typer.Exit(1 if found and not mend else 0)


@app.command()
def key(settings: Settings, role: str, holder: str, days: int = 90) -> None:
    """Make an API key of a node for a platform; it is shown this once."""
    here = load_node(settings)
    typer.echo(new_key(open_engine(here.database_url), here.code, role, holder, days))


@app.command()
def status(topology: Path, state: State = Path(".sanji")) -> None:
    """Which nodes of a running federation are ready."""
    console.print(table(Supervisor(load(topology), state)))


@app.command(name="import")
def import_(
    file: Path,
    mapping: Annotated[Path, typer.Option(help="how the file is read")],
    topology: Annotated[Path, typer.Option(help="the running federation")],
    state: State = Path(".sanji"),
    speed: Annotated[
        float | None, typer.Option(help="seconds of the record in one second; without it as fast as it goes")
    ] = None,
) -> None:
    """Bring a CSV or Parquet record into the running counties; interrupted, it goes on where it was."""

    def tell(done: int, of: int, outcomes: Counter[str]) -> None:
        console.print(f"{done} of {of} events: {', '.join(f'{n} {o}' for o, n in sorted(outcomes.items()))}")

    outcomes = run_replay(file, Mapping.load(mapping), load(topology), state.resolve(), tell, speed=speed)
    console.print(f"done: {dict(outcomes)}; refused ones wait in each county's quarantine")


def table(supervisor: Supervisor) -> Table:
    table = Table("node", "name", "page", "ready")
    for spec in supervisor.topology.nodes:
        table.add_row(spec.code, spec.names.en, f"http://127.0.0.1:{spec.port}/", "yes" if supervisor.ready(spec.code) else "no")
    return table


if __name__ == "__main__":
    app()
