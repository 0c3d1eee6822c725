"""What changed between checkpoints that answered the same rows, and whether chance would do as much."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recipe.evaluation.confidence import fixed_weight_reward
from recipe.evaluation.dialogue_counts import ROUNDING, counts_per_dialogue, measures_of
from recipe.evaluation.permutation_tests import holm, paired_permutation
from recipe.evaluation.results import is_checkpoint
from rewards.labels import corpus_labels


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
        a, b = (counts_per_dialogue(part, corpus) for part in parts)
        swap = draw.integers(0, 2, size=(resamples, len(a)))
        moved = np.vstack([np.zeros(a.shape[1]), swap @ (b - a)])  # the data themselves come first
        labels = len(corpus_labels(corpus))
        drawn.append((measures_of(a.sum(axis=0) + moved, labels), measures_of(b.sum(axis=0) - moved, labels)))
    found = {}
    for name in drawn[0][0]:
        low, high = (np.mean([pair[side][name] for pair in drawn], axis=0) for side in (0, 1))
        rise = high - low
        found[name] = Change(
            float(low[0]),
            float(high[0]),
            float(np.mean(rise >= rise[0] - ROUNDING)),
            float(np.mean(rise <= rise[0] + ROUNDING)),
        )
    return found


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


def tested_pairs(stages: Sequence[str]) -> list[tuple[str, str]]:
    """What is compared of a run: checkpoints with each other, and the last with the better baseline."""
    checkpoints = [stage for stage in stages if is_checkpoint(stage)]
    return list(itertools.combinations(checkpoints, 2)) + [
        ("tfidf", stage) for stage in checkpoints[-1:] if "tfidf" in stages
    ]


def _twin(record: Mapping[str, Any]) -> float:
    labels = corpus_labels(record["corpus"])
    gold = record.get("label") or {record["gold"]: 1.0}
    return fixed_weight_reward(json.loads(record["parsed"])["last_emotions"], gold, labels)
