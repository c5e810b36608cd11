"""The flags of a pipeline: declared once, for its command line, its plan and its Flex Template."""

import argparse
import dataclasses
import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from apache_beam.options.pipeline_options import PipelineOptions

from transforms.errors import as_input_error

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


@dataclass(frozen=True)
class Flag:
    """A flag `--<name>` of a pipeline."""

    name: str
    help: str  # without the default, which is added
    type: Callable[[str], Any] = str
    default: Any = None
    no_default: str = "none"  # what --help says where the default is None or empty
    choices: tuple[str, ...] = ()
    required: bool = False
    switch: bool = False  # takes no value
    repeated: bool = False  # may be given several times
    optional_value: str | None = None  # the value of a flag that is given without one
    metavar: str | None = None
    group: str = "this pipeline"  # heading in --help
    in_plan: bool = True  # another value gives another output, so the stage runs again
    inspects: bool = False  # prints information in place of a run; no template has it
    unreadable: str = ""  # the way out where it names a path that Dataflow workers cannot read
    form: tuple[str, str] | None = None  # parameter type and pattern in a Flex Template

    def help_text(self) -> str:
        """Return the help with the default."""
        if self.required or self.switch:
            return self.help
        default = self.default
        if isinstance(default, list):
            default = ",".join(map(str, default))
        shown = self.no_default if default is None or default == "" else default
        return f"{self.help} (default: {shown})"

    def argparse_options(self) -> dict[str, Any]:
        """Return the keyword arguments of argparse's `add_argument`."""
        required = " (required)" if self.required else ""
        options: dict[str, Any] = {"help": self.help_text().replace("%", "%%") + required}
        if self.switch:
            options |= {"action": "store_true"}
        else:
            options |= {"type": self.type, "default": self.default, "metavar": self.metavar}
            options |= {"choices": self.choices} if self.choices else {}
            options |= {"action": "append"} if self.repeated else {}
        if self.optional_value is not None:
            options |= {"nargs": "?", "const": self.optional_value}
        return options


class _Parser(argparse.ArgumentParser):
    """Refuses a command line in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def make_parser(
    prog: str, description: str, epilog: str, flags: Iterable[Flag]
) -> argparse.ArgumentParser:
    """Return a parser of flags, which `--help` lists under the headings of their groups."""
    parser = _Parser(prog=prog, description=description, epilog=epilog, allow_abbrev=False)
    add_to: dict[str, Callable[..., Any]] = {}
    for flag in flags:
        if flag.group not in add_to:
            add_to[flag.group] = parser.add_argument_group(flag.group).add_argument
        add_to[flag.group](f"--{flag.name}", **flag.argparse_options())
    return parser


def config_flags(
    config: type[Any], prefix: str, help_texts: dict[str, str], group: str
) -> tuple[Flag, ...]:
    """Return a flag `--<prefix><field>` for each of some fields of a dataclass."""
    return tuple(
        Flag(
            prefix + field.name,
            help_texts[field.name],
            type=type(field.default),
            default=field.default,
            group=group,
        )
        for field in dataclasses.fields(config)
        if field.name in help_texts
    )


def from_flags(config: type[Config], flags: argparse.Namespace, prefix: str) -> Config:
    """Return the dataclass that `config_flags` describe, with --seed if it has one.

    Raises
    ------
    InputError
        If the dataclass refuses a value.
    """
    values = {}
    for field in dataclasses.fields(config):
        name = field.name if field.name == "seed" else prefix + field.name
        if hasattr(flags, name):
            values[field.name] = getattr(flags, name)
    with as_input_error(f"--{prefix}"):  # a message begins with the field
        return config(**values)


def parse(
    parser: argparse.ArgumentParser, flags: Iterable[Flag], argv: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str]]:
    """Read a command line; a flag that neither the pipeline nor Beam knows ends the program.

    Returns
    -------
    The pipeline's own flags with Beam's --project, which BigQuery needs too, and Beam's flags.
    """
    own, rest = parser.parse_known_args(argv)
    beam_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in [PipelineOptions, *PipelineOptions.__subclasses__()]:
        if "_add_argparse_args" in vars(options):
            options._add_argparse_args(beam_parser)
    given, unknown = beam_parser.parse_known_args(rest)
    if unknown:
        name = unknown[0].split("=")[0]
        close = difflib.get_close_matches(name, [f"--{flag.name}" for flag in flags], 1)
        hint = f"; did you mean {close[0]}?" if close else "; --help lists the flags"
        parser.error(f"{name} is a flag neither of this pipeline nor of Beam{hint}")
    # Not by argparse, which would name the missing flag first, and the misspelt one never.
    if missing := [flag for flag in flags if flag.required and getattr(own, flag.name) is None]:
        parser.error(f"--{missing[0].name} is missing: {missing[0].help}")
    own.project = given.project
    return own, rest
