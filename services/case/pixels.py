"""Makes a new clean picture out of a photo: runs alone in a child process with hard limits, which `images` starts for each photo.

It reads the photo from standard input and writes to standard output: four bytes with the length of a line of JSON, the line, and
where the photo is good the picture and its thumbnail. The limits are its arguments. It imports nothing of ours.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import sys
import warnings
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

from PIL import Image, ImageCms, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin

FORMATS = ("JPEG", "PNG", "WEBP")
READERS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)
"""Loaded before the limits hold, after which the child may no longer be able to read a file of code."""
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""By the value of the EXIF orientation: what brings the picture upright."""
NOBODY = 65534


class Bounds(NamedTuple):
    """Limits: bytes of memory and of the answer, seconds of processor, pixels in all and on a side, sides of what is made."""

    memory: int
    answer: int
    seconds: int
    pixels: int
    side: int
    picture: int
    thumb: int


class Refused(Exception):
    """The photo is not taken; the text is a code that the parent has words for."""


def confine(bounds: Bounds) -> None:
    """Give up all that a decoder does not need, before it sees a byte that others wrote."""
    for what, most in (
        (resource.RLIMIT_AS, bounds.memory), (resource.RLIMIT_FSIZE, bounds.answer), (resource.RLIMIT_CPU, bounds.seconds),
        (resource.RLIMIT_NOFILE, 8), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0),
    ):  # fmt: skip
        resource.setrlimit(what, (most, most))
    if os.geteuid() == 0:
        # Where a node runs as root, though it should not, and may change who it is.
        with suppress(OSError):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)


def upright(found: Image.Image) -> Image.Transpose | None:
    """The turn that the photo's own data ask for. What cannot be read asks for none: it must not cost the photo."""
    with suppress(Exception):
        return TURNS.get(found.getexif().get(ORIENTATION, 1))
    return None


def resizable(found: Image.Image) -> Image.Image:
    """The same picture in a mode whose pixels can be averaged."""
    if found.mode == "1":
        return found.convert("L")
    if found.mode.startswith("I"):
        # 16 bits of grey: the upper eight are what a screen shows.
        return found.convert("I").point(lambda value: value / 256).convert("L")
    if found.mode in ("P", "PA"):
        return found.convert("RGBA" if found.mode == "PA" or "transparency" in found.info else "RGB")
    return found


def bounded(found: Image.Image, side: int) -> Image.Image:
    """Made smaller so that its longer side has at most `side` pixels; never larger."""
    longest = max(found.size)
    if longest <= side:
        return found
    width, height = (max(1, round(length * side / longest)) for length in found.size)
    return found.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def coloured(found: Image.Image, profile: bytes | None) -> Image.Image:
    """As sRGB without transparency. A colour profile that does not fit the picture or is broken is left out."""
    if found.mode in ("RGBA", "LA"):
        whole = found.convert("RGBA")
        ground = Image.new("RGBA", whole.size, "white")
        found = Image.alpha_composite(ground, whole).convert("L" if found.mode == "LA" else "RGB")
    if profile:
        with suppress(ImageCms.PyCMSError, OSError, ValueError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(found, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    return found.convert("RGB")


def clean(file: BinaryIO, bounds: Bounds) -> tuple[Image.Image, bytes, bytes]:
    """(picture, its bytes, its thumbnail's bytes). Raises Refused, and whatever the decoder raises at a broken file."""
    with Image.open(file, formats=FORMATS) as found:
        # Again, because a file can say one size at its head and another one later.
        if max(found.size) > bounds.side or found.width * found.height > bounds.pixels:
            raise Refused("pixels")
        if getattr(found, "is_animated", False) and found.format != "MPO":
            raise Refused("animated")
        # A JPEG can be decoded at a half or a quarter of its size, which saves most of the work.
        found.draft("RGB", (bounds.picture, bounds.picture))
        found.load()
        turn, profile = upright(found), found.info.get("icc_profile")
        small = coloured(bounded(resizable(found), bounds.picture), profile)
    small = small.transpose(turn) if turn is not None else small
    # From its pixels alone: a picture that is only saved again takes comments and more along.
    fresh = Image.frombytes("RGB", small.size, small.tobytes())
    return fresh, _jpeg(fresh, 85), _jpeg(bounded(fresh, bounds.thumb), 80)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, progressive=True, optimize=True)
    return out.getvalue()


def answer(file: BinaryIO, bounds: Bounds) -> bytes:
    """What the parent reads; each way of failing is told by a code."""
    said: dict[str, Any]
    rest = b""
    try:
        picture, image, thumb = clean(file, bounds)
        said = {"width": picture.width, "height": picture.height, "image": len(image), "thumb": len(thumb)}
        rest = image + thumb
    except Refused as error:
        said = {"refused": str(error)}
    except MemoryError:
        said = {"refused": "memory"}
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        said = {"refused": "pixels"}
    except Exception as error:
        said = {"refused": "truncated" if "truncated" in str(error) else "unreadable"}
    line = json.dumps(said).encode()
    return struct.pack(">I", len(line)) + line + rest


def main(arguments: list[str]) -> None:
    bounds = Bounds(*map(int, arguments))
    Image.preinit()
    Image.MAX_IMAGE_PIXELS = bounds.pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    confine(bounds)
    told = memoryview(answer(sys.stdin.buffer, bounds))
    while told:
        told = told[os.write(sys.stdout.fileno(), told) :]


if __name__ == "__main__":
    main(sys.argv[1:])
