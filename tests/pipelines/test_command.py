"""The command `interest-explorer`."""

import pytest

from pipelines.command import NAMES, main


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_help_lists_every_pipeline(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_gets_its_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert f"python -m pipelines.{name}" in capsys.readouterr().out


def test_a_misspelt_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recomend"]) == 2
    assert capsys.readouterr().err == ("error: recomend is no pipeline; did you mean recommend?\n")
