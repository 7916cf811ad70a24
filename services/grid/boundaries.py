"""Outlines of units from a file that the pack names, its own or one of an installed package; illustrative, never a statement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files as resources
from pathlib import Path

import shapely

from services.grid.domain import Area, Text, area
from services.grid.files import PackError, features
from shared.errors import Invalid


def located(folder: Path, package: str | None, name: str) -> Path:
    """The file `name` of the pack's folder or, with `package`, of that installed package. Raises ImportError, OSError."""
    home = folder
    if package is not None:
        home = Path(str(resources(package)))
    file = home / name
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {name}" + (f" in the package {package}" if package else ""))
    return file


@dataclass(frozen=True)
class Boundaries:
    """Files of outlines: `key` is the property with the code, `prefix` what stands before our code in it.

    A unit that several files know is taken from the first of them. `codes` are the units of interest.
    """

    files: tuple[Path, ...]
    key: str
    prefix: str
    crs: str
    source: Text
    note: Text
    codes: frozenset[str]

    @cached_property
    def areas(self) -> dict[str, Area]:
        """The outline of every unit that the files know; read at first use, about a third of a second. Raises PackError."""
        found: dict[str, Area] = {}
        for file in self.files:
            here: dict[str, list[Area]] = {}
            for code, outline in self._read(file):
                if code not in found:
                    here.setdefault(code, []).append(outline)
            found |= {code: shapely.union_all(outlines) for code, outlines in here.items()}
        return found

    def _read(self, file: Path) -> Iterator[tuple[str, Area]]:
        for number, feature in enumerate(features(file, (self.crs,)), start=1):
            properties = feature.get("properties") if isinstance(feature, dict) else None
            key = properties.get(self.key) if isinstance(properties, dict) else None
            # Some publishers write codes as numbers.
            if (text := str(key)).startswith(self.prefix) and (code := text.removeprefix(self.prefix)) in self.codes:
                yield code, _mended(file, number, feature.get("geometry"))


def _mended(file: Path, number: int, geometry: object) -> Area:
    """A picture may touch itself, which a cell may not: it is mended, since nothing is decided by it."""
    try:
        found = area(geometry)
    except Invalid as error:
        raise PackError(file, f"feature {number}", "geometry", error.detail) from None
    mended: Area = shapely.make_valid(found, method="structure")
    return mended
