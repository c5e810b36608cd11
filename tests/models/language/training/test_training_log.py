import json
import math
from pathlib import Path

import pytest

from models.common.checkpoints import seal
from models.language.training.training_log import (
    Resumed,
    best_step,
    history_of,
    is_over,
    last_checkpoint,
)


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


def save(run: Path, *losses: float) -> Path:
    """Save a checkpoint after evaluations with some losses."""
    folder = run / f"checkpoint-{len(losses) - 1}"
    folder.mkdir()
    (folder / "weights").write_bytes(b"weights")
    state = json.dumps({"log_history": log(*losses)})
    (folder / "trainer_state.json").write_text(state)
    seal(folder)
    return folder


def test_the_last_checkpoint_is_resumed_with_its_log(tmp_path):
    save(tmp_path, 9, 4)
    last = save(tmp_path, 9, 4, 5)
    assert last_checkpoint(tmp_path) == Resumed(last, log(9, 4, 5))
    assert last_checkpoint(tmp_path / "none") == Resumed(None, [])


@pytest.mark.parametrize("name", ["weights", "trainer_state.json", "checksums.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
@pytest.mark.parametrize("best_is_damaged", [True, False])
def test_a_damaged_checkpoint_is_dropped_for_the_one_before_or_the_start(
    tmp_path, caplog, name, damage, best_is_damaged
):
    best, last = save(tmp_path, 9, 4), save(tmp_path, 9, 4, 5)
    path = (best if best_is_damaged else last) / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        end = bytes([content[-1] ^ 1]) if damage == "flipped" else b""
        path.write_bytes(content[:-1] + end)
    expected = Resumed(None, []) if best_is_damaged else Resumed(best, log(9, 4))
    assert last_checkpoint(tmp_path) == expected
    assert "is unfinished or damaged, and is not used" in caplog.text
    assert list(tmp_path.iterdir()) == ([] if best_is_damaged else [best])


def test_a_loss_that_is_no_number_is_never_the_best():
    nan = math.nan
    assert [best_step(log(9, *losses)) for losses in ((nan, 3, 2), (4, nan), (nan, 5))] == [3, 1, 2]
    assert not is_over(log(9, nan, 5, 4), 9, 2)
    assert is_over(log(9, 5, nan, nan), 9, 2)


def test_training_without_a_finite_loss_is_refused():
    with pytest.raises(ValueError, match="step 1 is not finite: the learning rate is too high"):
        best_step(log(9, math.nan, math.nan))


def test_history_has_a_row_a_step_and_nan_where_nothing_was_measured():
    found = history_of([{"step": 1, "loss": 2.0}, *log(4.0), {"step": 1, "eval_loss": 3.0}])
    assert [(row.step, row.valid_loss) for row in found] == [(0, 4.0), (1, 3.0)]
    assert math.isnan(found[0].loss)
    assert found[1].loss == 2.0
