"""How good B itself is: what SFT is about to learn from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.rows import ground_truth
from recipe.evaluation.circularity import is_self_labelled
from rewards.labels import heaviest
from rewards.parse import parse_output


def describe_buffer(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracy of the responses in B, and how different its replies are.

    Args:
        rows: B, of `data_prep.rows.SCHEMA`.

    Returns:
        ``right``: the share of the responses to gold rows whose heaviest label is the row's; a broken
        one is wrong. ``right_by_source``: the same by where a response comes from (``rollout`` or an expert's
        name), as (right, responses). ``own_right``: the share of the responses to self-labelled rows that
        agree with the label which the model made. ``replies`` and ``distinct``: responses that keep the rule,
        and the share of different `my_output` among them. ``self_replies`` and ``self_distinct``: self-play
        rows, and the share of different utterances with which they go on. Shares are None without a row.
    """
    by_source: dict[str, list[bool]] = {}
    own_right, replies = [], []
    for row in rows:
        if row["response"] is None:
            continue
        labels = list(row["extra_info"]["labels"])
        output = parse_output(row["response"], labels)
        right = output.valid and heaviest(output.last_emotions, labels) == heaviest(ground_truth(row), labels)
        if output.valid:
            replies.append(_same(output.my_output))
        if is_self_labelled(row):
            own_right.append(right)
        else:
            source = (row.get("response_from") or {}).get("source") or "unknown"
            by_source.setdefault(source, []).append(right)
    gold_right = [right for part in by_source.values() for right in part]
    said = [_same(row["extra_info"]["context"][-1]["text"]) for row in rows if is_self_labelled(row)]
    return {
        "right": _share(gold_right),
        "right_by_source": {name: (sum(part), len(part)) for name, part in sorted(by_source.items())},
        "own_right": _share(own_right),
        "replies": len(replies),
        "distinct": len(set(replies)) / len(replies) if replies else None,
        "self_replies": len(said),
        "self_distinct": len(set(said)) / len(said) if said else None,
    }


def _same(text: str) -> str:
    """What makes two replies the same: their words, whatever the case and the white space."""
    return " ".join(text.casefold().split())


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
