"""What a pipeline takes over from the stages before it."""

import argparse

from models.language.prompt import PromptTemplate
from pipelines.launch import flags as command_line
from pipelines.launch.workspace import Workspace
from transforms.clusters.read_clusters import read_descriptions
from transforms.evaluation.held_out_transitions import SplitSpec
from transforms.language.blocked_clusters import resolve_blocked


def held_out(workspace: Workspace) -> SplitSpec:
    """Return how mine_transitions kept users and times apart."""
    mined = workspace.manifest("transitions")["flags"]
    cut = command_line.cut(argparse.Namespace(train_until=mined["train_until"]))
    return SplitSpec(mined["valid_share"], mined["test_share"], mined["seed"], cut)


def prompt_template(workspace: Workspace) -> PromptTemplate:
    """Return the template of the prompts that the transitions were written as."""
    return PromptTemplate.parse(workspace.manifest("transitions")["flags"]["prompt_template"])


def blocked_clusters(workspace: Workspace) -> tuple[int, ...]:
    """Return the clusters that the novelty table never has as an answer."""
    built = workspace.manifest("novelty_table")
    descriptions = read_descriptions(workspace.folder("clusters"), built["level"])
    return tuple(resolve_blocked(built["flags"]["blocked_clusters"], descriptions))
