"""Combiners that many pipelines share."""

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam


class SumFn(beam.CombineFn):
    """Adds elements with `+`; the sum of no elements is `zero()`, or None without `zero`."""

    def __init__(self, zero: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self._zero = zero

    def create_accumulator(self) -> Any:
        return None

    def add_input(self, accumulator: Any, element: Any) -> Any:
        return element if accumulator is None else accumulator + element

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        found = [one for one in accumulators if one is not None]
        return functools.reduce(operator.add, found) if found else None

    def extract_output(self, accumulator: Any) -> Any:
        return self._zero() if accumulator is None and self._zero else accumulator
