"""What the catalogue's routes take and answer, as their interface document shows it."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from contracts.base import Edition as Code
from services.case.differences import Difference
from services.case.entries import CODE, Category, Condition, Content, Department, Major
from services.case.questions import Question
from services.case.texts import Day, plain

Note = Annotated[str, Field(max_length=500), AfterValidator(plain)]


class Brief(BaseModel):
    """An edition without what it says; it holds from `valid_from` up to, but not on, `valid_to`."""

    code: str
    node: str | None = Field(description="who published it; null for the data pack's own, which holds where no other does")
    valid_from: date | None
    valid_to: date | None
    note: str


class Listed(BaseModel):
    """A category with what its code says."""

    code: str
    kind: Literal["part", "event"]
    family: str = Field(description="kind and major class")
    zh: str
    en: str
    extension: bool
    source: str
    conditions: list[Condition] = Field(description="the first one counts where nobody names one")
    questions: list[Question]


class InForce(BaseModel):
    """The catalogue of a day."""

    day: date
    edition: Brief
    majors: list[Major]
    departments: list[Department]
    categories: list[Listed]
    additions: list[str] = Field(description="codes of categories that this node added for itself")
    set_aside: list[str] = Field(description="codes of its additions that have no room in this edition")


class Added(BaseModel):
    """A category that this node added for itself, and when it holds."""

    category: Category
    valid_from: date
    valid_to: date | None


class Known(BaseModel):
    """All editions and additions; `free`: the number that the next addition to a family takes."""

    editions: list[Brief]
    additions: list[Added]
    free: dict[str, str]


class NewEdition(BaseModel):
    """An edition to publish; its code begins with the node's and a colon."""

    model_config = ConfigDict(extra="forbid", strict=True)
    code: Code = Field(examples=["650102:2027"])
    valid_from: Day
    valid_to: Day | None = None
    note: Note = ""
    content: Content
    dry_run: bool = Field(True, description="only say what would differ")


class Report(BaseModel):
    """What an edition changes against the one compared with, and whether it was published."""

    published: bool
    against: str
    difference: Difference
    ignored: list[str] = Field(description="sheets and columns that were not read")
    unmapped: list[str] = Field(description="codes of the older edition without a certain new one; their lines were left out")


class Withdrawal(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    code: Code


class NewAddition(BaseModel):
    """A category of the node's own; the same code again changes it from then on."""

    model_config = ConfigDict(extra="forbid", strict=True)
    category: Category
    valid_from: Day
    note: Note = ""


class Ending(BaseModel):
    """`valid_to`: the first day on which the addition holds no more."""

    model_config = ConfigDict(extra="forbid", strict=True)
    category: Annotated[str, Field(pattern=f"^{CODE}$", max_length=6)]
    valid_to: Day


class Done(BaseModel):
    done: Literal[True] = True
