"""Lets one service's clock jump while it runs; found by Python through PYTHONPATH.

A service that starts with CLOCK_JUMPS set looks at the file there that has its name: how many
seconds its wall clock is wrong, eight bytes, now. Its monotonic clock and C libraries go on right.
At a SIGUSR1 it writes to its log where each of its threads is.
"""

import faulthandler
import importlib.util
import mmap
import os
import signal
import struct
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

CLOCK = "orderstream.runtime.clock"  # Where decisions take their time from.


def _offset_of(file: Path) -> Any:
    with file.open("rb") as opened:
        shared = mmap.mmap(opened.fileno(), 8, prot=mmap.PROT_READ)
    read = struct.Struct("d").unpack_from
    return lambda: read(shared)[0]


class _Jumping:
    """Imports the clock module as it is, then has its clock jump."""

    def __init__(self, offset: Any) -> None:
        self._offset = offset

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != CLOCK:
            return None
        sys.meta_path.remove(self)  # pyright: ignore[reportArgumentType]
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            from datetime import timedelta

            execute(module)
            right = module.utc_now
            setattr(module, "utc_now", lambda: right() + timedelta(seconds=self._offset()))  # noqa: B010

        setattr(spec.loader, "exec_module", exec_module)  # noqa: B010
        return spec


def _begin() -> None:
    folder, words = os.environ.get("CLOCK_JUMPS"), sys.orig_argv
    if folder is None or "serve" not in words:
        return
    faulthandler.register(signal.SIGUSR1)
    worker = os.environ.get("ORDERSTREAM_WORKER", "0")
    file = Path(folder) / (words[-1] if worker == "0" else f"{words[-1]}-{worker}")
    if file.exists():
        offset, right = _offset_of(file), time.time
        time.time = lambda: right() + offset()
        sys.meta_path.insert(0, _Jumping(offset))  # pyright: ignore[reportArgumentType]


_begin()
