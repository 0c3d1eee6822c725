"""The smoothed, weighted IoU reward (Eq. 8-10), and the function that veRL's reward loop calls.

    R(y) = 0                                       if the rule fails
         = sum_e min(P, L) / sum_e max(P, L) + 0.1 otherwise

P and L are the predicted and the labelled emotions, each normalised to sum to 1. A one-hot label
and weight p on it give p / (2 - p).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from rewards.labels import corpus_labels, heaviest
from rewards.parse import ParsedOutput, parse_output

#: What an answer earns for keeping the rule, whatever it says (Eq. 8).
RULE_BONUS = 0.1
#: What the fixed-weight twin gives to the first, second and third label of a ranking.
TWIN_WEIGHTS = (0.7, 0.2, 0.1)
#: Where the twin's weight lies that an answer with fewer than three labels leaves; nobody's label.
NO_LABEL = "(no label)"

#: The largest weight: sums of such are still finite.
_LARGEST = 1e30
_quoted = json.encoder.encode_basestring  # as json.dumps(ensure_ascii=False) writes a text


def normalise(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights scaled to sum to 1 (Eq. 9); empty if there are none or all are 0.

    Raises:
        ValueError: a weight is negative, not finite or above 1e30.
    """
    values = weights.values()
    if not all([0 <= w <= _LARGEST for w in values]):  # false for NaN, too
        bad = {label: w for label, w in weights.items() if not 0 <= w <= _LARGEST}
        raise ValueError(f"weights must be numbers from 0 to {_LARGEST:g}, got {_shown(bad)}")
    total = math.fsum(values)
    return {label: w / total for label, w in weights.items() if w > 0} if total > 0 else {}


def weighted_iou(prediction: Mapping[str, float], label: Mapping[str, float]) -> float:
    """Intersection over union of two weighted label sets (Eq. 10).

    Args:
        prediction: label -> weight, not necessarily normalised.
        label: the same for the labelled emotions.

    Returns:
        A number in [0, 1]; 0.0 if either is empty.

    Raises:
        ValueError: a weight is negative or not finite.
    """
    return _iou(normalise(prediction), normalise(label))


def _iou(p: dict[str, float], q: dict[str, float]) -> float:
    if not p or not q:
        return 0.0
    smaller, larger = [], [v for e, v in q.items() if e not in p]
    for e, w in p.items():
        v = q.get(e)
        if v is None:
            larger.append(w)
        else:
            smaller.append(w if w < v else v)
            larger.append(v if w < v else w)
    # fsum is exact before it rounds, so that no order of the labels changes a bit.
    return math.fsum(smaller) / math.fsum(larger)


def fixed_weight_twin(prediction: Mapping[str, float], label_order: Sequence[str]) -> dict[str, float]:
    """The same ranking of labels with the weights (0.7, 0.2, 0.1).

    With a one-hot label IoU = w / (2 - w) is convex in the weight w of the right label, so that being surer
    pays, right or wrong. Only better recognition can raise the reward of the twin.

    Args:
        prediction: label -> weight, of labels in ``label_order``; zeros are not named.
        label_order: the corpus's labels; the earlier wins a tie.

    Returns:
        label -> weight for the three heaviest labels, heaviest first. What fewer labels leave of the weight
        lies on `NO_LABEL`, so that naming fewer is no way to be surer; no label gives an empty mapping.

    Raises:
        ValueError: a label is not in ``label_order``, or a weight is negative or not finite.
    """
    named = {label: prediction[label] for label in normalise(prediction)}
    return _twin_of(_ranked(named, tuple(label_order)))


def _twin_of(ranked: Sequence[str]) -> dict[str, float]:
    twin = dict(zip(ranked, TWIN_WEIGHTS, strict=False))
    if 0 < len(twin) < len(TWIN_WEIGHTS):
        twin[NO_LABEL] = math.fsum(TWIN_WEIGHTS[len(twin) :])
    return twin


def _ranked(weights: Mapping[str, float], label_order: tuple[str, ...]) -> list[str]:
    """Labels, heaviest first, equal ones in the given order."""
    try:
        ranked = sorted(weights, key=label_order.index)
    except ValueError:
        raise ValueError(f"predicted labels {list(weights)} are not all in {list(label_order)}") from None
    ranked.sort(key=weights.__getitem__, reverse=True)  # stable
    return ranked


def label_from_feelings(feelings: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    """Label_new of a self-play row (Eq. 7): the responder's feelings that the corpus has a word for.

    Args:
        feelings: `my_emotions` of an answer that keeps the rule.
        labels: the corpus's label list.

    Returns:
        label -> weight over labels of the corpus, summing to 1; empty if none is left, so that the answer
        makes no new row.
    """
    known = set(labels)
    return normalise({label: weight for label, weight in feelings.items() if label in known})


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
        ground_truth: label -> weight, one or several. Parquet stores it as a struct, so absent labels may
            be None.
        extra_info: the row's other fields.

    Returns:
        ``score`` is R of Eq. 8; ``iou``; ``acc`` is 1.0 when the heaviest labels agree; ``valid``;
        ``reason`` ("" if valid); ``pred`` the heaviest predicted label ("" if invalid); ``twin`` the R of
        `fixed_weight_twin`, ``top_weight`` the heaviest label's share of the weight and ``named`` the number
        of labels (all 0 if invalid); and ``parsed`` the parsed fields as JSON, from which the trainer
        takes predictions.

    Raises:
        ValueError: the label itself is broken. A broken answer scores 0; broken data must stop the run.
    """
    if extra_info is not None and not isinstance(extra_info, Mapping):
        raise ValueError(f"{data_source}: extra_info is {_shown(extra_info)}, not a mapping")
    given = (extra_info or {}).get("labels")
    labels = (() if given is None else _label_list(given, data_source)) or corpus_labels(data_source)
    gold = _gold(ground_truth, labels, data_source, extra_info or {})
    output = parse_output(solution_str, labels)
    last, q = output.last_emotions, normalise(gold)
    p = normalise(last)
    ranked = _ranked(last, labels)
    top = ranked[0] if ranked else ""
    iou = _iou(p, q)
    twin = _iou(_twin_of(ranked), q)
    return {
        "score": iou + RULE_BONUS if output.valid else 0.0,
        "iou": iou,
        "acc": float(top == heaviest(gold, labels)),
        "valid": float(output.valid),
        "reason": output.reason or "",
        "pred": top,
        "twin": twin + RULE_BONUS if output.valid else 0.0,
        "top_weight": p.get(top, 0.0),
        "named": len(last),
        "parsed": _to_json(output),
    }


def _to_json(output: ParsedOutput) -> str:
    """The three fields as `json.dumps(..., ensure_ascii=False)` writes them, in a third of its time."""
    last, mine = (
        ", ".join([f"{_quoted(label)}: {weight!r}" for label, weight in emotions.items()])
        for emotions in (output.last_emotions, output.my_emotions)
    )
    reply = _quoted(output.my_output)
    return f'{{"last_emotions": {{{last}}}, "my_emotions": {{{mine}}}, "my_output": {reply}}}'


def _label_list(given: Any, data_source: str) -> tuple[str, ...]:
    """A row's own list of labels; not a text, which is a list of letters."""
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        labels = tuple(given)
        if all([isinstance(label, str) for label in labels]):
            if len({label.casefold() for label in labels}) < len(labels):
                raise ValueError(f"{data_source}: extra_info.labels names one twice: {_shown(given)}")
            return labels
    raise ValueError(f"{data_source}: extra_info.labels is {_shown(given)}, not a list of texts")


def _gold(
    ground_truth: Any, labels: Sequence[str], data_source: str, extra_info: Mapping[str, Any]
) -> dict[str, float]:
    """The label of a row without its absent emotions; ValueError with the row's field if it is broken."""
    fault = None
    if type(ground_truth) is not dict and not isinstance(ground_truth, Mapping):  # the second takes longer
        fault = "is no mapping of label to weight"
    else:
        gold = {label: weight for label, weight in ground_truth.items() if weight is not None}
        if not all([_is_weight(weight) for weight in gold.values()]):
            fault = "has a weight that is no finite number of at least 0"
        elif not all([label in labels for label in gold]):
            fault = f"has a label outside of {list(labels)}"
        elif not any(gold.values()):
            fault = "has no weight"
    if fault is None:
        return gold
    row = f"row {extra_info['row_id']}" if extra_info.get("row_id") is not None else "a row"
    raise ValueError(
        f"{data_source}: reward_model.ground_truth of {row} {fault}: {_shown(ground_truth)}; it must be a "
        "mapping such as {'joy': 1.0}, as `make data` writes it"
    )


def _is_weight(value: Any) -> bool:
    # The type first: asking for an abstract number takes longer than all the rest.
    number = type(value) is float or (isinstance(value, Real) and not isinstance(value, bool))
    return number and 0 <= value <= _LARGEST


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of thousands of digits
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 200 else text[:200] + "..."
