"""What metrics.json says and what it keeps to itself."""

from transforms.evaluation_metrics import told


def test_few_users_are_not_told() -> None:
    assert [told(users, 10) for users in (0, 9, 10, 11)] == [None, None, 10, 11]
    assert told(0, 0) == 0
