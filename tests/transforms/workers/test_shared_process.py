"""One process a machine, and a new one where it is lost."""

import os
import secrets
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from models.common.model_process import ModelProcessLost, end_model_processes
from transforms.errors import InputError
from transforms.workers.shared_process import SharedProcess

HERE = "tests.transforms.workers.test_shared_process"


class Hosted:
    """What the tests put into a process."""

    def __init__(self, lives: str) -> None:
        if lives not in ("on",):
            raise ValueError(f"nobody lives {lives}")
        self.lives = lives

    def pid(self) -> int:
        return os.getpid()

    def die(self) -> None:
        os._exit(7)


def shared(secret: str, lives: str = "on") -> SharedProcess:
    return SharedProcess("recommend", "thing", f"{HERE}:Hosted", {"lives": lives}, secret)


@pytest.fixture
def secret() -> str:
    return secrets.token_hex()


@pytest.fixture(autouse=True)
def _end() -> Iterator[None]:
    yield
    end_model_processes()


def test_workers_of_a_job_share_it_and_other_jobs_do_not(secret: str) -> None:
    first = shared(secret)  # held: the process ends with the last that uses it
    pid = first.call("pid")
    assert shared(secret).call("pid") == pid
    assert shared(secrets.token_hex()).call("pid") != pid


def test_a_lost_one_is_replaced_and_said_so(secret: str, caplog) -> None:
    process = shared(secret)
    lost = process.call("pid")
    os.kill(lost, signal.SIGKILL)
    while psutil.pid_exists(lost):
        time.sleep(0.01)
    assert process.call("pid") != lost
    assert f"recommend: the process {lost} that hosts the model ended" in caplog.text


def test_one_that_is_always_lost_is_given_up(secret: str, caplog) -> None:
    caplog.set_level("INFO", "interest-explorer")
    with pytest.raises(ModelProcessLost):
        shared(secret).call("die")
    assert caplog.text.count("starting the thing") == 3


def test_what_its_factory_does_not_take_is_an_input_error(secret: str) -> None:
    with pytest.raises(InputError, match="nobody lives twice"):
        shared(secret, "twice")
