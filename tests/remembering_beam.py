"""Beam with a memory: half of the CPU of a small pipeline goes into questions asked before.

For each transform of a pipeline Beam parses its options several times, and reads the signature of
every method of a DoFn to find its states and timers. None of this changes while a pipeline is
built, so the tests ask once.
"""

import types
import weakref
from collections.abc import Callable
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import core, userstate

_Signature = tuple[list[str], list[Any]]
_Specs = tuple[set[Any], set[Any]]  # of states and of timers


def remember() -> None:
    """Let Beam remember its answers in this process."""
    core.get_function_args_defaults = _once_a_function(core.get_function_args_defaults)
    userstate.get_dofn_specs = _once_a_dofn(userstate.get_dofn_specs)
    PipelineOptions.view_as = _once_a_view(PipelineOptions.view_as)  # type: ignore[method-assign]


def _once_a_function(ask: Callable[[Any], _Signature]) -> Callable[[Any], _Signature]:
    known: dict[types.FunctionType, _Signature] = {}

    def answer(function: Any) -> _Signature:
        if not isinstance(function, types.MethodType):
            return ask(function)
        if function.__func__ not in known:
            known[function.__func__] = ask(function)
        names, defaults = known[function.__func__]
        return list(names), list(defaults)

    return answer


def _once_a_dofn(ask: Callable[[Any], _Specs]) -> Callable[[Any], _Specs]:
    known: weakref.WeakKeyDictionary[Any, _Specs] = weakref.WeakKeyDictionary()

    def answer(dofn: Any) -> _Specs:
        if dofn not in known:
            known[dofn] = ask(dofn)
        states, timers = known[dofn]
        return set(states), set(timers)

    return answer


def _once_a_view(ask: Callable[..., Any]) -> Callable[..., Any]:
    latest: list[Any] = [None, {}]  # the values of the latest options, and the views of them

    def view_as(options: PipelineOptions, cls: type) -> Any:
        if options._all_options is not latest[0]:
            latest[:] = [options._all_options, {}]
        if cls not in latest[1]:
            latest[1][cls] = ask(options, cls)
        return latest[1][cls]

    return view_as
