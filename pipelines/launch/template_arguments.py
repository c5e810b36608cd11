"""The command line that a Flex Template's launcher passes, as a pipeline takes it."""

from collections.abc import Sequence

from pipelines.launch.stage import Stage


def arguments(stage: Stage, argv: Sequence[str]) -> list[str]:
    """Return what the Flex Template launcher passes as the pipeline's command line takes it.

    It gives every parameter a value; a flag such as --discard_partial takes none.
    """
    booleans = {f"--{flag.name}" for flag in stage.flags if flag.switch}
    given = [argument.partition("=") for argument in argv]
    return [
        name if name in booleans else name + equals + value
        for name, equals, value in given
        if not (name in booleans and value == "false")
    ]
