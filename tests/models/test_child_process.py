"""The process that hosts an engine: what it answers, and that it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.child_process import ChildProcess, end_children

HERE = "tests.models.test_child_process"


class Hosted:
    """What the tests put into a child."""

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

    def die(self) -> None:
        print("about to go", flush=True)
        os._exit(7)


def host(start: int = 0, **environment: str) -> ChildProcess:
    return ChildProcess(f"{HERE}:Hosted", {"start": start}, environment)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_until_gone(pid: int) -> bool:
    for _ in range(300):
        if not is_running(pid):
            return True
        time.sleep(0.05)
    return False


def test_calls_reach_one_object_in_another_process() -> None:
    child = host(start=2)
    assert [child.call("add", 3), child.call("add", 4)] == [5, 9]
    assert child.call("pid") != os.getpid()


def test_environment_is_set_before_the_process_starts() -> None:
    assert host(IE_TEST="here").call("variable", "IE_TEST") == "here"


def test_error_of_the_factory_is_raised() -> None:
    with pytest.raises(ValueError, match="start -1 is negative"):
        host(start=-1)


def test_argument_that_the_factory_does_not_take_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="unexpected keyword argument 'begin'"):
        ChildProcess(f"{HERE}:Hosted", {"begin": 1}, {})


def test_error_of_a_call_is_raised_and_the_object_stays() -> None:
    child = host(start=1)
    with pytest.raises(RuntimeError, match=r"KeyError.*no such thing"):
        child.call("fail")
    assert child.call("add", 1) == 2


def test_end_of_the_child_is_an_error_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match=r"ended with 7; its last words: .*about to go"):
        host().call("die")


def test_killed_child_is_an_error() -> None:
    child = host()
    os.kill(child.call("pid"), signal.SIGKILL)
    with pytest.raises(RuntimeError, match="ended with -9"):
        child.call("add", 1)


def test_close_ends_the_child() -> None:
    child = host()
    pid = child.call("pid")
    child.close()
    assert wait_until_gone(pid)


def test_children_end_together() -> None:
    children = [host(), host()]
    pids = [child.call("pid") for child in children]
    end_children()
    assert all(wait_until_gone(pid) for pid in pids)


def test_child_ends_when_its_parent_is_killed() -> None:
    program = f"""if True:
        import time
        from {HERE} import host
        child = host()
        print(child.call("pid"), flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert wait_until_gone(pid)
