import pytest

from models.language.training.finetune_config import FinetuneConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "method 'magic'"),
        ({"dtype": "int3"}, "dtype 'int3'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0"),
        ({"warmup_steps": 120, "max_steps": 120}, "warmup_steps is 120"),
    ],
)
def test_a_bad_setting_is_refused_and_shown(changes, message):
    with pytest.raises(ValueError, match=message):
        FinetuneConfig(**changes)
