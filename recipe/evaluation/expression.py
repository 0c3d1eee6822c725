"""Does the reply show what the persona is said to feel? An independent reader of the replies.

The reader is the TF-IDF baseline, trained on gold training utterances: no language model, and it has never
seen an answer of the policy. It is weak, so its agreement is set against chance (Cohen's kappa) and against
what it reaches on real utterances (the TF-IDF line of the headline table).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from recipe.evaluation.baselines import Reader
from recipe.evaluation.intervals import clustered_mean
from recipe.evaluation.kappa import cohen_kappa
from recipe.evaluation.next_turn import own_emotion
from rewards.labels import corpus_labels


def agreement(
    records: Sequence[Mapping[str, Any]], readers: Mapping[str, Reader]
) -> dict[str, dict[str, Any]]:
    """How often an independent reader finds in a reply what `my_emotions` says, per corpus.

    Args:
        records: of `recipe.evaluation.answers.score_answers`; answers that break the rule, or feel nothing
            of the corpus's labels, have nothing to compare.
        readers: corpus -> reader, of `recipe.evaluation.baselines.readers`.

    Returns:
        corpus -> ``n`` answers; ``agreement``, an `Estimate` over dialogues; ``kappa``, None if
        both say one thing throughout; ``majority``: what the best constant answer of a reader would reach.
        Corpora without an answer or a reader are left out.
    """
    table = {}
    for corpus in sorted({r["corpus"] for r in records} & readers.keys()):
        labels = corpus_labels(corpus)
        valid = [r for r in records if r["corpus"] == corpus and r["valid"]]
        pairs = [(r, emotion) for r in valid if (emotion := own_emotion(r, labels))]
        if not pairs:
            continue
        part, felt = [r for r, _ in pairs], [emotion for _, emotion in pairs]
        reader = readers[corpus]
        best = reader.probabilities([json.loads(r["parsed"])["my_output"] for r in part]).argmax(axis=1)
        read = [reader.labels[i] for i in best]
        same = [float(a == b) for a, b in zip(felt, read, strict=True)]
        table[corpus] = {
            "n": len(part),
            "agreement": clustered_mean(same, [r["dialogue_id"] for r in part]),
            "kappa": None if math.isnan(kappa := cohen_kappa(felt, read)) else kappa,
            "majority": max(Counter(felt).values()) / len(part),
        }
    return table
