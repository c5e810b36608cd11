"""Figures of the report."""

from models.evaluation.policies.policy_names import COUNT_POLICIES, OURS
from transforms.evaluation.report.figure import style


def test_no_two_policies_have_the_same_marker_and_colour() -> None:
    """Of as many as the simulation shows at most, and ours."""
    names = (*OURS, *COUNT_POLICIES, "hierarchical_bandit", "neural_linear_bandit")
    styles = {style(name, number)[:2] for number, name in enumerate(names)}
    assert len(styles) == len(names)
