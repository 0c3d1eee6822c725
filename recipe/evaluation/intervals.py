"""How sure a measured number is: intervals from resampling dialogues.

Utterances of one dialogue share a topic, speakers and often an emotion, so dialogues are resampled, not
utterances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recipe.evaluation.dialogue_counts import ROUNDING, counts_per_dialogue, measures_of
from recipe.evaluation.measures import MEASURES
from rewards.labels import corpus_labels

#: Low and high end, equal where every resample gives the same; None where nothing can be resampled.
Interval = tuple[float, float] | None


def bootstrap_intervals(
    records: Sequence[Mapping[str, Any]], resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """Percentile intervals of every measure, from resampling the dialogues of each corpus.

    Args:
        records: of `recipe.evaluation.answers.score_answers`.
        resamples: how many times the dialogues are drawn with replacement.
        level: the share of resamples inside an interval.
        seed: of the draws.

    Returns:
        corpus (and ``avg``, the mean over corpora) -> measure -> (low, high), for the measure's own unit.
        None where a corpus has a single dialogue, which says nothing of other dialogues; then for ``avg``,
        too. Two equal ends: all resamples agree (see `describe_interval`), say 0 right of 40, and the
        interval is too narrow to be believed.

    Raises:
        ValueError: there is no record.
    """
    if not records:
        raise ValueError("no records to resample")
    draw, drawn, alone = np.random.default_rng(seed), {}, set()
    for corpus in sorted({r["corpus"] for r in records}):
        counts = counts_per_dialogue([r for r in records if r["corpus"] == corpus], corpus)
        dialogues = len(counts)
        alone |= {corpus, "avg"} if dialogues < 2 else set()
        weights = draw.multinomial(dialogues, np.full(dialogues, 1 / dialogues), size=resamples)
        drawn[corpus] = measures_of(weights @ counts, len(corpus_labels(corpus)))
    drawn["avg"] = {m: np.mean([drawn[c][m] for c in drawn], axis=0) for m in MEASURES}
    return {
        corpus: {m: None if corpus in alone else percentiles(v[m], level) for m in MEASURES}
        for corpus, v in drawn.items()
    }


def percentiles(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The middle ``level`` of some resamples; two equal ends where they differ by no more than rounding.

    Raises:
        ValueError: one of them is no finite number.
    """
    if not np.isfinite(values).all():
        raise ValueError("a resample is no finite number, so a value that was drawn is none")
    if np.ptp(values) <= ROUNDING:
        return (float(values[0]),) * 2
    tail = (1 - level) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def describe_interval(interval: Interval, form: str = "%.2f") -> str:
    """An interval in words: "–" where there is none; it is said where all resamples agree."""
    if interval is None:
        return "–"
    low, high = interval
    return f"{form % low} in all resamples" if low == high else f"{form % low} to {form % high}"


class Estimate(NamedTuple):
    """A mean of ``n`` values of ``clusters`` clusters, with an `Interval`."""

    mean: float
    interval: Interval
    n: int
    clusters: int


def clustered_mean(
    values: Sequence[float],
    clusters: Sequence[Any],
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate | None:
    """A mean over all values, with a percentile interval from resampling whole clusters.

    Args:
        values: one or more numbers of any unit.
        clusters: the dialogue of each.
        resamples, level, seed: as in `bootstrap_intervals`.

    Returns:
        The estimate, whose interval is None with one cluster; None without a value.

    Raises:
        ValueError: a value is no finite number.
    """
    if not len(values):
        return None
    sums: dict[Any, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"a value of {cluster!r} is {value}")
        line = sums.setdefault(cluster, [0.0, 0])
        line[0] += float(value)
        line[1] += 1
    counts = np.array(list(sums.values()))
    interval = None
    if len(counts) > 1:
        draw = np.random.default_rng(seed)
        weights = draw.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=resamples)
        total, n = (weights @ counts).T
        interval = percentiles(total / n, level)
    return Estimate(float(np.mean(values)), interval, len(values), len(counts))
