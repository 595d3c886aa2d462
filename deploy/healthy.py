#!/usr/local/bin/python -IS
"""Health check of a container: `healthy 8080` is 0 if the service on that port is alive, else 1.

Python's own library alone: `orderstream` itself would take ten times the CPU, every few seconds.
"""

import sys
from http.client import HTTPConnection, HTTPException

WITHIN_S = 4  # Less than what the engine waits.


def fault(port: int) -> str | None:
    """Return why the service is not alive, or None."""
    asked = HTTPConnection("127.0.0.1", port, timeout=WITHIN_S)
    try:
        asked.request("GET", "/healthz")
        answer = asked.getresponse()
    except (OSError, HTTPException) as error:
        return f"port {port}: {error}"
    return None if answer.status == 200 else f"port {port}: it answers {answer.status}"


if __name__ == "__main__":
    sys.exit(fault(int(sys.argv[1])))
