"""How sure a measured number is: intervals over dialogues, paired tests, corrections, several seeds.

Utterances of one dialogue share a topic, speakers and often an emotion, so dialogues are resampled,
not utterances. Every measure of `recipe.evaluation.measures.summarise` is a function of counts that add up
over dialogues, so a resample is a matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from recipe.evaluation.measures import MEASURES
from rewards.labels import corpus_labels


def bootstrap_intervals(
    records: Sequence[Mapping[str, Any]], resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, dict[str, tuple[float, ...]]]:
    """Percentile intervals of every measure, from resampling the dialogues of each corpus.

    Args:
        records: of `recipe.evaluation.answers.score_answers`.
        resamples: how many times the dialogues are drawn with replacement.
        level: the share of resamples inside an interval.
        seed: of the draws.

    Returns:
        corpus (and ``avg``, the mean over corpora) -> measure -> (low, high).

    Raises:
        ValueError: there is no record.
    """
    if not records:
        raise ValueError("no records to resample")
    draw, drawn = np.random.default_rng(seed), {}
    for corpus in sorted({r["corpus"] for r in records}):
        counts = _counts_per_dialogue([r for r in records if r["corpus"] == corpus], corpus)
        dialogues = len(counts)
        weights = draw.multinomial(dialogues, np.full(dialogues, 1 / dialogues), size=resamples)
        drawn[corpus] = _measures(weights @ counts, len(corpus_labels(corpus)))
    drawn["avg"] = {m: np.mean([drawn[c][m] for c in drawn], axis=0) for m in MEASURES}
    tail = (1 - level) / 2
    return {
        corpus: {m: tuple(float(x) for x in np.quantile(v[m], (tail, 1 - tail))) for m in MEASURES}
        for corpus, v in drawn.items()
    }


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
    """The measures of each line of summed counts; F1 of a label that occurs nowhere is 0."""
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
    }


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Exact two-sided McNemar test that two models are right equally often, on the same rows.

    Raises:
        ValueError: the two are not of one length.
    """
    pairs = list(zip(map(bool, first), map(bool, second), strict=True))
    only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def paired_permutation(
    first: Sequence[float],
    second: Sequence[float],
    dialogues: Sequence[str],
    resamples: int = 9999,
    seed: int = 0,
) -> float:
    """Two-sided permutation test that two models score alike: whole dialogues are swapped.

    Args:
        first: a score per row.
        second: the other model's, for the same rows.
        dialogues: the dialogue of each row.
        resamples: at most so many swaps are tried; all, if there are fewer.
        seed: of the draws.
    """
    sums: dict[str, float] = {}
    for a, b, dialogue in zip(first, second, dialogues, strict=True):
        sums[dialogue] = sums.get(dialogue, 0.0) + float(a) - float(b)
    differences = np.array(list(sums.values()))
    if not differences.any():
        return 1.0
    if len(differences) < 2:
        return 1.0  # a single dialogue can be swapped or not: both are as extreme
    test = stats.permutation_test(
        (differences,),
        lambda x, axis: np.sum(x, axis=axis),
        permutation_type="samples",
        n_resamples=resamples,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


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
        For each pair: differences of accuracy and reward (second minus first, over all rows),
        McNemar's p of the accuracy, the permutation test's p of the reward, both after Holm.

    Raises:
        ValueError: the checkpoints answered different rows.
    """
    found: list[dict[str, Any]] = []
    for first, second in pairs:
        a, b = ({r["row_id"]: r for r in records[name]} for name in (first, second))
        if a.keys() != b.keys():
            raise ValueError(f"{first} and {second} answered different rows, so they cannot be paired")
        rows = sorted(a)
        score = [[float(x[row]["score"]) for row in rows] for x in (a, b)]
        right = [[bool(x[row]["acc"]) for row in rows] for x in (a, b)]
        dialogues = [f"{a[row]['corpus']}/{a[row]['dialogue_id']}" for row in rows]
        found.append(
            {
                "first": first,
                "second": second,
                "accuracy_difference": float(np.mean(right[1]) - np.mean(right[0])),
                "reward_difference": float(np.mean(score[1]) - np.mean(score[0])),
                "accuracy_p": mcnemar(*right),
                "reward_p": paired_permutation(score[0], score[1], dialogues),
            }
        )
    for name in ("accuracy_p", "reward_p"):
        for row, p in zip(found, holm([row[name] for row in found]), strict=True):
            row[name] = p
    return found


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
