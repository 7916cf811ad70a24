"""Two sealers of one log on PostgreSQL: wherever one comes between the steps of the other, each fact gets one place."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from deploy.migrate import migrate
from shared import log as logs
from shared.chain import EMPTY, link
from shared.database import open_engine
from tests.databases import Server
from tests.world import desk

LOG = "99/case"


@pytest.mark.parametrize("sealed_before", [0, 3])
@pytest.mark.parametrize("step", range(1, 5))
def test_another_sealer_comes_between(postgres: Server, step: int, sealed_before: int) -> None:
    url = postgres.fresh()
    one, other = open_engine(url), open_engine(url)
    migrate(one)
    for _ in range(sealed_before):
        desk(one).report()
    logs.seal(one, LOG)
    for _ in range(5):
        desk(one).report()
    done: list[str] = []

    def between(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        # Not before what would have to wait for it: a lock that is held ends only with the transaction that holds it.
        done.append(statement)
        if len(done) == step and statement.startswith("SELECT"):
            logs.seal(one, LOG)

    event.listen(other, "after_cursor_execute", between)
    try:
        logs.seal(other, LOG)
    except IntegrityError:
        assert sealed_before == 0, "two wrote the first head"
    event.remove(other, "after_cursor_execute", between)
    while logs.seal(other, LOG):
        pass
    found, end = logs.read_range(one, LOG, 1)
    assert [e.seq for e in found] == list(range(1, sealed_before + 6))
    chain = EMPTY.chain
    for entry in found:
        chain = link(chain, entry)
    assert chain == end
    with one.begin() as connection:
        assert logs.head(connection, logs.SEALER, LOG) == (1, len(found), end)
    one.dispose()
    other.dispose()
