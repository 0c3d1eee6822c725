"""The usual way with an answer that is no label, after InstructERC (arXiv:2309.11911): read the nearest one.

Published scores of generative models are often of answers that were read in this way, so ours are told in
both: an answer that breaks the rule is wrong, or it is what it comes nearest to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rewards.labels import corpus_labels
from rewards.parse import THINK_CLOSE


def nearest_label(answer: str, labels: Sequence[str]) -> str:
    """The label that an answer names first; if it names none, the one with the smallest edit distance to it.

    As InstructERC's code reads an answer, but whatever the case, and only what stands behind the think block.
    Of two labels that begin at the same place the longer one is named; among equals the first of ``labels``.

    Args:
        answer: any text, empty ones too.
        labels: at least one.
    """
    text = answer.rpartition(THINK_CLOSE)[2].casefold()
    folded = {label.casefold(): label for label in labels}
    if found := re.search("|".join(map(re.escape, sorted(folded, key=len, reverse=True))), text):
        return folded[found[0]]
    return folded[min(folded, key=lambda label: edit_distance(label, text))]


def edit_distance(short: str, long: str) -> int:
    """Levenshtein's distance; one pass over ``long`` for each letter of ``short``."""
    letters, place = np.array(list(long), dtype=str), np.arange(len(long) + 1)
    row = place
    for i, letter in enumerate(short, start=1):
        changed = np.minimum(row[1:] + 1, row[:-1] + (letters != letter))
        # A letter more of `long` adds 1: the smallest of what stands before, and its distance.
        row = np.minimum.accumulate(np.concatenate(([i], changed)) - place) + place
    return int(row[-1])


def read_nearest(record: Mapping[str, Any]) -> str:
    """The label of a record of `score_answers`: its own if the rule is kept, else the nearest one."""
    if record["valid"]:
        return str(record["pred"])
    return nearest_label(record["answer"], corpus_labels(record["corpus"]))
