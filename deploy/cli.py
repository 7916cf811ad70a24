"""The command line `sanji`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy import audit, client, issuer, views
from deploy.mapping import Mapping
from deploy.migrate import migrate as migrate_engine
from deploy.render import render
from deploy.replay import Plan, Replay, planned
from deploy.supervisor import Supervisor
from deploy.topology import load
from deploy.verify import verify as verify_engine
from services.evaluation.recount import recount as recount_engine
from shared.auth import ROLES, new_key
from shared.database import open_engine, reading
from shared.errors import SanjiError
from shared.settings import load as load_node

app = typer.Typer(
    help="City services on three tiers: run a federation, a node, and look after them.", no_args_is_help=True,
    pretty_exceptions_enable=False,
)  # fmt: skip
app.add_typer(audit.app, name="audit")
console = Console()
TopologyFile = Annotated[Path, typer.Argument(help="the federation's topology file", exists=True, dir_okay=False)]
State = Annotated[Path, typer.Option(help="folder that holds all data")]
Settings = Annotated[Path, typer.Argument(help="a node's node.json", exists=True, dir_okay=False)]
Running = Annotated[Path, typer.Option(help="topology file of the running federation", exists=True)]
Given = Annotated[Path | None, typer.Option(help="how the file is read; without it the mapping named like the file")]
Record = Annotated[Path, typer.Argument(help="CSV or Parquet file", exists=True, dir_okay=False)]
STATE = Path(".sanji")


def fail(reason: object) -> NoReturn:
    console.print(f"[red]{reason}[/red]")
    raise typer.Exit(1)


@app.command()
def up(
    topology: TopologyFile, state: State = STATE,
    split: Annotated[bool, typer.Option(help="run each service as a process of its own")] = False,
) -> None:  # fmt: skip
    """Run a whole federation on this machine until Ctrl-C; starting again goes on with the data."""
    supervisor = Supervisor(load(topology), state, split=split)
    console.print(f"starting {len(supervisor.children())} processes of {len(supervisor.brokers)} nodes; data in {state}")
    try:
        supervisor.up()
        views.watch(supervisor, console, lambda: load(topology))
    except TimeoutError as error:
        fail(error)
    finally:
        supervisor.stop()
        console.print("stopped")


@app.command()
def apply(topology: TopologyFile, state: State = STATE) -> None:
    """Take a changed topology into a running federation: new nodes start, nothing that runs is restarted."""
    wanted = load(topology)
    pid_file = state / "up.pid"
    if not pid_file.exists():
        fail(f"no federation runs from {state}: start it with sanji up")
    os.kill(int(pid_file.read_text()), signal.SIGHUP)
    until = time.monotonic() + 60
    waiting = list(wanted.nodes)
    while waiting and time.monotonic() < until:
        waiting = [spec for spec in waiting if not client.ready(spec.port)]
        time.sleep(0.2)
    console.print(views.nodes(wanted))
    if waiting:
        fail(f"not ready after 60 s: {', '.join(spec.code for spec in waiting)}")


@app.command()
def node(
    settings: Settings,
    broker: Annotated[bool, typer.Option(help="also run the node's broker")] = True,
) -> None:
    """Run one node alone with its broker, as on a county's own machine, until Ctrl-C."""
    supervisor = Supervisor.alone(settings, broker=broker)
    try:
        supervisor.up()
        console.print(f"{settings} is ready; Ctrl-C stops it")
        supervisor.run(lambda: None)
    except TimeoutError as error:
        fail(error)
    finally:
        supervisor.stop()


@app.command(name="render")
def render_(topology: TopologyFile, code: str, state: State = STATE) -> None:
    """Write the settings and the broker configuration of one node, to be carried to its machine; prints where they are."""
    typer.echo(render(load(topology), code, state.resolve()))


@app.command()
def migrate(settings: Settings) -> None:
    """Bring a node's database to the newest schema."""
    migrate_engine(open_engine(load_node(settings).database_url))
    console.print("the schema is current")


@app.command()
def recount(
    settings: Settings, mend: Annotated[bool, typer.Option(help="let the new count take the place of the kept one")] = False
) -> None:
    """Count all facts anew and name each difference to the totals; 0 only if there is none."""
    found = recount_engine(open_engine(load_node(settings).database_url), mend=mend)
    for line in found:
        console.print(line)
    console.print(f"{len(found)} differences")
    raise typer.Exit(1 if found and not mend else 0)


@app.command()
def verify(settings: Settings) -> None:
    """Recompute the hash chain of every log that a node holds; 0 only if all of them prove themselves."""
    found = verify_engine(open_engine(load_node(settings).database_url))
    console.print(views.checked(found))
    raise typer.Exit(1 if any(c.fault for c in found) else 0)


@app.command()
def quarantine(settings: Settings) -> None:
    """List what was received over the bus and never applied because it is wrong, with the reason."""
    with reading(open_engine(load_node(settings).database_url)) as connection:
        console.print(views.quarantined(connection))


@app.command()
def key(settings: Settings, role: str, holder: str, days: int = 90) -> None:
    """Make an API key of a node for a platform (such as integrator urn:my:platform); it is shown this once."""
    if role not in ROLES:
        fail(f"no role {role}; known are: {', '.join(sorted(ROLES))}")
    here = load_node(settings)
    typer.echo(new_key(open_engine(here.database_url), here.code, role, holder, days))


@app.command()
def token(account: str, topology: Running, state: State = STATE) -> None:
    """Print a bearer token of a demonstration's account, good for twelve hours."""
    try:
        typer.echo(issuer.token(state.resolve(), load(topology), account))
    except KeyError:
        fail(f"no account {account}; known are: {', '.join(issuer.accounts(load(topology)))}")
    except ValueError as error:
        fail(error)


@app.command()
def status(topology: TopologyFile) -> None:
    """Which nodes of a running federation are ready, and how well each hears those below."""
    wanted = load(topology)
    console.print(views.nodes(wanted))
    console.print(views.links(wanted))


@app.command(name="import")
def import_(
    file: Record, topology: Running, mapping: Given = None, state: State = STATE,
    into: Annotated[str | None, typer.Option(help="node that takes all records, at their own places")] = None,
) -> None:  # fmt: skip
    """Bring a record into running counties as fast as it goes; interrupted, it goes on where it was.

    Without --into the records are placed onto the federation's counties by their id, for a demonstration.
    """
    _bring(file, topology, mapping, state, into, None)


@app.command()
def replay(
    file: Record, topology: Running, mapping: Given = None, state: State = STATE,
    into: Annotated[str | None, typer.Option(help="node that takes all records, at their own places")] = None,
    speed: Annotated[float, typer.Option(help="seconds of the record in one second", min=0.001)] = 86400,
) -> None:  # fmt: skip
    """Play a record into running counties as if it were happening, in order of time."""
    _bring(file, topology, mapping, state, into, speed)


def _bring(file: Path, topology: Path, mapping: Path | None, state: Path, into: str | None, speed: float | None) -> None:
    how, wanted = Mapping.load(mapping) if mapping else Mapping.of(file), load(topology)
    plan = planned(file, how, wanted, into)
    replay = Replay(plan, how.dataset, wanted, state.resolve(), speed)
    run(replay, plan)


def run(replay: Replay, plan: Plan) -> None:
    """Push with a progress bar, then say what became of it and list what was refused."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"events into {len(plan)} nodes", total=replay.total)
        replay.run(lambda now: progress.update(bar, completed=now.done))
    console.print(views.outcome(replay))


def main() -> None:
    """The entry point: our own errors are one line, not a stack."""
    try:
        app()
    except SanjiError as error:
        console.print(f"[red]{error.detail}[/red]")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
