import math

import pytest

from models.language.training.training_log import best_step, history_of, is_over, last_checkpoint


def log(*losses: float) -> list[dict[str, float]]:
    return [{"step": step, "eval_loss": loss} for step, loss in enumerate(losses)]


def test_training_is_over_after_patience_evaluations_without_a_better_one():
    assert not is_over([], 9, 2)
    assert not is_over(log(1, 3, 2, 2), 9, 2)
    assert is_over(log(1, 3, 2, 2, 2), 9, 2)


def test_training_is_over_after_the_last_step():
    falling = log(*range(20, 10, -1))
    assert is_over(falling, 9, 2)
    assert not is_over(falling, 10, 2)


def test_a_loss_that_is_no_number_is_never_the_best():
    nan = math.nan
    assert [best_step(log(9, *losses)) for losses in ((nan, 3, 2), (4, nan), (nan, 5))] == [3, 1, 2]
    assert not is_over(log(9, nan, 5, 4), 9, 2)
    assert is_over(log(9, 5, nan, nan), 9, 2)


def test_training_without_a_finite_loss_is_refused():
    with pytest.raises(ValueError, match="step 1 is not finite: the learning rate is too high"):
        best_step(log(9, math.nan, math.nan))


def test_a_half_written_checkpoint_is_not_the_last(tmp_path):
    for step, state in ((2, '{"log_history": []}'), (10, '{"log_hi')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_history_has_a_row_a_step_and_nan_where_nothing_was_measured():
    found = history_of([{"step": 1, "loss": 2.0}, *log(4.0), {"step": 1, "eval_loss": 3.0}])
    assert [(row.step, row.valid_loss) for row in found] == [(0, 4.0), (1, 3.0)]
    assert math.isnan(found[0].loss)
    assert found[1].loss == 2.0
