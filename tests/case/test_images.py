"""Cleaning of photos: what passes is a new picture without a trace of the old file, what does not is refused in words."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from services.case import images
from services.case.images import Cleaned, Cleaners, clean, head, segments
from shared.errors import Busy, Invalid
from tests.case.pictures import BOMBS, MAKER, TOKEN, icc_swapped, marked, planted, png, written


def opened(data: bytes) -> Image.Image:
    found = Image.open(io.BytesIO(data))
    found.load()
    return found


def corners(picture: Image.Image) -> str:
    """The colours of the corners, clockwise from the upper left: r, g or b."""
    width, height = picture.size
    spots = ((4, 4), (width - 5, 4), (width - 5, height - 5), (4, height - 5))
    return "".join("rgb"[max(range(3), key=lambda n, s=spot: picture.getpixel(s)[n])] for spot in spots)  # type: ignore[misc,index]


def refused(data: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words) as error:
        clean(data)
    assert error.value.field == "/file"


# What passes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_photo_becomes_a_bounded_jpeg_with_a_thumbnail(form: str) -> None:
    found = clean(written(marked((3000, 2000)), form))
    picture, thumb = opened(found.image), opened(found.thumb)
    assert picture.format == thumb.format == "JPEG" and picture.mode == "RGB"
    assert picture.size == (found.width, found.height) == (2048, 1365) and thumb.size == (320, 213)
    assert corners(picture) == corners(thumb) == "rbgg" and picture.info.get("progressive")


SIZES = [((1, 1), (1, 1)), ((50, 70), (50, 70)), ((12000, 10), (2048, 2)), ((3, 9000), (1, 2048))]


@pytest.mark.parametrize(("size", "wanted"), SIZES)
def test_nothing_is_enlarged_and_no_side_vanishes(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    found = clean(written(Image.new("RGB", size, "green"), "PNG"))
    assert (found.width, found.height) == opened(found.image).size == wanted


@pytest.mark.parametrize(
    ("mode", "colour"),
    [("1", 1), ("L", 200), ("LA", (200, 255)), ("P", 0), ("RGB", (9, 9, 200)), ("RGBA", (9, 9, 200, 255)), ("I;16", 51200)],
)
@pytest.mark.parametrize("side", [60, 2500])
def test_every_kind_of_pixels_becomes_the_colour_that_it_shows(mode: str, colour: object, side: int) -> None:
    picture = Image.new(mode, (side, side), colour)  # type: ignore[arg-type]
    if mode == "P":
        picture.putpalette([200, 200, 200] * 256)
    shown = opened(clean(written(picture, "PNG")).image).getpixel((5, 5))
    wanted = {"1": (255,) * 3, "RGB": (9, 9, 200), "RGBA": (9, 9, 200)}.get(mode, (200,) * 3)
    assert isinstance(shown, tuple) and all(abs(a - b) <= 4 for a, b in zip(shown, wanted, strict=True)), shown


@pytest.mark.parametrize(("mode", "clear"), [("RGBA", (200, 0, 0, 0)), ("LA", (0, 0))])
def test_what_is_transparent_becomes_white(mode: str, clear: tuple[int, ...]) -> None:
    shown = opened(clean(written(Image.new(mode, (40, 40), clear), "PNG")).image)
    assert shown.getpixel((9, 9)) == (255, 255, 255)


def test_a_colour_profile_is_applied_and_left_out() -> None:
    """Of a profile that swaps red and blue, and of ones that are broken."""
    plain = written(Image.new("RGB", (40, 40), (120, 60, 200)))
    swapped = icc_swapped()
    shown = opened(clean(written(Image.new("RGB", (40, 40), (120, 60, 200)), icc_profile=swapped)).image)
    red, _, blue = shown.getpixel((9, 9))  # type: ignore[misc]
    assert red > blue and "icc_profile" not in shown.info
    for broken in (b"x" * 500, swapped[:200]):
        found = clean(written(Image.new("RGB", (40, 40), (120, 60, 200)), icc_profile=broken))
        assert found == clean(plain)


TURNED = {1: "rbgg", 2: "brgg", 3: "ggrb", 4: "ggbr", 5: "rggb", 6: "grbg", 7: "gbrg", 8: "bggr"}
"""Where the red and the blue corner come to lie, by the orientation that the file names."""


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_is_turned_upright(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = clean(written(marked(), form, exif=exif.tobytes()))
    picture = opened(found.image)
    assert corners(picture) == TURNED[orientation], corners(picture)
    assert picture.size == ((120, 80) if orientation < 5 else (80, 120)) == (found.width, found.height)
    assert not picture.getexif()


def test_broken_exif_does_not_cost_the_photo() -> None:
    for exif in (b"Exif\0\0" + os.urandom(300), b"Exif\0\0II*\0\xff\xff\xff\xff"):
        assert clean(written(marked(), exif=exif)).width == 120


def test_the_same_photo_gives_the_same_bytes() -> None:
    data = written(marked((2500, 1000)))
    assert clean(data) == clean(data)


def test_a_jpeg_with_more_pictures_in_it_is_its_first(tmp_path: Path) -> None:
    """As phones write them: a second picture for depth or for the screen behind the first."""
    data = written(marked(), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    found = opened(clean(data).image)
    assert found.size == (120, 80) and corners(found) == "rbgg"


# Nothing of the old file is left -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", planted())
def test_no_byte_beside_the_pixels_comes_through(name: str) -> None:
    data = planted()[name]
    assert TOKEN in data
    found = clean(data)
    for picture in (found.image, found.thumb):
        assert TOKEN not in picture and b"Exif" not in picture and b"<" + b"script" not in picture and b"PK\3\4" not in picture
        markers = {marker for marker, _, _ in segments(picture)}
        assert markers <= {0xE0, 0xDB, 0xC0, 0xC2, 0xC4, 0xDA}, "JFIF, tables and pixels only"
        assert set(opened(picture).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "progressive", "progression"}


# What is refused ---------------------------------------------------------------------------------------------------------


def other() -> dict[str, tuple[bytes, str]]:
    picture = marked()
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    return {
        "empty": (b"", "this is empty"), "text": (b"hello", "something else"), "gif": (written(picture, "GIF"), "this is GIF"),
        "bmp": (written(picture, "BMP"), "this is BMP"), "tiff": (written(picture, "TIFF"), "this is TIFF"),
        "pdf": (written(picture, "PDF"), "this is PDF"), "heic": (heic, "HEIC.*most compatible"),
        "avif": (written(picture, "AVIF"), "this is AVIF"), "film": (b"\0\0\0\x18ftypmp42", "this is a film"),
        "svg": (b"\n <?xml version='1.0'?><svg onload='x()'/>", "SVG"), "html": (b"<!doctype html>", "markup"),
        "zip": (b"PK\3\4....", "an archive"), "psd": (b"8BPS" + bytes(99), "something else"),
        "eps": (b"%!PS-Adobe-3.0 EPSF", "something else"), "jpeg2000": (written(picture, "JPEG2000"), "something else"),
    }  # fmt: skip


@pytest.mark.parametrize("name", other())
def test_other_files_are_named_and_no_process_is_started_for_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, words = other()[name]
    monkeypatch.setattr(images, "_ask", lambda _: pytest.fail("a process was started"))
    refused(data, words)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_its_head(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = BOMBS[name]()
    assert len(data) < 200_000
    monkeypatch.setattr(images, "_ask", lambda _: pytest.fail("a process was started"))
    begun = time.perf_counter()
    refused(data, "GIF" if name == "gif" else "at most 12000 pixels")
    assert time.perf_counter() - begun < 0.1


def test_a_file_of_more_bytes_than_a_photo_has_is_refused() -> None:
    refused(written(marked()) + bytes(images.MAX_BYTES), "at most 12 MB")


def test_a_second_head_that_says_another_size_is_found_by_the_child() -> None:
    honest, large = png(40, 40), png(30_000, 30_000, lines=b"")
    assert head(honest[:33] + large[8:33] + honest[33:]).width == 40
    refused(honest[:33] + large[8:33] + honest[33:], "at most 12000 pixels")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_file_that_is_cut_off_is_refused_wherever_it_is(form: str) -> None:
    data = written(marked((600, 400)), form)
    for share in (0.02, 0.1, 0.5, 0.9, 0.98):
        refused(data[: int(len(data) * share)], "cut off|decoded|something else")


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_refused(form: str) -> None:
    refused(written(marked(), form, save_all=True, append_images=[Image.new("RGB", (120, 80))]), "an animation is no photo")


def test_packed_text_and_profiles_that_unpack_to_gigabytes_are_bounded() -> None:
    packed = zlib.compress(bytes(400_000_000), 9)
    for kind, body in ((b"zTXt", b"x\0\0" + packed), (b"iTXt", b"x\0\1\0\0\0" + packed), (b"iCCP", b"x\0\0" + packed)):
        try:
            assert clean(png(40, 40, (kind, body))).width == 40
        except Invalid as error:
            assert error.detail in images.REASONS.values()


def test_pixels_that_unpack_to_more_than_the_head_says_are_left_out() -> None:
    assert clean(png(40, 40, lines=zlib.compress(bytes(300_000_000), 9))).height == 40


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1))
def test_a_damaged_file_is_a_photo_or_is_refused_and_nothing_else(form: str, damage: list[tuple[float, int]]) -> None:
    data = bytearray(written(marked(), form))
    for place, value in damage:
        data[int(place * len(data))] = value
    try:
        found = clean(bytes(data))
    except Invalid as error:
        assert error.field == "/file"
    else:
        assert opened(found.image).size == (found.width, found.height)


WEBPS = [b"RIFF\0\0\0\0WEBP" + kind for kind in (b"VP8X", b"VP8L", b"VP8 ")]
STARTS = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", *WEBPS, b""]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=80))
def test_any_head_is_read_or_refused(start: bytes, rest: bytes) -> None:
    try:
        head(start + rest)
    except Invalid as error:
        assert error.field == "/file"


# The child -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch


def test_too_little_memory_time_or_room_is_a_refusal_in_words(limits: pytest.MonkeyPatch) -> None:
    large = written(Image.effect_noise((4000, 3000), 80).convert("RGB"), quality=50)
    with limits.context() as tight:
        tight.setattr(images, "MEMORY", 90 * 1024 * 1024)
        refused(large, "more memory|within the time and memory")
    with limits.context() as tight:
        tight.setattr(images, "SECONDS", 0)
        refused(large, "within the time and memory")
    with limits.context() as tight:
        tight.setattr(images, "PATIENCE", 0.01)
        refused(large, "within the time and memory")
    with limits.context() as tight:
        tight.setattr(images, "ANSWER", 10_000)
        refused(large, "within the time and memory")
    assert clean(large).width == 2048


def test_a_child_that_is_killed_is_a_refusal(limits: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    begin = subprocess.Popen

    def killed(*given: object, **more: object) -> subprocess.Popen[bytes]:
        started.append(begin(*given, **more))  # type: ignore[call-overload]
        started[-1].kill()
        return started[-1]

    limits.setattr(images.subprocess, "Popen", killed)
    refused(written(marked()), "within the time and memory")
    assert started[0].returncode == -9


LIES = {
    "nothing": b"", "no JSON": b"\0\0\0\4oops", "a list": b"\0\0\0\2[]", "a huge line": b"\xff\xff\xff\xff",
    "no picture": b"\0\0\0\2{}", "a negative length": b'\0\0\0\x1e{"image": -5, "thumb": 99999999}'.ljust(34),
}  # fmt: skip


def told(image: bytes, thumb: bytes, width: object, height: object) -> bytes:
    line = f'{{"width": {width}, "height": {height}, "image": {len(image)}, "thumb": {len(thumb)}}}'.encode()
    return struct.pack(">I", len(line)) + line + image + thumb


def more_lies() -> dict[str, bytes]:
    small, exif = written(marked()), Image.Exif()
    exif[MAKER] = TOKEN.decode()
    return {
        "html": told(b"<script>", small, 120, 80), "exif": told(written(marked(), exif=exif.tobytes()), small, 120, 80),
        "a comment": told(small, written(marked(), comment=TOKEN), 120, 80), "another size": told(small, small, 121, 80),
        "text for a size": told(small, small, '"120"', 80), "something behind": told(small + TOKEN, small, 120, 80),
        "too large": told(written(marked((3000, 2000))), small, 3000, 2000),
    }  # fmt: skip


@pytest.mark.parametrize("name", [*LIES, *more_lies()])
def test_only_a_plain_picture_gets_past_the_parent_whatever_took_the_child_over(
    limits: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:  # fmt: skip
    lie = tmp_path / "lie"
    lie.write_bytes((LIES | more_lies())[name])
    program = f"import os; os.write(1, open({str(lie)!r}, 'rb').read())"
    begin = subprocess.Popen
    limits.setattr(images.subprocess, "Popen", lambda _, **more: begin([sys.executable, "-I", "-c", program], **more))
    refused(written(marked()), "cannot be decoded")


def test_a_child_that_writes_without_end_fills_no_memory(limits: pytest.MonkeyPatch) -> None:
    program = "import os\nwhile True: os.write(1, bytes(1 << 20))"
    begin = subprocess.Popen
    limits.setattr(images.subprocess, "Popen", lambda _, **more: begin([sys.executable, "-I", "-c", program], **more))
    refused(written(marked()), "within the time and memory")


def test_the_child_has_no_environment_no_other_file_and_may_write_none() -> None:
    """Asked of a child of just this kind, after it has confined itself."""
    program = (
        "import os, resource, sys; from services.case import pixels\n"
        "pixels.confine(pixels.Bounds(1000 << 20, 8 << 20, 10, 1, 1, 1, 1))\n"
        "found = sorted(os.listdir('/proc/self/fd'))[:-1]\n"
        "wrote = True\n"
        "try: os.close(os.open('/tmp/child-of-photos', os.O_CREAT | os.O_WRONLY)); os.truncate('/tmp/child-of-photos', 9 << 20)\n"
        "except OSError: wrote = False\n"
        "print(found, sorted(os.environ), wrote, os.geteuid(), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], env={}, capture_output=True, text=True, cwd="/")
    uid = 65534 if os.geteuid() == 0 else os.geteuid()
    Path("/tmp/child-of-photos").unlink(missing_ok=True)
    assert done.stdout.split("\n")[0].startswith("['0', '1', '2'] ["), done.stderr
    assert f"False {uid} (0, 0)" in done.stdout and "PATH" not in done.stdout


# Many at once ------------------------------------------------------------------------------------------------------------


def test_photos_are_cleaned_two_at_a_time_and_too_many_are_told_to_wait(limits: pytest.MonkeyPatch) -> None:
    at_once, most, door = [0], [0], threading.Event()

    def slow(data: bytes) -> Cleaned:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        door.wait(10)
        at_once[0] -= 1
        return Cleaned(data, data, 1, 1)

    limits.setattr(images, "clean", slow)
    cleaners = Cleaners(width=2, bound=5)
    futures = [cleaners.submit(b"x") for _ in range(5)]
    with pytest.raises(Busy):
        cleaners.submit(b"x")
    door.set()
    assert all(f.result(10).width == 1 for f in futures) and most[0] <= 2
    assert cleaners.submit(b"x").result(10)
    cleaners.close()


def test_a_refused_photo_gives_its_place_back() -> None:
    cleaners = Cleaners(width=1, bound=1)
    for _ in range(5):
        with pytest.raises(Invalid):
            cleaners.submit(b"").result(10)
        time.sleep(0.01)
    cleaners.close()
