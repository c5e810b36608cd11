"""A decoder whose engine can be asked too: one engine, which takes a minute to start, for both."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil

from models.language.decoding.novelty_decoder import NoveltyDecoder
from tests.models.language.lookups import recorded_lookups


class OpenDecoder(NoveltyDecoder):
    """Passes calls on to its engine, and says how its process uses the network."""

    def __init__(self, **arguments: Any) -> None:
        self._lookups = recorded_lookups()
        super().__init__(**arguments)

    def lookups(self) -> list[str]:
        """Return the hosts that were looked for so far."""
        return self._lookups

    def telemetry(self) -> dict[str, bool]:
        """Return who would report the use of the process."""
        from huggingface_hub import constants
        from vllm.usage.usage_lib import is_usage_stats_enabled

        return {
            "huggingface_hub": not constants.HF_HUB_DISABLE_TELEMETRY,
            "vllm": is_usage_stats_enabled(),
        }

    def listens_at(self) -> set[str]:
        """Return the addresses of the ports that the process listens on."""
        found = psutil.Process().net_connections("inet")
        return {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN}

    def last_hidden_states(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        return self._engine.last_hidden_states(texts)

    def forget(self) -> None:
        self._engine.forget()
