"""What a stage takes over from the stages before it: their settings, typed, and no other value."""

from dataclasses import dataclass
from typing import Any

from models.language.prompt import PromptTemplate
from pipelines.launch.flag_types import microseconds
from pipelines.launch.shared_flags import base_model_files
from pipelines.launch.workspace import Workspace
from transforms.clusters.read_clusters import read_descriptions
from transforms.errors import InputError
from transforms.language.blocked_clusters import resolve_blocked
from transforms.transitions.splits import SplitSpec


@dataclass(frozen=True)
class ClustersInfo:
    """What build_clusters decided."""

    sizes: tuple[int, ...]  # clusters of each level, coarse to fine
    base_model: str
    min_rating: float | None
    train_until: str | None  # in ISO 8601

    @classmethod
    def read(cls, workspace: Workspace) -> "ClustersInfo":
        """Read it from the manifest of the stage; InputError if the stage is not complete."""
        flags = workspace.manifest("clusters")["flags"]
        return cls(
            tuple(flags["clusters"]),
            flags["base_model"],
            flags["min_rating"],
            flags["train_until"],
        )

    def base_model_files(self) -> dict[str, list[str]]:
        """Return the files of the base model; InputError if it is not on this machine."""
        try:
            return base_model_files(self.base_model)
        except InputError as error:
            raise InputError(
                f"{error} (recorded by build_clusters); put the model there, or run `python -m "
                "pipelines.build_clusters` again with another --base_model"
            ) from error

    def settings(self) -> dict[str, Any]:
        """Return what the output of every later stage depends on, beside the clusters."""
        return {name: getattr(self, name) for name in ("base_model", "min_rating", "train_until")}


@dataclass(frozen=True)
class TransitionsInfo:
    """What mine_transitions decided."""

    level: int
    descriptions: tuple[str, ...]  # of the clusters of that level, by id
    template: PromptTemplate
    split_by: str
    split: SplitSpec

    @classmethod
    def read(cls, workspace: Workspace) -> "TransitionsInfo":
        """Read it from the manifest of the stage; InputError if the stage is not complete."""
        manifest = workspace.manifest("transitions")
        flags, level = manifest["flags"], manifest["level"]
        cut = microseconds(ClustersInfo.read(workspace).train_until)
        return cls(
            level,
            tuple(read_descriptions(workspace.folder("clusters"), level)),
            PromptTemplate.parse(flags["prompt_template"]),
            flags["split_by"],
            SplitSpec(flags["valid_share"], flags["test_share"], flags["seed"], cut),
        )


@dataclass(frozen=True)
class NoveltyTableInfo:
    """What build_novelty_table decided."""

    level: int
    descriptions: tuple[str, ...]
    blocked: tuple[int, ...]  # clusters that are never an answer

    @classmethod
    def read(cls, workspace: Workspace) -> "NoveltyTableInfo":
        """Read it from the manifest of the stage; InputError if the stage is not complete."""
        manifest = workspace.manifest("novelty_table")
        level = manifest["level"]
        descriptions = read_descriptions(workspace.folder("clusters"), level)
        blocked = resolve_blocked(manifest["flags"]["blocked_clusters"], descriptions)
        return cls(level, tuple(descriptions), tuple(blocked))


@dataclass(frozen=True)
class RetrievalInfo:
    """What train_retrieval decided."""

    items_per_answer: int

    @classmethod
    def read(cls, workspace: Workspace) -> "RetrievalInfo":
        """Read it from the manifest of the stage; InputError if the stage is not complete."""
        return cls(workspace.manifest("retrieval")["flags"]["items_per_answer"])
