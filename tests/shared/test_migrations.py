"""Schema from migrations = schema from the tables in code, at once and step by step, on both databases."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData

import services.case.parts  # noqa: F401
import services.case.tables
import services.evaluation.tables
import shared.auth  # noqa: F401
import shared.kept  # noqa: F401
import shared.lease  # noqa: F401
import shared.log  # noqa: F401
import shared.reader  # noqa: F401
from deploy.migrate import migrate, steps
from shared.database import metadata


def everything() -> list[MetaData]:
    return [metadata, services.case.tables.metadata, services.evaluation.tables.metadata]


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        found = compare_metadata(context, everything())  # type: ignore[arg-type]
        return [d for d in found if not (d[0] == "remove_table" and d[1].name.startswith("alembic"))]


def test_from_scratch(empty_engine: Engine) -> None:
    migrate(empty_engine)
    assert differences(empty_engine) == []


def test_step_by_step_and_again(empty_engine: Engine) -> None:
    assert len(steps()) >= 3
    for step in steps():
        migrate(empty_engine, step)
    migrate(empty_engine)
    assert differences(empty_engine) == []
