"""Vectors of length 1."""

import numpy as np


def unit_rows(rows: np.ndarray, shortest: float | None = None) -> np.ndarray:
    """Divide rows [n, d] by their L2 norms, in the precision of the rows; zeros stay zeros.

    A row with a norm below `shortest` is divided by `shortest`: rounding noise stays noise.
    """
    least = np.finfo(rows.dtype).tiny if shortest is None else shortest
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), least)
