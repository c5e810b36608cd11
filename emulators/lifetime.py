"""The server's side of `servers.run`: say where it answers, and end when its parent does."""

import json
import os
import sys
import threading


def claim_output() -> int:
    """Keep the standard output for `announce` alone; what the server prints goes to its errors."""
    output = os.dup(1)
    os.dup2(2, 1)
    return output


def announce(output: int, **addresses: str) -> None:
    """Tell the parent where the server answers, and end as soon as the parent is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.write(output, json.dumps(addresses).encode() + b"\n")
    os.close(output)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()  # until the parent, whatever ended it, no longer holds the other end
    os._exit(0)
