"""The process that hosts an engine: what it answers, who shares it, and that it ends.

One file of over 350 lines: its tests share the workers, the clock and the clean-up of processes.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import psutil
import pytest

from models.common import model_process
from models.common.model_process import ModelProcess, ModelProcessLost, end_model_processes

HOSTED = "tests.models.common.hosted:Hosted"
LIBC = ("ctypes:CDLL", {"name": None})  # an object that starts fast: getpid, usleep, ...
LIBC_THAT_HOLDS_THE_INTERPRETER = ("ctypes:PyDLL", {"name": None})


def host(start: int = 0, timeout: float = 60.0, **environment: str) -> ModelProcess:
    return ModelProcess(HOSTED, {"start": start}, environment, timeout=timeout)


def libc(shared_as: str | None = None, timeout: float = 60.0) -> ModelProcess:
    return ModelProcess(*LIBC, {}, shared_as, timeout)


@pytest.fixture
def secret() -> str:
    return secrets.token_hex()


@pytest.fixture(autouse=True)
def _end() -> Iterator[None]:
    yield
    end_model_processes()


class Worker:
    """Another process of the job: makes clients and calls, one line of JSON each."""

    PROGRAM = """if True:
        import json, sys
        from models.common.model_process import ModelProcess
        child = None
        for line in sys.stdin:
            order = json.loads(line)
            if isinstance(order, dict):
                child = ModelProcess(**order)
                answer = "here"
            elif order:
                answer = child.call(*order)
            else:
                answer = child.close()
            print(json.dumps(answer), flush=True)
    """

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def tell(self, order: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> object:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, order: object) -> object:
        self.tell(order)
        return self.answer()

    def join(self, secret: str) -> int:
        factory, arguments = LIBC
        order = {"factory": factory, "arguments": arguments, "environment": {}, "shared_as": secret}
        assert self.ask(order) == "here"
        pid = self.ask(["getpid"])
        assert isinstance(pid, int)
        return pid

    def kill(self) -> None:
        """Kill the process and its group, as a job's end may."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def worker() -> Iterator[Callable[[], Worker]]:
    found: list[Worker] = []

    def start() -> Worker:
        found.append(Worker())
        return found[-1]

    yield start
    for worker in found:
        if worker.process.poll() is None:
            worker.kill()
        for pipe in (worker.process.stdin, worker.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def short_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what a client waits for a stopped child beyond the timeout."""
    monkeypatch.setattr(model_process, "BEAT_SECONDS", 0.1)


def state(pid: int) -> str:
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return "gone"


def soon(fact: Callable[[], bool]) -> bool:
    for _ in range(200):
        if fact():
            return True
        time.sleep(0.05)
    return False


def wait_until_gone(pid: int) -> bool:
    return soon(lambda: state(pid) in (psutil.STATUS_ZOMBIE, "gone"))


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    assert soon(lambda: state(pid) == psutil.STATUS_STOPPED)


def descriptors(child: ModelProcess) -> int:
    """Count the descriptors of the child's sockets: one listens, each client has two."""
    found = psutil.net_connections("unix")
    return sum(each.laddr == f"@{child._address[1:]}" for each in found)


def test_calls_reach_one_object_in_another_process() -> None:
    child = host(start=2)
    assert [child.call("add", 3), child.call("add", 4)] == [5, 9]
    assert child.call("pid") != os.getpid()


def test_calls_last_as_long_as_they_do_whatever_sockets_have_by_default() -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.2)  # Beam's file system of gs:// sets one
    try:
        libc().call("usleep", 500_000)
    finally:
        socket.setdefaulttimeout(before)


def test_environment_is_set_before_the_process_starts() -> None:
    assert host(IE_TEST="here").call("variable", "IE_TEST") == "here"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -1}, "start -1 is negative"),
        ({"begin": 1}, "unexpected keyword argument 'begin'"),
    ],
)
def test_arguments_that_the_factory_refuses_are_a_value_error(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelProcess(HOSTED, arguments, {})


@pytest.mark.parametrize(
    ("method", "message"), [("fail", r"KeyError.*no such thing"), ("lock", "pickle")]
)
def test_error_of_a_call_is_raised_and_the_object_stays(method: str, message: str) -> None:
    child = host(start=1)
    with pytest.raises(RuntimeError, match=message) as raised:
        child.call(method)
    assert not isinstance(raised.value, ModelProcessLost)
    assert child.call("add", 1) == 2


def test_answers_go_to_the_threads_that_asked() -> None:
    child = libc()
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda n: child.call("abs", -n), range(400))) == list(range(400))


def test_end_of_the_child_is_an_error_with_its_last_output_now_and_later() -> None:
    child = host()
    for _ in range(2):
        with pytest.raises(ModelProcessLost, match=r"ended with 7; its last output: .*about to go"):
            child.call("die")


def test_child_killed_in_a_call_is_an_error_with_its_last_words() -> None:
    child = host()
    timer = threading.Timer(0.5, os.kill, (child.call("pid"), signal.SIGKILL))
    timer.start()
    with pytest.raises(ModelProcessLost, match=r"ended with -9; its last output: .*about to hang"):
        child.call("hang")


def test_child_that_cannot_start_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ModelProcessLost, match="did not start with 1; its last output"):
        libc()


def test_call_that_hangs_is_an_error_that_shows_where() -> None:
    child = host(timeout=0.5)
    pid = child.call("pid")
    begun = time.monotonic()
    with pytest.raises(
        ModelProcessLost, match=r"did not answer for [12] s (.|\n)*hosted.* in hang"
    ):
        child.call("hang")
    assert time.monotonic() - begun < 5
    assert wait_until_gone(pid)


def test_factory_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; exec sleep 60"
    with pytest.raises(ModelProcessLost, match="did not answer"):
        ModelProcess("subprocess:run", {"args": ["sh", "-c", script]}, {}, timeout=0.5)
    assert wait_until_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.usefixtures("short_beat")
def test_stopped_child_is_an_error_and_is_killed() -> None:
    child = libc(timeout=1)
    pid = child.call("getpid")
    stop(pid)
    begun = time.monotonic()
    with pytest.raises(ModelProcessLost, match=r"did not answer for 1 s"):
        child.call("getpid")
    assert time.monotonic() - begun < 3
    assert wait_until_gone(pid)


@pytest.mark.usefixtures("short_beat")
def test_stopped_child_is_noticed_by_a_call_too_large_to_be_sent() -> None:
    child = libc(timeout=0.5)
    stop(child.call("getpid"))
    with pytest.raises(ModelProcessLost, match="did not answer"):
        child.call("strlen", b"x" * 10_000_000)


@pytest.mark.usefixtures("short_beat")
def test_stopped_child_is_noticed_by_who_comes_late(secret: str) -> None:
    first = libc(secret)
    pid = first.call("getpid")
    stop(pid)
    with pytest.raises(ModelProcessLost, match="let nobody in"):
        libc(secret, timeout=0.1)
    assert wait_until_gone(pid)
    assert libc(secret).call("getpid") != pid


def test_call_that_holds_the_interpreter_is_no_hang(secret: str) -> None:
    children = [
        ModelProcess(*LIBC_THAT_HOLDS_THE_INTERPRETER, {}, secret, timeout=2.5) for _ in range(2)
    ]
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(children[0].call, "sleep", 2)
        time.sleep(0.2)
        assert children[1].call("abs", -1) == 1
        assert slow.result() == 0


def test_hang_that_holds_the_interpreter_is_an_error() -> None:
    child = ModelProcess(*LIBC_THAT_HOLDS_THE_INTERPRETER, {}, timeout=0.5)
    pid = child.call("getpid")
    with pytest.raises(ModelProcessLost, match=r"did not answer for [12] s"):
        child.call("sleep", 60)
    assert wait_until_gone(pid)


def test_wait_behind_the_calls_of_others_is_no_hang(secret: str) -> None:
    children = [libc(secret, timeout=0.5) for _ in range(6)]
    begun = time.monotonic()
    with ThreadPoolExecutor(6) as threads:  # more than the 3.5 s that one call could take
        assert set(threads.map(lambda child: child.call("usleep", 750_000), children)) == {0}
    assert time.monotonic() - begun > 4


def test_call_of_a_worker_that_died_in_the_queue_is_not_made(
    secret: str, worker: Callable[[], Worker]
) -> None:
    other = worker()
    other.join(secret)
    child = libc(secret)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(child.call, "sleep", 1)
        time.sleep(0.3)
        other.tell(["sleep", 60])
        time.sleep(0.3)
        other.kill()
        slow.result()
    begun = time.monotonic()
    child.call("getpid")
    assert time.monotonic() - begun < 5


def test_same_secret_factory_and_arguments_share_a_child(
    secret: str, worker: Callable[[], Worker]
) -> None:
    child = libc(secret)
    others = (
        libc(),
        libc(),
        libc(secrets.token_hex()),
        ModelProcess("ctypes:CDLL", {"name": None, "use_errno": True}, {}, secret),
    )
    pids = [each.call("getpid") for each in (child, *others)]
    assert len(set(pids)) == 5
    assert worker().join(secret) == pids[0]


def test_of_children_started_at_once_one_stays(
    worker: Callable[[], Worker], tmp_path: Path
) -> None:
    workers = [worker() for _ in range(4)]
    for n in range(8):
        folder = tmp_path / str(n)
        folder.mkdir()
        secret = secrets.token_hex()
        order = {
            "factory": "tempfile:mkdtemp",  # leaves a folder for every object that is made
            "arguments": {"dir": str(folder)},
            "environment": {"IE_TEST": secret},
            "shared_as": secret,
        }
        for each in workers:
            each.tell(order)
        assert [each.answer() for each in workers] == ["here"] * 4
        names = {each.ask(["__str__"]) for each in workers}
        assert names == {str(path) for path in folder.iterdir()}
        assert len(names) == 1
        assert soon(lambda secret=secret: len(processes_with(f"IE_TEST={secret}")) == 1)


def processes_with(variable: str) -> list[int]:
    name, value = variable.split("=")
    found = psutil.process_iter(["environ"])  # None for a process of another user
    return [each.pid for each in found if (each.info["environ"] or {}).get(name) == value]


def test_error_of_a_shared_factory_is_told_to_all_and_the_child_ends(
    secret: str, tmp_path: Path
) -> None:
    script = f"echo tried >> {tmp_path}/log; sleep 1; exit 1"
    arguments = {"args": ["sh", "-c", script], "check": True}

    def fail(_: int) -> str:
        with pytest.raises(RuntimeError, match="CalledProcessError") as raised:
            ModelProcess("subprocess:run", arguments, {"IE_TEST": secret}, secret)
        return type(raised.value).__name__

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(fail, range(4))) == {"RuntimeError"}
    assert (tmp_path / "log").read_text() == "tried\n"
    assert soon(lambda: not processes_with(f"IE_TEST={secret}"))


def test_child_outlives_who_started_it(secret: str, worker: Callable[[], Worker]) -> None:
    other = worker()
    pid = other.join(secret)
    child = libc(secret)
    other.kill()
    time.sleep(0.5)
    assert child.call("getpid") == pid


def test_lost_child_of_another_process_is_an_error(
    secret: str, worker: Callable[[], Worker]
) -> None:
    other = worker()
    pid = other.join(secret)
    child = libc(secret)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ModelProcessLost, match=f"{pid} that hosts the model ended; see the log"):
        child.call("getpid")
    assert libc(secret).call("getpid") != pid


def test_nothing_is_left_when_all_workers_are_killed(
    secret: str, worker: Callable[[], Worker]
) -> None:
    busy, idle = worker(), worker()
    pid = busy.join(secret)
    idle.join(secret)
    child = libc(secret)
    child.close()
    busy.tell(["sleep", 60])
    time.sleep(0.3)
    assert descriptors(child) == 5
    busy.kill()
    idle.kill()
    assert wait_until_gone(pid)
    assert soon(lambda: descriptors(child) == 0)  # its threads end after its first one


def test_nothing_is_left_when_the_interpreter_exits(
    secret: str, worker: Callable[[], Worker]
) -> None:
    other = worker()
    pid = other.join(secret)
    other.process.communicate()
    assert other.process.returncode == 0
    assert wait_until_gone(pid)


def test_close_ends_the_child() -> None:
    child = libc()
    pid = child.call("getpid")
    child.close()
    assert wait_until_gone(pid)
    with pytest.raises(RuntimeError, match="was closed"):
        child.call("getpid")


def test_close_leaves_the_child_to_others(secret: str, worker: Callable[[], Worker]) -> None:
    other = worker()
    child = libc(secret)
    pid = child.call("getpid")
    other.join(secret)
    begun = time.monotonic()
    child.close()
    assert time.monotonic() - begun < 1
    assert other.ask(["getpid"]) == pid


def test_ended_child_is_no_zombie_of_who_started_it(
    secret: str, worker: Callable[[], Worker]
) -> None:
    other = worker()
    child = libc(secret)
    pid = child.call("getpid")
    other.join(secret)
    child.close()
    other.ask([])
    assert soon(lambda: not psutil.pid_exists(pid))


@pytest.mark.parametrize("clients", [1, 2])
def test_close_gives_up_the_call_of_another_thread_which_is_no_loss(
    clients: int, secret: str
) -> None:
    child, *_others = [libc(secret) for _ in range(clients)]
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(child.call, "sleep", 15)
        time.sleep(0.3)
        begun = time.monotonic()
        child.close()
        assert type(call.exception(10)) is RuntimeError
    assert time.monotonic() - begun < 5


def test_close_kills_a_stopped_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_process, "_GRACE_SECONDS", 0.3)
    child = libc()
    pid = child.call("getpid")
    stop(pid)
    child.close()
    assert wait_until_gone(pid)


def test_close_does_not_kill_a_busy_child_of_others(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setattr(model_process, "_GRACE_SECONDS", 0.3)
    mine, other = (
        ModelProcess(*LIBC_THAT_HOLDS_THE_INTERPRETER, {}, secret, timeout=60.0) for _ in range(2)
    )
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(other.call, "sleep", 2)
        time.sleep(0.3)
        mine.close()
        assert call.result() == 0


def test_child_ends_if_nobody_comes(secret: str) -> None:
    program = "from models.common import model_host as p; p.MEET_SECONDS = 0.3; p._host(); exit(9)"
    assert run_child(["-c", program], secret) == (0, "")


def test_child_that_is_not_the_first_ends_quietly(secret: str) -> None:
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(f"\0{secret}")
        assert run_child(["-m", "models.common.model_host"], secret) == (0, "")


def run_child(command: list[str], address: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *command],
        input=json.dumps([f"\0{address}", "00", 60]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20,
    )
    return done.returncode, done.stdout


def connect(child: ModelProcess) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(10)
    assert soon(lambda: line.connect_ex(child._address) == 0)  # else its queue is full
    return line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_gets_no_byte_and_ends_nothing() -> None:
    child = libc()
    os.seteuid(65534)
    try:
        line = connect(child)
    finally:
        os.seteuid(0)
    with line:
        assert line.recv(1) == b""
    assert child.call("abs", -1) == 1


def test_more_connections_than_a_process_can_hold_end_nothing() -> None:
    child = libc()
    lines = [connect(child) for _ in range(300)]
    assert [line.recv(1) for line in lines[-20:]] == [b""] * 20
    assert child.call("abs", -1) == 1
    for line in lines:
        line.close()


def test_a_connection_that_says_nothing_does_not_keep_the_process_alive(secret: str) -> None:
    program = "from models.common import model_host as p; p.MEET_SECONDS = 0.5; p._host()"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    with process, socket.socket(socket.AF_UNIX) as silent, process.stdin as given:
        given.write(json.dumps([f"\0{secret}", "00", 60]))
        given.close()
        assert soon(lambda: silent.connect_ex(f"\0{secret}") == 0)
        assert process.wait(20) == 0


def test_temporary_files_are_private_and_gone_afterwards(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    child = ModelProcess(HOSTED, {"start": 0}, {"TMPDIR": str(tmp_path)})
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert re.fullmatch(rf"interest-explorer-{child.call('pid')}-\w{{8}}", folder.name)
    with pytest.raises(ModelProcessLost):
        child.call("die")
    assert list(tmp_path.iterdir()) == []


def test_wrong_secret_is_refused_and_harms_nobody() -> None:
    child = libc()
    with pytest.raises(AuthenticationError):
        Client(child._address, "AF_UNIX", authkey=b"guessed")
    assert child.call("abs", -1) == 1


def test_secret_is_on_no_command_line_and_in_no_environment(secret: str) -> None:
    child = libc(secret)
    process = psutil.Process(child.call("getpid"))
    seen = f"{process.cmdline()} {process.environ()}"
    assert "models.common.model_host" in seen
    assert secret not in seen
