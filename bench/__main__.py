"""`python -m bench [NAME ...]`: measure all figures, or the named ones; `plot` draws them.

Exit code 0 when it ran, whatever the figures are; 1 when something broke; 2 for a wrong name.
"""

import importlib
import signal
import sys
import traceback

from bench.harness import Broken, Figure, print_figures, say

NAMES = (
    "up_time",
    "end_to_end",
    "memory",
    "latency",
    "drain",
    "listeners",
    "bulk",
    "scale",
    "overload",
    "analytics",
    "console",
    "metrics",
    "growth",
    "reads",
    "peers",
    "ceiling",
)
OTHERS = ("plot",)


def main(names: list[str]) -> int:
    """Run them one after the other; return the exit code."""
    unknown = [name for name in names if name not in (*NAMES, *OTHERS)]
    if unknown:
        say(f"no figure is called {', '.join(unknown)}; there are {', '.join((*NAMES, *OTHERS))}")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # As Ctrl-C: all is ended in order.
    figures: list[Figure] = []
    broke = False
    try:
        for name in names or NAMES:
            say(f"== {name}")
            try:
                figures += importlib.import_module(f"bench.{name}").run()
            except Broken as error:
                say(f"{name} broke: {error}")
                broke = True
            except Exception:  # noqa: BLE001 - One that breaks must not stop the others.
                traceback.print_exc()
                broke = True
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    if figures:
        print_figures(figures)
    return 1 if broke else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
