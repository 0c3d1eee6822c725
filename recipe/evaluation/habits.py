"""Habits of answers that keep the rule and are kept: told, because they may spread or buy reward.

A reply that names a label, or that holds an answer's dictionary, goes into the next prompt and may tell it
what to say; a label of next to no weight earns r2 nothing from ``self_emo.min_named_weight`` on, and would
earn it a third without.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.iou import normalise

_DICTIONARY = re.compile(r"\{\s*[\"'][^\"'{}]{1,64}[\"']\s*:")


def names_label(reply: str, labels: Sequence[str]) -> bool:
    """Is one of the labels a word of the reply, whatever its case?"""
    return bool({label.casefold() for label in labels} & set(re.findall(r"\w+", reply.casefold())))


def holds_dictionary(reply: str) -> bool:
    """Does a dictionary with a quoted key begin in the reply?"""
    return _DICTIONARY.search(reply) is not None


def is_padded(emotions: Mapping[str, float], least: float) -> bool:
    """Is one of the labels named with a normalised weight below ``least``?"""
    return any(weight < least for weight in normalise(emotions).values())


def habits(
    answers: Sequence[Mapping[str, Any]], labels: Sequence[Sequence[str]], least: float
) -> dict[str, float | None]:
    """Shares of the answers that keep the rule; None where none does.

    Args:
        answers: ``valid`` and ``parsed`` of `rewards.iou.compute_score`.
        labels: of each answer's corpus.
        least: ``self_emo.min_named_weight``.

    Returns:
        ``reply_names_label``, ``reply_holds_dictionary``, ``padded``, each in [0, 1].
    """
    found = [
        (names_label(said["my_output"], own), holds_dictionary(said["my_output"]), is_padded(last, least))
        for answer, own in zip(answers, labels, strict=True)
        if answer["valid"]
        for said in (json.loads(answer["parsed"]),)
        for last in (said["last_emotions"],)
    ]
    names = ("reply_names_label", "reply_holds_dictionary", "padded")
    return {
        name: sum(one[i] for one in found) / len(found) if found else None for i, name in enumerate(names)
    }
