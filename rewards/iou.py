"""The smoothed, weighted IoU reward (Eq. 8-10), and the function that veRL's reward loop calls.

    R(y) = 0                                       if the rule fails
         = sum_e min(P, L) / sum_e max(P, L) + 0.1 otherwise

P and L are the predicted and the labelled emotions, each normalised to sum to 1. A one-hot label
and weight p on it give p / (2 - p).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from rewards.labels import corpus_labels, heaviest
from rewards.parse import parse_output

#: What an answer earns for keeping the rule, whatever it says (Eq. 8).
RULE_BONUS = 0.1


def normalise(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights scaled to sum to 1 (Eq. 9); empty if there are none or all are 0.

    Raises:
        ValueError: a weight is negative or not finite.
    """
    bad = {label: w for label, w in weights.items() if not (math.isfinite(w) and w >= 0)}
    if bad:
        raise ValueError(f"weights must be finite and at least 0, got {bad}")
    total = math.fsum(weights.values())
    return {label: w / total for label, w in weights.items() if w > 0} if total > 0 else {}


def weighted_iou(prediction: Mapping[str, float], label: Mapping[str, float]) -> float:
    """Intersection over union of two weighted label sets (Eq. 10).

    Args:
        prediction: label -> weight, not necessarily normalised.
        label: the same for the labelled emotions.

    Returns:
        A number in [0, 1]; 0.0 if either is empty.
    """
    p, q = normalise(prediction), normalise(label)
    if not p or not q:
        return 0.0
    union = sorted(p.keys() | q.keys())
    smaller = math.fsum(min(p.get(e, 0.0), q.get(e, 0.0)) for e in union)
    larger = math.fsum(max(p.get(e, 0.0), q.get(e, 0.0)) for e in union)
    return smaller / larger


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Mapping[str, float | None],
    extra_info: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Score one rollout, in the form that veRL's reward loop expects.

    Args:
        data_source: the corpus, which decides the label list unless ``extra_info["labels"]`` does.
        solution_str: the generated text.
        ground_truth: label -> weight. Parquet stores it as a struct, so absent labels may be None.
        extra_info: the row's other fields.

    Returns:
        ``score`` is R of Eq. 8; ``iou``; ``acc`` is 1.0 when the heaviest labels agree; ``valid``;
        ``reason`` ("" if valid); ``pred`` the heaviest predicted label ("" if invalid) and
        ``parsed`` the parsed fields as JSON, from which the trainer takes predictions.

    Raises:
        ValueError: the label itself is broken. A broken answer scores 0; broken data must stop the run.
    """
    given = (extra_info or {}).get("labels")
    labels = tuple(given) if given is not None and len(given) else corpus_labels(data_source)
    gold = {label: w for label, w in ground_truth.items() if w is not None}
    unknown = set(gold) - set(labels)
    if unknown or not normalise(gold):
        raise ValueError(f"{data_source}: ground truth {gold} has no weight or labels outside {labels}")
    output = parse_output(solution_str, labels)
    iou = weighted_iou(output.last_emotions, gold) if output.valid else 0.0
    top = heaviest(output.last_emotions, labels)
    return {
        "score": iou + RULE_BONUS if output.valid else 0.0,
        "iou": iou,
        "acc": float(top is not None and top == heaviest(gold, labels)),
        "valid": float(output.valid),
        "reason": output.reason or "",
        "pred": top or "",
        "parsed": json.dumps(
            {
                "last_emotions": output.last_emotions,
                "my_emotions": output.my_emotions,
                "my_output": output.my_output,
            },
            ensure_ascii=False,
        ),
    }
