"""What the training of the retriever says of itself."""

import logging

import pytest
import tensorflow as tf

from models.retrieval.training.training_loop import Step
from tests.transforms.fake_clock import Clock, clock
from transforms.retrieval.train_retriever import _Reporter

__all__ = ["clock"]


def test_time_left_is_by_steps_also_in_an_epoch_that_an_earlier_run_began(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten seconds a step, taken up after 95 of 100: 29 epochs are left, then all but one step."""
    caplog.set_level(logging.INFO)
    reporter = _Reporter(30)
    for step in range(96, 101):
        clock.now += 10
        reporter.step(Step(1, step, 100, tf.constant(0.0)))
    reporter.epoch({"epoch": 1, "loss": 0.0, "HR@10": 0.0, "NDCG@10": 0.0})
    for step in range(1, 7):
        clock.now += 10
        reporter.step(Step(2, step, 100, tf.constant(0.0)))
    left = [message.split("at most ")[-1] for message in caplog.messages]
    assert left == ["29000 s left", "28940 s left"]
