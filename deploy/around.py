"""What the services ask of their surroundings: places and names of the data pack, the node's calendar, catalogue and rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from services.case import policy, rewards, rulebook
from services.case.calendar import calendar_of
from services.case.editions import catalogue_of
from services.grid.packs import Pack
from services.grid.parts import Part, read_parts
from shared.errors import Invalid
from shared.settings import Node


@dataclass(frozen=True)
class Located:
    cell: str | None
    division: str


class Around:
    """The surroundings of one node."""

    def __init__(self, node: Node, pack: Pack) -> None:
        self.zone: ZoneInfo = node.tz
        self.calendar = calendar_of(node.tz, node.calendar)
        self.catalogue = catalogue_of(pack.standards.published(), node.path)
        self.policy = policy.kept()
        self.rewards = rewards.kept()
        self.routes = rulebook.routes(rulebook.shipped(node.pack))
        self._code, self._pack = node.code, pack
        self._cells = {c.code: c for c in pack.cells.cells}
        self._names = {d.code: {"zh": d.name_zh, "en": d.name_en} for d in pack.divisions if d.at(self._today())}
        self._parts = read_parts(node.pack)
        self._chains: dict[str, tuple[str, ...]] = {}

    def _today(self) -> date:
        return datetime.now(self.zone).date()

    def locate(self, lon: float, lat: float) -> Located:
        """Raises Invalid for a point outside the node."""
        cell = self._pack.cells.locate(lon, lat)
        if cell is None or self._code not in self.chain(cell.division):
            raise Invalid("this place lies outside the node", field="/lon")
        return Located(cell.code, cell.division)

    def centre(self, cell: str) -> tuple[float, float]:
        """A point inside a cell, which its middle need not be. Raises Invalid."""
        if cell not in self._cells:
            raise Invalid(f"no grid cell {cell} is known here", field="/cell")
        point = self._cells[cell].outline.representative_point()
        return round(point.x, 7), round(point.y, 7)

    def part(self, code: str) -> Part | None:
        """A part of the register, None where none has this code."""
        return self._parts.get(code)

    def chain(self, division: str) -> tuple[str, ...]:
        """The divisions that a division lies in, itself first."""
        if division not in self._chains:
            self._chains[division] = self._pack.chain(division, self._today())
        return self._chains[division]

    def names(self, division: str) -> dict[str, str]:
        return self._names.get(division) or {"zh": division, "en": division}
