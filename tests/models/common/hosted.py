"""An object for a child process; it imports little, so that the child starts fast."""

import os
import threading
import time


class Hosted:
    """The object in the child."""

    def __init__(self, start: int) -> None:
        if start < 0:
            raise ValueError(f"start {start} is negative")
        self.value = start

    def add(self, more: int) -> int:
        self.value += more
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def variable(self, name: str) -> str | None:
        return os.environ.get(name)

    def fail(self) -> None:
        raise KeyError("no such thing")

    def lock(self) -> object:
        return threading.Lock()

    def die(self) -> None:
        print("about to go")
        os._exit(7)

    def hang(self) -> None:
        print("about to hang")
        time.sleep(60)
