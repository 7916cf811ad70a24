"""Reading a pack: the one that comes with the project, and every kind of mistake named by file, place and field."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import date
from pathlib import Path

import orjson
import pytest

from services.case.entries import checked
from services.grid.packs import Pack, PackError, load

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
PACK = ROOT / "deploy" / "packs" / "xinjiang"
DEMO = ("650102", "650103", "654002", "654003")

ABOUT = 'code = "1000"\nzone = "UTC"\nedition = "1"\nsources = ["me"]\n'
TOML = ABOUT + '[name]\nzh = "甲"\nen = "A"\n[note]\nzh = "例"\nen = "example"\n[codes]\nlengths = [4, 6]\n'
BOUNDARIES = (
    '[boundaries]\nfiles = ["cells.geojson"]\nkey = "division"\ncrs = "EPSG:4326"\n'
    '[boundaries.source]\nzh = "源"\nen = "source"\n[boundaries.note]\nzh = "注"\nen = "note"\n'
)
DIVISIONS = (
    "code,parent,name_zh,name_en,level_label,lon,lat,valid_from,valid_to\n"
    "1000,,甲,A,region,,,,\n1001,1000,乙,B,county,1.5,2.5,,2015-03-01\n1001,1000,丙,C,county,1.5,2.5,2015-03-01,\n"
)
CATALOGUE = "code,kind,name_zh,name_en,edition,valid_from\nE0101,event,丁,D,first,2014-01-01\n"
CONDITIONS = (
    "category,code,condition_zh,condition_en,limit,closing_zh,closing_en,department,helping,basis,grade\n"
    "E0101,1,立,when,3WH,结,done,north,south,,ordinary\nE0101,2,又立,or when,2WD,结,done,south,,法,urgent\n"
)
DEPARTMENTS = "code,name_zh,name_en,kind\nnorth,北,North,unit\nsouth,南,South,owner\n"
MAJORS = "kind,code,name_zh,name_en,standard\nevent,01,大,Major,yes\n"
QUESTIONS = '[[question]]\ncategory = "E0101"\nkey = "how_many"\nkind = "number"\nzh = "几个？"\nen = "How many?"\nminimum = 1\n'
LEGACY = "legacy,name_zh,code\nE0501,戊,E0101\nE0502,己,\n"
SQUARE = [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]
FEATURE = {"properties": {"code": "100101", "division": "1001"}, "geometry": {"type": "Polygon", "coordinates": SQUARE}}
CELLS = orjson.dumps({"type": "FeatureCollection", "features": [FEATURE]}).decode()
FILES = {
    "pack.toml": TOML, "divisions.csv": DIVISIONS, "catalogue.csv": CATALOGUE, "conditions.csv": CONDITIONS,
    "departments.csv": DEPARTMENTS, "majors.csv": MAJORS, "questions.toml": QUESTIONS, "legacy.csv": LEGACY,
    "cells.geojson": CELLS,
}  # fmt: skip


def written(folder: Path, **changed: str) -> Path:
    for name, text in FILES.items():
        (folder / name).write_text(changed.get(name.partition(".")[0], text), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load(PACK)


def test_a_small_pack_is_read(tmp_path: Path) -> None:
    small = load(written(tmp_path))
    assert (small.code, small.name.zh, small.note.en, small.sources) == ("1000", "甲", "example", ("me",))
    assert [d.name_en for day in (date(2015, 2, 28), date(2015, 3, 1)) if (d := small.division("1001", day))] == ["B", "C"]
    assert small.division("1002", date(2020, 1, 1)) is None
    assert (small.catalogue[0].limit_hours, small.catalogue[0].at(date(2013, 12, 31))) == (3, False)
    assert [(c.code, c.limit, c.department, c.helping) for c in small.catalogue[0].conditions] == [
        ("1", "3WH", "north", ("south",)), ("2", "2WD", "south", ()),
    ]  # fmt: skip
    cell = small.cells.locate(0.5, 0.5)
    assert cell is not None
    assert cell.code == "100101"
    assert small.boundaries is None


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("pack", 'code = "1000"', "code = 1000", "pack.toml, top level, code: must be a text"),
        ("pack", 'code = "1000"', 'code = "1001"', "pack.toml, top level, code: is no unit without parent"),
        ("pack", 'zone = "UTC"', 'zone = "Mars/Base"', "pack.toml, top level, zone: no time zone is called 'Mars/Base'"),
        ("pack", 'sources = ["me"]', "sources = []", "pack.toml, top level, sources:"),
        ("pack", 'en = "example"', "", "pack.toml, [note], en:"),
        ("pack", "[name]", "[name", "pack.toml, whole file, TOML:"),
        ("pack", "[4, 6]", '["4"]', "pack.toml, [codes], lengths: must be a list of numbers"),
        ("pack", "[4, 6]", "[6, 4]", "pack.toml, [codes], lengths: must rise"),
        ("pack", "[4, 6]", "[4]\ngroups = [7]", "pack.toml, [codes], groups: must be a list of texts"),
        ("divisions", ",valid_to\n", "\n", "divisions.csv, line 1, valid_to: the column is missing"),
        ("divisions", "甲", "", "divisions.csv, line 2, name_zh: must not be empty"),
        ("divisions", "1001,1000,乙", "1001,9999,乙", "divisions.csv, line 3, parent: no unit has the code 9999"),
        ("divisions", "1000,,甲", "1000,1001,甲", "divisions.csv, line 2, parent: 1000 lies below itself"),
        ("divisions", "1001,1000,乙", "10-1,1000,乙", "divisions.csv, line 3, code: a code has"),
        ("divisions", "乙,B,county,1.5", "乙,B,county,181", "divisions.csv, line 3, lon: must lie between"),
        ("divisions", "丙,C,county,1.5,2.5", "丙,C,county,1.5,nan", "divisions.csv, line 4, lat: must lie between"),
        ("divisions", "2.5,,2015-03-01", "2.5,,2015-13-01", "divisions.csv, line 3, valid_to: "),
        ("divisions", "2.5,,2015-03-01", "2.5,2016-01-01,2015-03-01", "divisions.csv, line 3, valid_to: must come after"),
        ("divisions", "2.5,,2015-03-01", "2.5,,2015-03-02", "divisions.csv, line 4, code: 1001 holds twice"),
        ("divisions", "region,,,,\n", "region,,,\n", "divisions.csv, line 2, row: has 8 fields, the head 9"),
        ("divisions", "丙,C", '"丙"x,C', "divisions.csv, line 4, CSV:"),
        ("pack", "[codes]", '[catalogue]\nedition = "一"\n[codes]', "pack.toml, [catalogue], edition: has 1 to 40 letters"),
        ("pack", "[codes]", "[catalogue]\nsources = 1\n[codes]", "pack.toml, [catalogue], sources: must be a list of texts"),
        ("catalogue", "E0101,event", "E0101,idea", "catalogue.csv, line 2, kind: must be one of part, event"),
        ("catalogue", "E0101,event", "P0101,event", "catalogue.csv, line 2, code: P0101 lies in no major class of this kind"),
        ("catalogue", "E0101,event", "E0201,event", "catalogue.csv, line 2, code: E0201 lies in no major class of this kind"),
        ("catalogue", "E0101,event", "E0102,event", "catalogue.csv, line 2, code: E0102 has no filing condition"),
        ("catalogue", "2014-01-01\n", "2014-01-01\nE0101,event,丁,D,x,\n", "catalogue.csv, line 3, code: E0101 stands here"),
        ("conditions", ",3WH,", ",0WH,", "conditions.csv, line 2, limit: a limit is an amount and one of UH"),
        ("conditions", ",3WH,", ",3天,", "conditions.csv, line 2, limit: a limit is an amount and one of UH"),
        ("conditions", "north,south", "east,south", "conditions.csv, line 2, department: no department has the code east"),
        ("conditions", "north,south", "north,south east", "conditions.csv, line 2, department: no department has the code east"),
        ("conditions", "E0101,2", "E0101,1", "conditions.csv, line 3, code: E0101 has the condition 1 twice"),
        ("conditions", "E0101,2", "E0102,2", "conditions.csv, line 3, category: no category has the code E0102"),
        ("departments", "south,南", "north,南", "departments.csv, line 3, code: north stands here a second time"),
        ("departments", "south,南", "so uth,南", "departments.csv, line 3, code: has 1 to 80 letters"),
        ("majors", "event,01", "event,1", "majors.csv, line 2, code: a major class has 2 digits"),
        ("majors", "Major,yes", "Major,perhaps", "majors.csv, line 2, standard: must be one of yes, no"),
        ("questions", "E0101", "E0102", "questions.toml, question 1, category: no category has the code E0102"),
        ("questions", "[[question]]", "[[question]", "questions.toml, whole file, TOML:"),
        ("legacy", "戊,E0101", "戊,E0102", "legacy.csv, line 2, code: no category has the code E0102"),
        ("legacy", "E0502", "E0501", "legacy.csv, line 3, legacy: E0501 stands here a second time"),
        ("cells", '"1001"', '"2001"', "cells.geojson, feature 1, properties.division: 2001 begins with no unit"),
        ("cells", '"Polygon"', '"Line"', "cells.geojson, feature 1, geometry:"),
        ("cells", '"features"', '"things"', "cells.geojson, whole file, features:"),
        ("cells", '"features"', '"crs": "GCJ-02", "features"', "cells.geojson, whole file, crs: must be one of"),
        ("cells", "[{", "[7,{", "cells.geojson, feature 1, properties:"),
        ("cells", "[{", "[{]", "cells.geojson, line 1, JSON:"),
        ("cells", "}]}", "},]}", "cells.geojson, line 1, JSON: a comma or the end of the list is missing"),
        ("cells", "}]}", "}", "cells.geojson, line 1, JSON: a comma or the end of the list is missing"),
        ("cells", '{"type":"F', '{"x":{"features":[]},"type":"F', "cells.geojson, whole file, features:"),
    ],
)
def test_a_mistake_is_named_by_file_place_and_field(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    text = next(t for n, t in FILES.items() if n.startswith(file))
    assert old in text
    written(tmp_path, **{file: text.replace(old, new, 1)})
    with pytest.raises(PackError) as caught:
        load(tmp_path)
    assert caught.value.detail.startswith(said)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("EPSG:4326", "GCJ-02", "pack.toml, [boundaries], crs: must be one of OGC:CRS84, EPSG:4326, EPSG:4490, not 'GCJ-02'"),
        ("cells.geojson", "map.geojson", "pack.toml, [boundaries], files: there is no file map.geojson"),
        ("files =", 'package = "no_such_package"\nfiles =', "pack.toml, [boundaries], package: No module named"),
        ('zh = "注"', "", "pack.toml, [boundaries.note], zh: must be a text"),
        ('key = "division"', "", "pack.toml, [boundaries], key: must be a text"),
    ],
)
def test_a_mistake_about_boundaries_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in BOUNDARIES
    written(tmp_path, pack=TOML + BOUNDARIES.replace(old, new, 1))
    with pytest.raises(PackError) as caught:
        load(tmp_path)
    assert caught.value.detail.startswith(said)


def test_a_boundary_file_in_another_crs_than_declared_is_refused(tmp_path: Path) -> None:
    named = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4490"}}
    cells = orjson.dumps({"type": "FeatureCollection", "crs": named, "features": [FEATURE]}).decode()
    found = load(written(tmp_path, pack=TOML + BOUNDARIES, cells=cells)).boundaries
    assert found is not None
    with pytest.raises(PackError, match=r"cells\.geojson, whole file, crs: must be one of EPSG:4326, not EPSG:4490"):
        _ = found.areas


def test_the_chain_of_a_division_or_cell_leads_to_the_root(pack: Pack) -> None:
    day = date(2025, 1, 1)
    assert pack.chain("650102990001", day) == ("650102990001", "650102990", "650102", "650100", "650000")
    assert pack.chain("652801123456", day) == ("652801123456", "652801123", "652801", "652800", "650000"), "not named by the pack"
    assert pack.chain("659001", day) == ("659001", "659000", "650000")
    assert pack.chain("650000", day) == ("650000",)
    assert pack.chain("99", day) == ("99",), "nothing is known above it"


def test_the_chain_of_a_unit_that_is_gone_goes_by_its_last_record(pack: Pack) -> None:
    assert pack.chain("652122", date(2025, 1, 1)) == ("652122", "652100", "650000")
    assert pack.chain("650421", date(2000, 1, 1)) == ("650421", "650400", "650000"), "and one to come by its first"


def test_a_cell_may_stand_once_only(tmp_path: Path) -> None:
    written(tmp_path, cells=orjson.dumps({"features": [FEATURE, FEATURE]}).decode())
    with pytest.raises(PackError, match=r"cells\.geojson, feature 2, properties\.code: 100101 stands here a second time"):
        load(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (written(tmp_path) / "catalogue.csv").unlink()
    with pytest.raises(PackError, match=r"catalogue\.csv, whole file, file:"):
        load(tmp_path)


def test_what_is_published_of_a_small_pack_is_taken_by_the_case_service(tmp_path: Path) -> None:
    published = load(written(tmp_path)).standards.published()
    content = checked(published["content"])
    assert published["edition"] == "1" and published["legacy"] == {"edition": "", "codes": {"E0501": "E0101"}}
    category = content.categories[0]
    assert (category.family, category.default.limit, category.condition("2").basis) == ("E01", "3WH", "法")
    assert [(q.key, q.minimum) for q in category.questions] == [("how_many", 1)]


def test_questions_and_legacy_codes_may_be_absent(tmp_path: Path) -> None:
    written(tmp_path)
    for name in ("questions.toml", "legacy.csv"):
        (tmp_path / name).unlink()
    standards = load(tmp_path).standards
    assert (standards.questions, standards.legacy) == ({}, {})


def test_the_pack_s_catalogue_keeps_every_rule(pack: Pack) -> None:
    content = checked(pack.standards.published()["content"])
    conditions = [c for category in content.categories for c in category.conditions]
    assert (len(content.categories), len(conditions)) == (133, 368)
    assert all(c.zh and c.en and c.closing_zh and c.closing_en for c in conditions)
    assert all(c.zh and c.en for c in (*content.categories, *content.majors, *content.departments))
    assert {d.code for d in content.departments} == {d for c in conditions for d in (c.department, *c.helping)}
    assert sum(bool(c.questions) for c in content.categories) == 7
    assert all("INFERRED" not in c.source and "inferred" not in c.source for c in content.categories)
    assert any("no conformance" in s for s in pack.sources)


def test_the_pack_s_conditions_are_those_of_the_public_list(pack: Pack) -> None:
    source = SHARED / "domain" / "taxonomy.csv"
    if not source.exists():
        pytest.skip("the development data beside the checkout is absent")
    with source.open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if "(Yuncheng)" in r["edition"] and r["is_extension"] == "0"]
    wanted = {}
    for r in rows:
        entries = dict.fromkeys(p.strip() for p in r["typical_limit"].split("; "))
        wanted[r["kind"][0].upper() + r["code"]] = [e.rsplit("=", 1)[1] for e in entries]
    assert {c.code: [x.limit for x in c.conditions] for c in pack.catalogue if c.code != "E9999"} == wanted


def test_a_legacy_code_is_mapped_only_where_the_name_is_the_same(pack: Pack) -> None:
    with (PACK / "legacy.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = {c.code: c.name_zh for c in pack.catalogue}
    flat = str.maketrans("（）", "()")
    assert all(r["name_zh"].translate(flat) == names[r["code"]].translate(flat) for r in rows if r["code"])
    assert len(rows) == 139 and len(pack.standards.legacy) == 66
    # The major classes 04 and 05 of events changed places between the editions.
    assert {pack.standards.legacy[c] for c in ("E0401", "E0506")} == {"E0505", "E0410"}
    assert "P0114" not in pack.standards.legacy, "the same number is another cover today"


def test_the_pack_has_its_units_and_categories(pack: Pack) -> None:
    today = [d for d in pack.divisions if d.at(date(2025, 1, 1)) and len(d.code) == 6]
    assert (len(today), len({d.code for d in today})) == (126, 126)
    kinds = Counter((c.edition, c.kind) for c in pack.catalogue if not c.edition.startswith("addition"))
    assert kinds == {("GB/T 30428.2 numbering (one city's list)", kind): 66 for kind in ("part", "event")}
    assert "statement on boundaries" in pack.note.en


@pytest.mark.parametrize("day", [date(1985, 1, 1), date(2002, 1, 1), date(2015, 3, 1), date(2016, 8, 1), date(2025, 1, 1)])
def test_every_county_has_a_parent_that_held_on_the_same_day(pack: Pack, day: date) -> None:
    held = {d.code for d in pack.divisions if d.at(day)}
    # The virtual parent of the cities without prefecture appears in the record later than the first of them.
    virtual = "659000"
    assert [d.code for d in pack.divisions if d.at(day) and d.parent and d.parent not in held | {virtual}] == []


def test_a_recoded_unit_hands_over_on_one_day(pack: Pack) -> None:
    last, first = date(2015, 2, 28), date(2015, 3, 1)
    assert [bool(pack.division(c, last)) for c in ("652100", "650400", "652122", "650421")] == [True, False, True, False]
    assert [bool(pack.division(c, first)) for c in ("652100", "650400", "652122", "650421")] == [False, True, False, True]


def test_the_demo_cells_are_numbered_from_the_north_west_and_meet_without_gaps(pack: Pack) -> None:
    cells = pack.cells.cells
    assert Counter(c.code[:6] for c in cells) == dict.fromkeys(DEMO, 36)
    assert {d.parent for d in pack.divisions if d.code in DEMO} == {"650100", "654000"}
    assert Counter(c.division for c in cells) == dict.fromkeys((d.code for d in pack.divisions if len(d.code) == 12), 9)
    assert all(len(c.code) == 15 and c.code[:12] == c.division and len(c.division) == 12 for c in cells)
    for county in DEMO:
        own = [c for c in cells if c.code.startswith(county)]
        for community in {c.division for c in own}:
            inside = [c for c in own if c.division == community]
            assert inside == sorted(inside, key=lambda c: (-c.outline.bounds[3], c.outline.bounds[0]))
        west, _, _, north = own[0].outline.bounds
        _, south, east, _ = own[-1].outline.bounds
        assert sum(c.outline.area for c in own) == pytest.approx((east - west) * (north - south))


def test_the_demo_cells_lie_in_named_streets_and_communities_inside_their_county(pack: Pack) -> None:
    levels = Counter((d.level_label, d.code[:6]) for d in pack.divisions if len(d.code) > 6)
    assert levels == {(level, county): n for county in DEMO for level, n in (("街道", 2), ("社区", 4))}
    assert all("演示" in d.name_zh and d.name_en.startswith("Demo ") for d in pack.divisions if len(d.code) > 6)
    assert pack.boundaries is not None
    assert all(pack.boundaries.areas[c.division[:6]].covers(c.outline) for c in pack.cells.cells)


def test_the_units_are_those_of_the_public_table(pack: Pack) -> None:
    source = SHARED / "data" / "divisions" / "xj_divisions.csv"
    if not source.exists():
        pytest.skip("the development data beside the checkout is absent")
    with source.open(encoding="utf-8") as file:
        wanted = {(r["code"], r["name"], r["parent_code"].replace("000000", "")) for r in csv.DictReader(file)}
    assert {(d.code, d.name_zh, d.parent or "") for d in pack.divisions if d.at(date(2025, 1, 1)) and len(d.code) == 6} == wanted
