"""What metrics.json says and what it keeps to itself."""

from transforms.evaluation_metrics import note_on_retriever, told


def test_few_users_are_not_told() -> None:
    assert [told(users, 10) for users in (0, 9, 10, 11)] == [None, None, 10, 11]
    assert told(0, 0) == 0


def test_only_a_split_in_time_keeps_histories_from_the_retriever() -> None:
    assert note_on_retriever("time") is None
    assert "--split=time" in (note_on_retriever("user") or "")
