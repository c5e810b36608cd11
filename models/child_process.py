"""An object hosted by a child process, whose environment and end are under control.

An engine needs libraries preloaded before its process starts, spreads over processes of its own
and must not outlive the job: the child ends as soon as its parent does, however that ended.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import traceback
import weakref
from multiprocessing.connection import Connection, Pipe
from typing import IO, Any

_QUOTED = 2_000  # characters of the child's output that an error shows
_GRACE_SECONDS = 10.0
_LIVE: "weakref.WeakSet[ChildProcess]" = weakref.WeakSet()


def end_children() -> None:
    """End the children of this process that are still there, whoever still refers to them."""
    for child in list(_LIVE):
        child.close()


class ChildProcess:
    """A child process that makes `module.factory(**arguments)` and calls its methods.

    Parameters
    ----------
    factory
        "module:name" of what makes the object.
    arguments
        Of the factory; picklable.
    environment
        Variables set for the child on top of this process's.

    Raises
    ------
    ValueError, RuntimeError
        Whatever the factory raises, and if the child ends.
    """

    def __init__(
        self, factory: str, arguments: dict[str, Any], environment: dict[str, str]
    ) -> None:
        ours, theirs = Pipe()
        output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the child)
        child = subprocess.Popen(
            [sys.executable, "-m", "models.child_process", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        theirs.close()
        self._connection, self._child, self._output = ours, child, output
        self.close = weakref.finalize(self, _end, ours, child, output)
        _LIVE.add(self)
        self._exchange((factory, arguments))

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object and return what it returns, or raise what it raises."""
        return self._exchange((method, arguments))

    def _exchange(self, message: object) -> Any:
        try:
            self._connection.send(message)
            error, result = self._connection.recv()
        except (EOFError, OSError):
            self._child.wait()
            self._output.seek(0)
            said = self._output.read().decode(errors="replace")[-_QUOTED:]
            raise RuntimeError(
                f"the process {self._child.pid} that hosts the engine ended with "
                f"{self._child.returncode}; its last words: {said}"
            ) from None
        if error is not None:
            raise error
        return result


def _end(connection: Connection, child: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    connection.close()
    try:
        child.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    output.close()


def _serve(connection: Connection) -> None:
    """Answer the parent until it closes its end."""
    hosted: Any = None
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        try:
            if hosted is None:
                module, factory = name.split(":")
                hosted = getattr(importlib.import_module(module), factory)(**arguments)
                result = None
            else:
                result = getattr(hosted, name)(*arguments)
        except Exception as error:
            traceback.print_exc()
            # What a factory does not take, the caller can mend.
            mendable = ValueError if hosted is not None else (ValueError, TypeError)
            plain = ValueError if isinstance(error, mendable) else RuntimeError
            connection.send((plain(f"{type(error).__name__}: {error}"), None))
        else:
            connection.send((None, result))


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
    # Whatever threads an engine leaves behind do not keep the process.
    os._exit(0)
