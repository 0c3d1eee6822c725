"""The measures of checkpoints as functions of counts that add up over dialogues.

Every measure of `recipe.evaluation.measures.summarise` is one, so that resampling or permuting whole
dialogues is a matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rewards.labels import corpus_labels

#: Differences below this are rounding.
ROUNDING = 1e-9


def counts_per_dialogue(records: Sequence[Mapping[str, Any]], corpus: str) -> np.ndarray:
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


def measures_of(sums: np.ndarray, labels: int) -> dict[str, np.ndarray]:
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
