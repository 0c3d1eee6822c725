"""p(gold): how much weight a checkpoint's answers put on the right label, on rows that it knows or does not.

On the test splits it says more than accuracy (a wrong answer may hold the right label for second), and
beside the same number on training rows it tells recognition from what is known by heart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recipe.evaluation.confidence import describe
from recipe.evaluation.intervals import Estimate, clustered_mean
from rewards.labels import corpus_labels


def gold_probability(records: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Mean normalised weight on the gold label (the heaviest one of a soft label), in [0, 1].

    Args:
        records: of `recipe.evaluation.answers.score_answers`; a broken answer puts 0 on it. One with several
            answers counts with the mean of their normalised weights.

    Returns:
        corpus -> its estimate, with an interval over dialogues, and ``all``: over all rows. Empty without a
        record.
    """
    weights = [
        describe(
            json.loads(r["parsed"])["last_emotions"],
            r.get("label") or {r["gold"]: 1.0},
            corpus_labels(r["corpus"]),
        )["gold_weight"]
        for r in records
    ]
    parts = {
        corpus: [i for i, r in enumerate(records) if r["corpus"] == corpus]
        for corpus in sorted({r["corpus"] for r in records})
    }
    found = {}
    for corpus, places in (parts | {"all": list(range(len(records)))}).items():
        dialogues = [f"{records[i]['corpus']}/{records[i]['dialogue_id']}" for i in places]
        if estimate := clustered_mean([weights[i] for i in places], dialogues):
            found[corpus] = estimate
    return found
