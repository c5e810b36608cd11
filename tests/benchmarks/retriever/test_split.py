"""What the retrievers are trained on and asked for."""

import numpy as np

from benchmarks.retriever.split import leave_one_out, temporal


def sequences(*items: list[int]) -> list[np.ndarray]:
    return [np.array(sequence, np.int32) for sequence in items]


def minutes(items: list[np.ndarray]) -> list[np.ndarray]:
    return [10 * np.arange(len(sequence)) for sequence in items]


def test_leave_one_out_tests_users_with_five_items_on_the_last() -> None:
    items = sequences([1, 2, 3, 4], [5, 6, 7, 8, 9])
    split = leave_one_out(items, minutes(items))
    assert [history.tolist() for history in split.histories] == [[5, 6, 7, 8]]
    assert split.targets.tolist() == [9]
    assert split.asked_at.tolist() == [40]
    assert [times.tolist() for times in split.times] == [[0, 10, 20, 30]]


def test_an_item_of_the_history_is_no_target() -> None:
    items = sequences([5, 6, 7, 8, 6], [1, 2, 3, 4, 5])
    split = leave_one_out(items, minutes(items))
    assert split.tested.tolist() == [1]
    assert len(split.sequences) == 2  # the other one is trained on


def test_temporal_trains_on_nothing_after_the_cut_and_tests_what_is_new() -> None:
    items = sequences([1, 2, 3, 4, 5, 3, 6, 7], [1, 2, 3, 4, 5, 6], [1, 2])
    times = [np.array([0, 1, 2, 3, 4, 10, 11, 12]), np.arange(6), np.array([0, 1])]
    split = temporal(items, times, share=0.2)  # of 16 interactions: after time 5
    assert [sequence.tolist() for sequence in split.sequences] == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]
    assert split.tested.tolist() == [0, 1]
    assert split.targets.tolist() == [6, 6]
    assert split.asked_at.tolist() == [5, 5]
