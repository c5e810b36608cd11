"""How the training examples spread over their labels, before and after diversification.

A distribution is an array of counts, one of each of the M clusters that could be a label: users
who made a transition to it, or examples of it.
"""

import io
import logging
import math
from dataclasses import asdict, dataclass
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


def evenness(counts: np.ndarray) -> float:
    """Return the entropy as a share of the largest possible: H / log2(M), M at least 2.

    Examples
    --------
    >>> evenness(np.array([2, 1, 1, 0]))
    0.75
    """
    return float(entropy(counts)) / math.log2(len(counts))


def coverage(counts: np.ndarray) -> float:
    """Return the share of the M clusters that occur as a label.

    Examples
    --------
    >>> coverage(np.array([2, 1, 1, 0]))
    0.75
    """
    return float(np.mean(counts > 0))


def top_share(counts: np.ndarray, top: float = 0.01) -> float:
    """Return which share of all has the most frequent labels, 0 where there are none.

    sum of the n largest counts / sum(counts), n = top * M, rounded up: one label up to M = 100.

    Examples
    --------
    >>> top_share(np.array([2, 1, 1, 0]))
    0.5
    """
    n = math.ceil(round(top * len(counts), 9))  # 0.07 * 100 is a little more than 7
    total = counts.sum()
    return float(np.sort(counts)[-n:].sum() / total) if total else 0.0


@dataclass(frozen=True)
class Distribution:
    """What the manifest says of a distribution of labels; see the functions of the same names."""

    total: int  # users with a transition, or examples
    labels: int  # that occur
    entropy: float  # bits
    evenness: float
    coverage: float
    top_1_percent_share: float


def measure(counts: np.ndarray) -> Distribution:
    """Measure a distribution, to six decimals."""
    return Distribution(
        total=int(counts.sum()),
        labels=int(np.count_nonzero(counts)),
        entropy=round(float(entropy(counts)), 6),
        evenness=round(evenness(counts), 6),
        coverage=round(coverage(counts), 6),
        top_1_percent_share=round(top_share(counts), 6),
    )


def users_per_label(counts: pa.Table, labels: int) -> np.ndarray:
    """Add the users of TRANSITION_COUNTS up by label, [labels] int64."""
    novel, users = counts[col.NOVEL].to_numpy(), counts[col.USERS].to_numpy()
    return np.bincount(novel, users, labels).astype(np.int64)


def rows_per_label(transitions: pa.Table, labels: int) -> np.ndarray:
    """Count the rows of each label, [labels] int64."""
    return np.bincount(transitions[col.NOVEL].to_numpy(), minlength=labels)


def draw(before: np.ndarray, after: np.ndarray) -> bytes:
    """Draw the distributions before and after diversification, each with its labels by rank.

    As figure 3 of Wang et al. (RecSys 2024), but of shares, so that one scale fits both. The same
    distributions give the same bytes.

    Returns
    -------
    An SVG.
    """
    import matplotlib.style
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    title = (
        f"The most frequent of {len(before)} labels has {_largest_share(before):.1%} of the "
        f"transitions\nand {_largest_share(after):.1%} of the training examples"
    )
    # Whatever a machine's own settings are; ids from the content, text as text.
    settings = {"svg.hashsalt": "interest-explorer", "svg.fonttype": "none"}
    with matplotlib.style.context(["default", settings]):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.add_subplot(
            title=title, xlabel="labels, the most frequent first", ylabel="share", yscale="log"
        )
        ends = []  # of the lines: (share, rank, text, colour)
        for text, counts, line, colour in (
            ("before:\n{:,} transitions", before, "-", "#0072B2"),
            ("after:\n{:,} examples", after, "--", "#B34700"),
        ):
            shares = np.sort(counts[counts > 0])[::-1] / max(1, counts.sum())
            axes.plot(np.arange(1, len(shares) + 1), shares, line, color=colour, linewidth=2)
            if len(shares):
                ends.append((shares[-1], len(shares), text.format(counts.sum()), colour))
        # Above the end of the upper line and below that of the lower one, they can't overlap.
        for (share, rank, text, colour), side in zip(sorted(ends), ("top", "bottom"), strict=False):
            axes.annotate(
                text,
                (rank, share),
                xytext=(6, 0),
                textcoords="offset points",
                va=side,
                color=colour,
            )
        axes.margins(y=0.15)  # room for the text below the lower line
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
        axes.spines[["top", "right"]].set_visible(False)
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Title": title})
    return svg.getvalue()


def _largest_share(counts: np.ndarray) -> float:
    return float(counts.max() / max(1, counts.sum()))


@dataclass(eq=False)
class WriteLabelDistribution(beam.PTransform):
    """Writes the picture and puts the numbers in the stage's figures.

    Takes `counts`, tables of TRANSITION_COUNTS, and `drawn`, a single one of those drawn.
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
            was.entropy,
            now.entropy,
            was.labels,
            now.labels,
            self.labels,
            100 * was.top_1_percent_share,
            100 * now.top_1_percent_share,
        )
        return RowCounts(
            files=(files.write_record(self.folder, PICTURE, draw(before, after)),),
            figures={
                "label_distribution": {
                    "clusters": self.labels,
                    "before": asdict(was),
                    "after": asdict(now),
                }
            },
        )
