"""How sure a measured number is: intervals over dialogues, paired tests, corrections, several seeds.

Utterances of one dialogue share a topic, speakers and often an emotion, so dialogues are resampled and
permuted, not utterances: McNemar's test on utterances rejected a true null hypothesis in 24 % of clustered
data at a nominal 5 %. Every measure of `recipe.evaluation.measures.summarise` is a function of counts that
add up over dialogues, so a resample is a matrix product.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recipe.evaluation.confidence import fixed_weight_reward
from recipe.evaluation.measures import MEASURES
from rewards.labels import corpus_labels

#: Low and high end, equal where every resample gives the same; None where nothing can be resampled.
Interval = tuple[float, float] | None
#: Differences below this are rounding.
_ROUNDING = 1e-9
#: So many arrangements are in memory at a time.
_BATCH = 1000


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
        counts = _counts_per_dialogue([r for r in records if r["corpus"] == corpus], corpus)
        dialogues = len(counts)
        alone |= {corpus, "avg"} if dialogues < 2 else set()
        weights = draw.multinomial(dialogues, np.full(dialogues, 1 / dialogues), size=resamples)
        drawn[corpus] = _measures(weights @ counts, len(corpus_labels(corpus)))
    drawn["avg"] = {m: np.mean([drawn[c][m] for c in drawn], axis=0) for m in MEASURES}
    return {
        corpus: {m: None if corpus in alone else percentiles(v[m], level) for m in MEASURES}
        for corpus, v in drawn.items()
    }


def percentiles(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The middle ``level`` of some resamples; two equal ends where they differ by no more than rounding."""
    if np.ptp(values) <= _ROUNDING:
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
    """
    if not len(values):
        return None
    sums: dict[Any, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
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


def _counts_per_dialogue(records: Sequence[Mapping[str, Any]], corpus: str) -> np.ndarray:
    """Rows, sums of acc, valid, score, iou, then per label: hits, gold, predicted; one line a dialogue."""
    labels = {label: i for i, label in enumerate(corpus_labels(corpus))}
    lines: dict[str, np.ndarray] = {}
    for record in records:
        line = lines.setdefault(record["dialogue_id"], np.zeros(5 + 3 * len(labels)))
        line[:5] += [1, *(float(record[k]) for k in ("acc", "valid", "score", "iou"))]
        gold, pred = labels[record["gold"]], labels.get(record["pred"])
        line[5 + len(labels) + gold] += 1
        if pred is not None:
            line[5 + 2 * len(labels) + pred] += 1
            line[5 + gold] += gold == pred
    return np.stack(list(lines.values()))


def _measures(sums: np.ndarray, labels: int) -> dict[str, np.ndarray]:
    """The measures of each line of summed counts; F1 of a label that occurs nowhere is 0.

    Beside `MEASURES` ``majority_share``: the share of the answers whose first label is the most frequent one.
    """
    n, acc, valid, score, iou = sums[:, :5].T
    hits, gold, pred = (sums[:, 5 + i * labels : 5 + (i + 1) * labels] for i in range(3))
    both = gold + pred
    f1 = np.divide(2 * hits, both, out=np.zeros_like(both), where=both > 0)
    return {
        "accuracy": acc / n,
        "weighted_f1": (f1 * gold).sum(axis=1) / n,
        "macro_f1": f1.mean(axis=1),
        "valid": valid / n,
        "reward": score / n,
        "iou": iou / n,
        "majority_share": pred.max(axis=1) / n,
    }


def paired_permutation(
    first: Sequence[float],
    second: Sequence[float],
    dialogues: Sequence[str],
    resamples: int = 9999,
    seed: int = 0,
    alternative: str = "two-sided",
) -> float:
    """Permutation test that two models score alike on the same rows: whole dialogues are swapped.

    Args:
        first: a score per row.
        second: the other model's, for the same rows.
        dialogues: the dialogue of each row.
        resamples: at most so many swaps are tried; all, if there are fewer.
        seed: of the draws.
        alternative: ``two-sided``, ``greater`` (the first scores more) or ``less``.

    Returns:
        p; 1.0 for a single dialogue, or where no dialogue's sum differs.

    Raises:
        ValueError: the three are not of one length, or there is no such alternative.
    """
    if alternative not in ("two-sided", "greater", "less"):
        raise ValueError(f"no alternative {alternative!r}; two-sided, greater or less")
    sums: dict[str, float] = {}
    for a, b, dialogue in zip(first, second, dialogues, strict=True):
        sums[dialogue] = sums.get(dialogue, 0.0) + float(a) - float(b)
    differences = np.array(list(sums.values()))
    # A single dialogue can be swapped or not: both are as extreme.
    if len(differences) < 2 or np.abs(differences).max() <= _ROUNDING:
        return 1.0
    n, observed, draw = len(differences), differences.sum(), np.random.default_rng(seed)
    every = n < 31 and 2**n <= resamples
    greater = less = 0
    tries = 2**n if every else resamples
    for start in range(0, tries, _BATCH):
        size = min(_BATCH, tries - start)
        if every:  # the bits of a number are a pattern of swaps
            swapped = (np.arange(start, start + size)[:, None] >> np.arange(n)) & 1
        else:
            swapped = draw.integers(0, 2, size=(size, n), dtype=np.int8)
        sums = observed - 2 * (swapped @ differences)
        greater += int((sums >= observed - _ROUNDING).sum())
        less += int((sums <= observed + _ROUNDING).sum())
    # Of random swaps the data themselves are one more (Phipson and Smyth 2010), so that p is never 0.
    p = {
        name: x / tries if every else (x + 1) / (tries + 1)
        for name, x in (("greater", greater), ("less", less))
    }
    return min(1.0, 2 * min(p.values())) if alternative == "two-sided" else p[alternative]


def unpaired_permutation(
    first: Sequence[float],
    first_dialogues: Sequence[str],
    second: Sequence[float],
    second_dialogues: Sequence[str],
    resamples: int = 9999,
    seed: int = 0,
) -> float | None:
    """One-sided permutation test that values of other rows are not smaller; dialogues stay together.

    A dialogue weighs by its mean. What occurs on both sides is swapped, what occurs on one is dealt out
    again, so a dialogue's own level cancels where it can.

    Args:
        first: values of one side.
        first_dialogues: the dialogue of each.
        second: the other side's values, expected to be smaller.
        second_dialogues: the dialogue of each.
        resamples: how many arrangements are drawn.
        seed: of the draws.

    Returns:
        p of the fall from first to second; None where less than 20 arrangements exist, so that no p could be
        as small as 0.05.
    """
    a, b = _means(first, first_dialogues), _means(second, second_dialogues)
    both = sorted(a.keys() & b.keys(), key=str)
    only = [[x[d] for d in sorted(x.keys() - set(both), key=str)] for x in (a, b)]
    if not a or not b or 2 ** min(len(both), 20) * math.comb(sum(map(len, only)), len(only[0])) < 20:
        return None
    middle = np.array([(a[d] + b[d]) / 2 for d in both])
    half = np.array([(a[d] - b[d]) / 2 for d in both])
    pool, cut = np.concatenate(only), len(only[0])
    draw = np.random.default_rng(seed)
    observed, reached = _level(a) - _level(b), 1  # the data themselves are one of the arrangements
    for start in range(0, resamples, _BATCH):
        size = min(_BATCH, resamples - start)
        swapped = draw.choice((-1.0, 1.0), size=(size, len(both))) @ half
        dealt = draw.permuted(np.broadcast_to(pool, (size, len(pool))), axis=1)
        above = (middle.sum() + swapped + dealt[:, :cut].sum(axis=1)) / len(a)
        below = (middle.sum() - swapped + dealt[:, cut:].sum(axis=1)) / len(b)
        reached += int((above - below >= observed - _ROUNDING).sum())
    return reached / (resamples + 1)


def _level(means: Mapping[Any, float]) -> float:
    return math.fsum(means.values()) / len(means)


def _means(values: Sequence[float], clusters: Sequence[Any]) -> dict[Any, float]:
    found: dict[Any, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        found.setdefault(cluster, []).append(float(value))
    return {cluster: float(np.mean(part)) for cluster, part in found.items()}


class Change(NamedTuple):
    """A measure of two checkpoints on the same rows, and one-sided p-values of its rise and its fall."""

    before: float
    after: float
    p_rise: float
    p_fall: float


def changes(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    resamples: int = 1999,
    seed: int = 0,
) -> dict[str, Change]:
    """What changed between two checkpoints, averaged over corpora, for measures that are no sums, too.

    Under the null hypothesis the checkpoints answer alike, so the answers to a whole dialogue may be
    swapped; every swap gives all measures anew.

    Args:
        before: records of `recipe.evaluation.answers.score_answers`.
        after: the later checkpoint's, of the same rows.
        resamples: how many random swaps are tried.
        seed: of the draws.

    Returns:
        Measure (`MEASURES`, and ``majority_share``) -> `Change`.

    Raises:
        ValueError: the two answered different rows, or none.
    """
    if {r["row_id"] for r in before} != {r["row_id"] for r in after} or not before:
        raise ValueError("the checkpoints answered different rows, so they cannot be paired")
    draw, drawn = np.random.default_rng(seed), []
    for corpus in sorted({r["corpus"] for r in before}):
        parts = [[r for r in records if r["corpus"] == corpus] for records in (before, after)]
        order = {d: i for i, d in enumerate(dict.fromkeys(r["dialogue_id"] for r in parts[0]))}
        parts = [sorted(part, key=lambda r: order[r["dialogue_id"]]) for part in parts]
        a, b = (_counts_per_dialogue(part, corpus) for part in parts)
        swap = draw.integers(0, 2, size=(resamples, len(a)))
        moved = np.vstack([np.zeros(a.shape[1]), swap @ (b - a)])  # the data themselves come first
        labels = len(corpus_labels(corpus))
        drawn.append((_measures(a.sum(axis=0) + moved, labels), _measures(b.sum(axis=0) - moved, labels)))
    found = {}
    for name in drawn[0][0]:
        low, high = (np.mean([pair[side][name] for pair in drawn], axis=0) for side in (0, 1))
        rise = high - low
        found[name] = Change(
            float(low[0]),
            float(high[0]),
            float(np.mean(rise >= rise[0] - _ROUNDING)),
            float(np.mean(rise <= rise[0] + _ROUNDING)),
        )
    return found


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values that hold for all comparisons together."""
    order = np.argsort(pvalues, kind="stable")
    adjusted, worst = [0.0] * len(pvalues), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(pvalues) - rank) * pvalues[i]))
        adjusted[i] = worst
    return adjusted


def compare(
    records: Mapping[str, Sequence[Mapping[str, Any]]], pairs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Paired tests between checkpoints that answered the same rows.

    Args:
        records: checkpoint -> its records.
        pairs: which to compare.

    Returns:
        For each pair: differences of accuracy, reward and its fixed-weight twin (second minus first, over
        all rows), and of each the p of `paired_permutation` over dialogues, after Holm's
        correction over the pairs.

    Raises:
        ValueError: the checkpoints answered different rows.
    """
    found: list[dict[str, Any]] = []
    twins = {name: {r["row_id"]: _twin(r) for r in records[name]} for name in {n for p in pairs for n in p}}
    for first, second in pairs:
        a, b = ({r["row_id"]: r for r in records[name]} for name in (first, second))
        if a.keys() != b.keys():
            raise ValueError(f"{first} and {second} answered different rows, so they cannot be paired")
        rows = sorted(a)
        score = [[float(x[row]["score"]) for row in rows] for x in (a, b)]
        right = [[float(x[row]["acc"]) for row in rows] for x in (a, b)]
        twin = [[twins[name][row] for row in rows] for name in (first, second)]
        dialogues = [f"{a[row]['corpus']}/{a[row]['dialogue_id']}" for row in rows]
        found.append(
            {
                "first": first,
                "second": second,
                "accuracy_difference": float(np.mean(right[1]) - np.mean(right[0])),
                "reward_difference": float(np.mean(score[1]) - np.mean(score[0])),
                "twin_difference": float(np.mean(twin[1]) - np.mean(twin[0])),
                "accuracy_p": paired_permutation(right[0], right[1], dialogues),
                "reward_p": paired_permutation(score[0], score[1], dialogues),
                "twin_p": paired_permutation(twin[0], twin[1], dialogues),
            }
        )
    for name in ("accuracy_p", "reward_p", "twin_p"):
        for row, p in zip(found, holm([row[name] for row in found]), strict=True):
            row[name] = p
    return found


def _twin(record: Mapping[str, Any]) -> float:
    labels = corpus_labels(record["corpus"])
    gold = record.get("label") or {record["gold"]: 1.0}
    return fixed_weight_reward(json.loads(record["parsed"])["last_emotions"], gold, labels)


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Agreement of two raters beyond chance (Cohen 1960); nan if both say one thing throughout.

    Args:
        first, second: their labels for the same things.

    Raises:
        ValueError: there is nothing to compare, or not the same number of labels.
    """
    n = len(first)
    if not n or n != len(second):
        raise ValueError(f"kappa wants two equally long lists, got {n} and {len(second)}")
    agreed = sum(x == y for x, y in zip(first, second, strict=True)) / n
    counts = Counter(first), Counter(second)
    chance = sum(counts[0][v] * counts[1][v] for v in counts[0]) / n**2
    return (agreed - chance) / (1 - chance) if chance < 1 else float("nan")


def across_runs(summaries: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, tuple]]:
    """Mean and standard deviation over runs (seeds) of one checkpoint.

    Args:
        summaries: one `recipe.evaluation.measures.summarise` result a run.

    Returns:
        corpus -> measure -> (mean, unbiased standard deviation; nan for a single run).
    """
    table = {}
    for corpus in summaries[0]:
        values = {m: [float(s[corpus][m]) for s in summaries] for m in MEASURES}
        table[corpus] = {
            m: (float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else float("nan"))
            for m, v in values.items()
        }
    return table
