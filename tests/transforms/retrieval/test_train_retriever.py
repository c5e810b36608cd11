"""What the training of the retriever says of itself."""

import logging

import pytest

from models.retrieval.training.training_loop import Step
from tests.transforms.fake_clock import Clock, clock
from transforms.retrieval.train_retriever import _Reporter

__all__ = ["clock"]


def test_time_left_is_by_steps_also_in_an_epoch_that_an_earlier_run_began(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten seconds a step, taken up after 95 of 100: 29 epochs are left, then all but one step."""
    caplog.set_level(logging.INFO)
    reporter = _Reporter()

    def tell(epoch: int, done: int) -> None:
        clock.now += 10
        reporter.step(Step(9, epoch, epochs=30, steps=1, done=done, total=100, loss=0.0))

    for done in range(96, 101):
        tell(1, done)
    reporter.epoch({"epoch": 1, "loss": 0.0, "HR@10": 0.0, "NDCG@10": 0.0})
    for done in range(1, 7):
        tell(2, done)
    left = [message.split("at most ")[-1] for message in caplog.messages]
    assert (left[5], left[-1]) == ("29000 s left", "28940 s left")
