"""The SavedModel in the process of the tests, in place of one that every run starts."""

import threading
from importlib import import_module
from typing import Any

_LOCK = threading.Lock()  # the workers of a run are threads
_OBJECTS: dict[str, Any] = {}


class InProcess:
    """Takes the place of `SharedProcess`: a run then imports TensorFlow no more."""

    def __init__(
        self, pipeline: str, name: str, factory: str, arguments: dict[str, Any], secret: str
    ) -> None:
        with _LOCK:
            if secret not in _OBJECTS:
                module, _, made = factory.partition(":")
                _OBJECTS.clear()  # of earlier runs
                _OBJECTS[secret] = getattr(import_module(module), made)(**arguments)
            self._object = _OBJECTS[secret]

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._object, method)(*arguments)
