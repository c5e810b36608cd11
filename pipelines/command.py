"""The command `interest-explorer`: runs a pipeline by its name."""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from pipelines.launch.workspace import PIPELINES

NAMES = ("explore", "check_data", *PIPELINES.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line and return the exit code."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        first_lines = {
            each: (import_module(f"pipelines.{each}").__doc__ or "").splitlines()[0]
            for each in NAMES
        }
        names = "\n".join(f"  {each:<20} {line}" for each, line in first_lines.items())
        print(
            f"usage: interest-explorer PIPELINE [flags]\n\npipelines:\n{names}\n\n"
            "`interest-explorer PIPELINE --help` lists its flags."
        )
        return 0
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES, 1)
        hint = f"did you mean {close[0]}?" if close else "--help lists the pipelines"
        print(f"error: {name} is no pipeline; {hint}", file=sys.stderr)
        return 2
    module = import_module(f"pipelines.{name}")
    code: int = (module.STAGE if name in PIPELINES.values() else module).main(rest)
    return code
