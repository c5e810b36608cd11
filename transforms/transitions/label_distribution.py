"""The distribution of the training labels, before and after diversification.

A distribution is an array of counts [M], one of each cluster that could be a label: users with a
transition to it, or examples of it.
"""

import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from models.evaluation.statistics.ranking import entropy
from transforms import schemas as col
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.tables.combiners import SumFn

log = logging.getLogger("interest-explorer")

PICTURE = "label_distribution.svg"
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 620, 80, 390  # the axes, in a picture of 800 x 450
_DASHES = 'stroke-dasharray="8 4"'
_MARGIN = 1.6  # factor on the largest and smallest share; so the scale has a tick


def measure(counts: np.ndarray) -> dict[str, float]:
    """Return the figures of a distribution for the manifest, to six decimals.

    Evenness is the entropy as a share of the largest possible, H / log2(M); coverage the share of
    the clusters that occur as a label; and the last figure the share of the n most frequent labels
    in the total, with n = M / 100, rounded up.

    Examples
    --------
    >>> measure(np.array([2, 1, 1, 0]))["evenness"]  # 1.5 of 2 bits
    0.75
    """
    size, total, bits = len(counts), int(counts.sum()), float(entropy(counts))
    largest = np.sort(counts)[-math.ceil(size / 100) :]
    return {
        "total": total,
        "labels": int(np.count_nonzero(counts)),
        "entropy": round(bits, 6),
        "evenness": round(bits / math.log2(size), 6),
        "coverage": round(float(np.mean(counts > 0)), 6),
        "top_1_percent_share": round(float(largest.sum() / max(1, total)), 6),
    }


def users_per_label(counts: pa.Table, labels: int) -> np.ndarray:
    """Sum the users of TRANSITION_COUNTS by label, [labels] int64."""
    novel, users = counts[col.NOVEL].to_numpy(), counts[col.USERS].to_numpy()
    return np.bincount(novel, users, labels).astype(np.int64)


def rows_per_label(transitions: pa.Table, labels: int) -> np.ndarray:
    """Count the rows of each label, [labels] int64."""
    return np.bincount(transitions[col.NOVEL].to_numpy(), minlength=labels)


def draw(before: np.ndarray, after: np.ndarray) -> bytes:
    """Draw the share of each label by rank, before and after diversification, as an SVG.

    As figure 3 of Wang et al. (RecSys 2024), but with shares, so that one scale fits both.
    """
    shares = [np.sort(counts)[::-1] / max(1, counts.sum()) for counts in (before, after)]
    positive = [share[share > 0] for share in shares]
    ends = [share.min(initial=1) for share in positive]
    ranks = max(2, *map(len, positive))
    low, high = min(ends) / _MARGIN, max(share[0] for share in shares) * _MARGIN or 2

    def x(rank: int) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (rank - 1) / (ranks - 1)

    def y(share: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * math.log(share / low) / math.log(high / low)

    ticks = (digit * 10.0**power for power in range(-9, 1) for digit in (1, 2, 5))
    title = (
        f"The most frequent of {len(before)} labels has {shares[0][0]:.1%} of the transitions",
        f"and {shares[1][0]:.1%} of the training examples",
    )
    texts: list[tuple[float, float, str, str]] = [
        *((_LEFT, 30 + 20 * line, content, "") for line, content in enumerate(title)),
        (_LEFT, _TOP - 8, "share", 'text-anchor="end"'),
        (_LEFT, _BOTTOM + 45, "labels, the most frequent first", ""),
        *((x(rank), _BOTTOM + 20, str(rank), 'text-anchor="middle"') for rank in (1, ranks)),
        *(
            (_LEFT - 6, y(tick) + 5, f"{100 * tick:g}%", 'text-anchor="end"')
            for tick in ticks
            if low <= tick <= high
        ),
    ]
    lines = [f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="black"/>']
    # The upper line has its text above its end and the lower line below: no overlap.
    offsets = (-24, 18) if ends[0] >= ends[1] else (18, -24)
    for share, offset, name, total, colour, dashes in (
        (positive[0], offsets[0], "before:", f"{before.sum():,} transitions", "#0072B2", ""),
        (positive[1], offsets[1], "after:", f"{after.sum():,} examples", "#B34700", _DASHES),
    ):
        points = " ".join(f"{x(rank):.1f},{y(one):.1f}" for rank, one in enumerate(share, 1))
        style = f'fill="none" stroke="{colour}" stroke-width="2" {dashes}'
        lines.append(f'<polyline points="{points}" {style}/>')
        if len(share):
            left, top = x(len(share)) + 14, y(share[-1]) + offset
            texts += [(left, top, name, f'fill="{colour}"')]
            texts += [(left, top + 16, total, f'fill="{colour}"')]
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 450" font-size="14" '
            'font-family="sans-serif"><rect width="800" height="450" fill="white"/>',
            *lines,
            *(f'<text x="{x:.1f}" y="{y:.1f}" {more}>{text}</text>' for x, y, text, more in texts),
            "</svg>\n",
        ]
    ).encode()


@dataclass(eq=False)
class WriteLabelDistribution(beam.PTransform):
    """Writes the picture and the figures of the stage.

    Takes `counts`, tables of TRANSITION_COUNTS, and `drawn`, a single table of the drawn ones.
    """

    folder: str
    labels: int  # M

    def expand(self, tables: Any) -> beam.PCollection[RowCounts]:
        before = (
            tables["counts"]
            | "Users" >> beam.Map(users_per_label, self.labels)
            | "Sum" >> beam.CombineGlobally(SumFn(partial(np.zeros, self.labels, np.int64)))
        )
        return tables["drawn"] | "Write" >> beam.Map(self._write, beam.pvalue.AsSingleton(before))

    def _write(self, drawn: pa.Table, before: np.ndarray) -> RowCounts:
        after = rows_per_label(drawn, self.labels)
        was, now = measure(before), measure(after)
        log.info(
            "mine_transitions: training labels: entropy %.2f -> %.2f bits, %d -> %d of %d clusters,"
            " top 1%% of labels %.1f%% -> %.1f%%",
            *(was["entropy"], now["entropy"], was["labels"], now["labels"], self.labels),
            *(100 * was["top_1_percent_share"], 100 * now["top_1_percent_share"]),
        )
        return RowCounts(
            files=(files.write_record(self.folder, PICTURE, draw(before, after)),),
            figures={
                "label_distribution": {"clusters": self.labels, "before": was, "after": now},
            },
        )
