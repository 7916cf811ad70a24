"""What people wrote comes into no log by an error: neither by a failing statement nor by an answer that is not as documented."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from shared.problems import install

WRITTEN = "call me, 13800000000"


def test_a_failing_statement_keeps_its_values_to_itself(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as failed, engine.begin() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:what)"), {"what": WRITTEN})
    assert WRITTEN not in str(failed.value)


class Number(BaseModel):
    number: int


@pytest.fixture
def client() -> Iterator[TestClient]:
    app, router = FastAPI(), APIRouter()

    @router.get("/wrong", response_model=Number)
    def wrong() -> dict[str, str]:
        return {"number": WRITTEN}

    install(app)
    app.include_router(router)
    with TestClient(app) as found:
        yield found


def test_an_answer_that_is_not_as_documented_keeps_its_values_to_itself(
    client: TestClient, capfd: pytest.CaptureFixture[str]
) -> None:
    with capture_logs() as logged:
        answer = client.get("/wrong")
    said = capfd.readouterr()
    assert answer.status_code == 500 and answer.headers["content-type"] == "application/problem+json"
    assert WRITTEN not in answer.text + said.out + said.err + str(logged)
