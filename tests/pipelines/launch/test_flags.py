"""Command lines, good and bad."""

import argparse
from dataclasses import dataclass

import pytest

from pipelines.launch import flags as command_line
from pipelines.launch.flag_types import engine_arguments, microseconds, number
from pipelines.launch.flags import config_flags, from_flags, make_parser
from pipelines.launch.shared_flags import (
    LOG,
    MIN_RATING,
    OUTPUT_SHARDS,
    SEED,
    TRAIN_UNTIL,
    WORKSPACE,
    check_train_until,
    source,
)
from transforms.errors import InputError
from transforms.inputs.filters import Period


@dataclass(frozen=True)
class Oven:
    """What a made-up stage is configured with."""

    degrees: int = 180
    minutes: float = 12.5
    mode: str = "fan"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.degrees > 300:
            raise ValueError(f"degrees is {self.degrees}: the oven ends at 300")


HELP = {"degrees": "how hot", "minutes": "how long", "mode": "how"}


FLAGS = (
    *(WORKSPACE, SEED, *LOG, MIN_RATING, TRAIN_UNTIL, OUTPUT_SHARDS),
    *config_flags(Oven, "oven_", HELP, "oven"),
)


def parser() -> argparse.ArgumentParser:
    return make_parser("bake", "Bakes.", "", FLAGS)


GIVEN = ["--workspace=w", "--interactions=log.csv"]


def parse(*argv: str) -> tuple[argparse.Namespace, list[str]]:
    return command_line.parse(parser(), FLAGS, [*GIVEN, *argv])


def complaint(capsys: pytest.CaptureFixture, *argv: str) -> str:
    """Return what is said of a command line that is refused."""
    with pytest.raises(SystemExit) as end:
        parse(*argv)
    assert end.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_the_project_of_beam_is_that_of_the_input() -> None:
    flags, beam_flags = parse("--project=other-proj", "--interactions=bq://my-project.shop.log")
    assert source(flags, "interactions").project == "other-proj"
    assert beam_flags == ["--project=other-proj"]  # Beam has it too


def test_flags_have_defaults() -> None:
    flags, beam_flags = parse()
    assert (flags.workspace, flags.interactions, flags.seed, flags.output_shards) == (
        "w",
        "log.csv",
        0,
        4,
    )
    assert flags.min_rating is None
    assert beam_flags == []


@pytest.mark.parametrize(
    ("given", "time"),
    [
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T12:00:00.5", "2026-01-31T12:00:00.500000+00:00"),
        ("2026-01-31 02:00:00+03:00", "2026-01-30T23:00:00+00:00"),
        ("2026-01-31T00:00:00Z", "2026-01-31T00:00:00+00:00"),
    ],
)
def test_times_are_of_utc_unless_they_say_otherwise(given: str, time: str) -> None:
    flags, _ = parse(f"--since={given}")
    assert flags.since == time
    assert parse(f"--since={flags.since}")[0].since == time


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-30", "1700000000", "'; DROP TABLE t"])
def test_what_is_no_time_is_refused(capsys, text: str) -> None:
    assert "is neither a date like 2026-01-31" in complaint(capsys, f"--until={text}")


def test_limits_become_the_microseconds_of_the_source(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").touch()
    flags, _ = parse("--since=1970-01-01T00:00:01", "--until=1969-12-31T23:59:59")
    with pytest.raises(InputError, match="is not before --until=1969-12-31T23:59:59"):
        source(flags, "interactions")
    flags.since, flags.until = flags.until, flags.since
    assert source(flags, "interactions").period == Period(-1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("period", "said"),
    [
        ("--since=2026-01-31", "is not after --since=2026-01-31T00:00:00"),
        ("--since=2026-02-01", "is not after --since=2026-02-01T00:00:00"),
        ("--until=2026-01-31", "is not before --until=2026-01-31T00:00:00"),
        ("--until=2026-01-30", "is not before --until=2026-01-30T00:00:00"),
    ],
)
def test_a_cut_outside_of_the_period_is_refused(period: str, said: str) -> None:
    flags, _ = parse("--train_until=2026-01-31", period)
    with pytest.raises(InputError, match=f"--train_until=2026-01-31T00:00:00.*{said}"):
        check_train_until(flags.train_until, flags)


def test_a_cut_within_the_period_becomes_microseconds() -> None:
    flags, _ = parse(
        "--train_until=1970-01-01T00:00:01", "--since=1970-01-01", "--until=1970-01-02"
    )
    check_train_until(flags.train_until, flags)
    assert microseconds(flags.train_until) == 1_000_000
    assert microseconds(parse()[0].train_until) is None


def refusal(capsys: pytest.CaptureFixture, *argv: str) -> str:
    """Return the one line that refuses a command line."""
    with pytest.raises(SystemExit) as end:
        command_line.parse(parser(), FLAGS, argv)
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_a_required_flag_is_named(capsys) -> None:
    assert refusal(capsys, GIVEN[0]).startswith("error: --interactions is missing: user_id,")


def test_a_misspelt_flag_is_named_before_the_missing_one(capsys) -> None:
    said = refusal(capsys, GIVEN[0], "--interactons=log.csv")
    assert said.endswith(
        "--interactons is a flag neither of this pipeline nor of Beam; did you mean --interactions?"
    )


@pytest.mark.parametrize(
    "beam_flags",
    [
        ["--runner=DataflowRunner", "--project=p", "--region=r", "--temp_location=gs://b/t"],
        ["--runner", "DirectRunner", "--direct_num_workers", "2"],
        ["--save_main_session"],
        ["--max_num_workers=3", "--experiments=use_runner_v2"],
    ],
)
def test_flags_of_beam_are_handed_on(beam_flags: list[str]) -> None:
    assert parse(*beam_flags)[1] == beam_flags


def test_an_unknown_flag_is_named_with_the_nearest(capsys) -> None:
    said = complaint(capsys, "--shard=3")
    assert (
        "--shard is a flag neither of this pipeline nor of Beam; did you mean --output_shards?"
        in said
    )


def test_an_unknown_flag_like_no_other_points_to_help(capsys) -> None:
    said = complaint(capsys, "--zzz")
    assert "--zzz is a flag neither of this pipeline nor of Beam; --help lists the flags" in said


def test_a_word_that_is_no_flag_is_named(capsys) -> None:
    assert "stray" in complaint(capsys, "stray")


@pytest.mark.parametrize(
    ("flag", "limit"),
    [
        ("--output_shards=0", "'0' is not a whole number of at least 1"),
        ("--output_shards=2.5", "'2.5' is not a whole number of at least 1"),
        ("--output_shards=many", "'many' is not a whole number of at least 1"),
        ("--seed=-1", "'-1' is not a whole number from 0 to 4294967295"),
        ("--seed=4294967296", "'4294967296' is not a whole number from 0 to 4294967295"),
        ("--min_rating=good", "'good' is not a number"),
        ("--min_rating=nan", "'nan' is not a number"),
    ],
)
def test_a_value_out_of_range_is_named_with_the_range(capsys, flag: str, limit: str) -> None:
    said = complaint(capsys, flag)
    assert said.endswith(f"argument {flag.split('=')[0]}: {limit}")


def test_numbers_include_their_limits() -> None:
    share = number(0, 0.5)
    assert (share("0"), share("0.5")) == (0, 0.5)
    with pytest.raises(argparse.ArgumentTypeError, match=r"'0.51' is not a number from 0 to 0.5"):
        share("0.51")


def test_fields_of_a_dataclass_are_flags_with_its_types_and_defaults() -> None:
    flags, _ = parse("--oven_degrees=200", "--oven_minutes=3", "--seed=5")
    assert from_flags(Oven, flags, "oven_") == Oven(200, 3.0, "fan", 5)


def test_a_value_that_the_dataclass_refuses_is_an_input_error() -> None:
    flags, _ = parse("--oven_degrees=400")
    with pytest.raises(InputError, match="--oven_degrees is 400: the oven ends at 300"):
        from_flags(Oven, flags, "oven_")


def test_help_has_a_heading_for_each_group() -> None:
    shown = parser().format_help()
    for heading in ("workspace:", "input:", "oven:"):
        assert f"\n{heading}\n" in shown
    assert "how hot (default: 180)" in shown


TOKEN = "hf_" + 30 * "x"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f'{{"hf_token": "{TOKEN}"}}', "hf_token"),
        ('{"token": "mine"}', "token"),
        ('{"loader": {"aws_secret": "mine"}}', "aws_secret"),
        ('{"loader": [{"api_key": "mine"}]}', "api_key"),
        (f'{{"revision": "{TOKEN}"}}', "revision"),
        (f'{{"list": ["a", "{TOKEN}"]}}', "list"),
    ],
)
def test_secrets_among_the_arguments_of_the_engine_are_refused_unsaid(text: str, name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{name} holds a secret") as raised:
        engine_arguments(text)
    assert "mine" not in str(raised.value)
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize("text", [f'{{"hf_token": "{TOKEN}"', f'["{TOKEN}"]'])
def test_arguments_that_are_no_object_are_refused_unsaid(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="it is not") as raised:
        engine_arguments(text)
    assert TOKEN not in str(raised.value)


def test_arguments_of_the_engine_are_sorted() -> None:
    given = '{"max_num_batched_tokens": 64, "dtype": "auto", "hf_token": true}'
    assert engine_arguments(given) == (
        '{"dtype": "auto", "hf_token": true, "max_num_batched_tokens": 64}'
    )
