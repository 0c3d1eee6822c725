"""The paper's measures of scored answers: per corpus, per label, and how far weights can be trusted.

Written out instead of taken from scikit-learn: where that is installed, transformers imports it in
every process of a run, which makes each start seconds slower.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recipe.evaluation.confidence import split_reward
from recipe.evaluation.nearest import read_nearest
from rewards.iou import normalise
from rewards.labels import corpus_labels

#: What stands for an answer that breaks the rule: it counts as wrong, for every label.
INVALID = "(invalid)"
#: Bins of equal width of the reliability curve.
BINS = 10
#: What takes a reward apart into ranking and confidence, see `recipe.evaluation.confidence`.
PARTS = ("twin", "sharp_one", "sharp_three", "gold_weight", "top_weight", "named")
#: What one number per corpus says, and so can be averaged over corpora as in Table 1.
MEASURES = ("accuracy", "weighted_f1", "macro_f1", "valid", "reward", "iou")
#: The same where an answer that breaks the rule is read as the nearest label (`recipe.evaluation.nearest`).
NEAREST = ("accuracy_nearest", "weighted_f1_nearest")
_AVERAGED = (*MEASURES, *NEAREST, "majority_share", "ece", *PARTS)


def label_scores(
    gold: Sequence[str], pred: Sequence[str], labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of every label; what would divide by 0 is 0.

    Returns:
        label -> ``precision``, ``recall``, ``f1`` in [0, 1] and ``support``, its rows in ``gold``.
    """
    hits = Counter(g for g, p in zip(gold, pred, strict=True) if g == p)
    there, said = Counter(gold), Counter(pred)
    return {
        label: {
            "precision": hits[label] / said[label] if said[label] else 0.0,
            "recall": hits[label] / there[label] if there[label] else 0.0,
            "f1": 2 * hits[label] / (there[label] + said[label]) if hits[label] else 0.0,
            "support": there[label],
        }
        for label in labels
    }


def confusion(gold: Sequence[str], pred: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """The confusion matrix as data.

    Returns:
        ``gold``: the labels of the rows; ``pred``: of the columns, the last of them `INVALID`;
        ``counts``: answers, one list per row.

    Raises:
        ValueError: a label stands in no row or column.
    """
    columns = [*labels, INVALID]
    if strangers := (set(gold) - set(labels)) | (set(pred) - set(columns)):
        raise ValueError(f"labels {sorted(strangers)} are not among {list(labels)}")
    counts = Counter(zip(gold, pred, strict=True))
    return {
        "gold": list(labels),
        "pred": columns,
        "counts": [[counts[g, p] for p in columns] for g in labels],
    }


def confidence(record: Mapping[str, Any]) -> float | None:
    """The heaviest label's normalised weight in a record's answer; None if the answer is not valid."""
    weights = normalise(json.loads(record["parsed"])["last_emotions"]) if record["valid"] else {}
    return max(weights.values(), default=None)


def calibration(confidences: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """Reliability curve and expected calibration error of Guo et al. (2017), Eq. 2-3 (arXiv:1706.04599).

    Args:
        confidences: in (0, 1], one per valid answer.
        right: was that answer's heaviest label the gold one?

    Returns:
        ``ece`` in [0, 1], None without an answer; ``bins``: ten of equal width, each (low, high] with
        its ``n`` and the means ``confidence`` and ``accuracy``, which are None in an empty bin.
    """
    edges = [i / BINS for i in range(BINS + 1)]
    members: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for c, hit in zip(confidences, right, strict=True):
        # Rounded, so that 0.6 / (0.6 + 0.2 + 0.2) falls into the same bin as 0.6.
        members[bisect_left(edges, round(c, 12), lo=1) - 1].append((c, bool(hit)))
    bins: list[dict[str, Any]] = []
    for low, high, part in zip(edges, edges[1:], members, strict=False):
        mean = np.mean(part, axis=0).tolist() if part else (None, None)
        bins.append({"low": low, "high": high, "n": len(part), "confidence": mean[0], "accuracy": mean[1]})
    gaps = [b["n"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["n"]]
    return {"ece": sum(gaps) / len(confidences) if gaps else None, "bins": bins}


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """All measures per corpus, and ``avg``: the mean over corpora, as in Table 1.

    Args:
        records: of `recipe.evaluation.answers.score_answers`.

    Returns:
        corpus -> ``n``; `MEASURES`, all in [0, 1.1]; `NEAREST`; ``ece``; `PARTS` of the reward;
        ``majority_share``, the share of the label that is answered most; ``reasons`` why answers are invalid,
        counted;
        for corpora also ``labels``, ``confusion`` and ``calibration`` of the functions above.
    """
    table: dict[str, dict[str, Any]] = {}
    for corpus in sorted({r["corpus"] for r in records}):
        part = [r for r in records if r["corpus"] == corpus]
        gold, pred, labels = [r["gold"] for r in part], [r["pred"] for r in part], corpus_labels(corpus)
        scores, nearest = label_scores(gold, pred, labels), [read_nearest(r) for r in part]
        valid = [r for r in part if r["valid"]]
        sure = [c for c in map(confidence, valid) if c is not None]
        reliability = calibration(sure, [r["acc"] == 1 for r in valid])
        table[corpus] = {
            "n": len(part),
            "accuracy": float(np.mean([r["acc"] for r in part])),
            "weighted_f1": _weighted_f1(scores),
            "macro_f1": sum(s["f1"] for s in scores.values()) / len(labels),
            "valid": float(np.mean([r["valid"] for r in part])),
            "reward": float(np.mean([r["score"] for r in part])),
            "iou": float(np.mean([r["iou"] for r in part])),
            "accuracy_nearest": float(np.mean([g == p for g, p in zip(gold, nearest, strict=True)])),
            "weighted_f1_nearest": _weighted_f1(label_scores(gold, nearest, labels)),
            "majority_share": max(Counter(r["pred"] for r in valid).values(), default=0) / len(part),
            "ece": reliability["ece"],
            **split_reward(part, labels),
            "reasons": _reasons(part),
            "labels": scores,
            "confusion": confusion(gold, pred, labels),
            "calibration": reliability,
        }
    table["avg"] = {
        "n": len(records),
        **{m: _mean_of([table[c][m] for c in table]) for m in _AVERAGED},
        "reasons": _reasons(records),
    }
    return table


def _weighted_f1(scores: Mapping[str, Mapping[str, float]]) -> float:
    return sum(s["f1"] * s["support"] for s in scores.values()) / sum(s["support"] for s in scores.values())


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _reasons(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return dict(Counter(r["reason"] for r in records if r["reason"]))
