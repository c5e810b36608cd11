"""The server's side of `servers.run`: announce the addresses, and end with the parent."""

import json
import os
import sys
import threading


def claim_output() -> int:
    """Reserve the standard output for `announce`; other output goes to the standard error."""
    output = os.dup(1)
    os.dup2(2, 1)
    return output


def announce(output: int, **addresses: str) -> None:
    """Send the addresses to the parent, and end the process when the parent ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.write(output, json.dumps(addresses).encode() + b"\n")
    os.close(output)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()  # until the parent closes the pipe or ends
    os._exit(0)
