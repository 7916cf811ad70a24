"""Where processes come from: imports everything once, then copies itself for each node that the supervisor asks for.

Seven imports of their own would take ten times as long and three times the memory. Reads one JSON line a process from standard
input ({"run": "module:function", "arguments": [...]} or {"program": [...]}, and "log": path), answers each with its pid.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import sys
from typing import Any

import orjson

PR_SET_PDEATHSIG = 1


def main() -> None:
    # A process with threads must not be copied, and a numeric library starts some at import.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    importlib.import_module("deploy.node")
    gc.collect()
    gc.freeze()
    # Nobody waits for the copies here: the supervisor holds a handle of each.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    libc = ctypes.CDLL(None)
    for line in sys.stdin.buffer:
        asked = orjson.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(asked, libc)
        sys.stdout.buffer.write(b"%d\n" % pid)
        sys.stdout.buffer.flush()


def _become(asked: dict[str, Any], libc: Any) -> None:
    """Turn this copy into what was asked for; never returns."""
    try:
        # A node that nobody looks after would hold its ports for ever: it ends with us, and we end with the supervisor.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        out = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, out), (2, out)):
            os.dup2(source, target)
        if "program" in asked:
            os.execv(asked["program"][0], asked["program"])
        module, _, name = asked["run"].partition(":")
        getattr(importlib.import_module(module), name)(*asked["arguments"])
    except SystemExit as leaving:
        print(leaving, file=sys.stderr, flush=True)
        os._exit(leaving.code if isinstance(leaving.code, int) else 1)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
