"""Brings a node's database to the newest schema; each service keeps its steps in its own folder."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("shared", "services/case", "services/evaluation")


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", str(ROOT / "deploy" / "migrations"))
    made.set_main_option("path_separator", "newline")
    made.set_main_option("version_locations", "\n".join(str(ROOT / f / "migrations") for f in FOLDERS))
    return made


def migrate(engine: Engine, target: str = "heads") -> None:
    """Run the steps up to `target`. Safe to call on a current database: then it changes nothing."""
    made = config()
    with engine.begin() as connection:
        made.attributes["connection"] = connection
        command.upgrade(made, target)


def steps() -> list[str]:
    """Every revision in an order in which each follows those that it needs."""
    return [r.revision for r in reversed(list(ScriptDirectory.from_config(config()).walk_revisions()))]


def behind(engine: Engine) -> bool:
    """Whether some step has not been run on this database yet."""
    with engine.connect() as connection:
        known = set(MigrationContext.configure(connection).get_current_heads())
    return known != set(ScriptDirectory.from_config(config()).get_heads())
