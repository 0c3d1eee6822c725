"""The measures against scikit-learn's, to the last digit, in the environment that has it."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

from recipe.evaluation.kappa import cohen_kappa
from recipe.evaluation.measures import INVALID, confusion, label_scores, summarise
from rewards.labels import LABELS

ANALYSIS = Path(__file__).resolve().parents[2] / ".venv-analysis/bin/python"
ORACLE = """
import json, sys
from sklearn import metrics
found = []
for case in json.load(sys.stdin):
    gold, pred, labels, shown = case["gold"], case["pred"], case["labels"], case["shown"]
    f1 = lambda kind: metrics.f1_score(gold, pred, labels=labels, average=kind, zero_division=0)
    parts = metrics.precision_recall_fscore_support(gold, pred, labels=labels, zero_division=0)
    found.append({
        "accuracy": metrics.accuracy_score(gold, pred),
        "weighted_f1": f1("weighted"), "macro_f1": f1("macro"),
        "labels": [part.tolist() for part in parts], "kappa": metrics.cohen_kappa_score(gold, pred),
        "confusion": metrics.confusion_matrix(gold, pred, labels=shown).tolist(),
    })
json.dump(found, sys.stdout)
"""

pytestmark = pytest.mark.skipif(
    not ANALYSIS.is_file(), reason=".venv-analysis is missing: python3 launch/setup_env.py --profile analysis"
)


def drawn(corpus: str, rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Gold and predicted labels; some break the rule, and some labels may not be there at all."""
    draw, labels = random.Random(seed), LABELS[corpus]
    gold = draw.choices(labels[: draw.randint(1, len(labels))], k=rows)
    said = [*labels[: draw.randint(1, len(labels))], INVALID]
    return gold, [g if draw.random() < 0.5 else draw.choice(said) for g in gold]


def test_every_measure_is_scikit_learns():
    cases = [
        (corpus, *drawn(corpus, rows, seed))
        for seed, rows in enumerate((1, 2, 7, 50, 1000, 2610))
        for corpus in LABELS
    ]
    asked = [
        {"gold": gold, "pred": pred, "labels": LABELS[corpus], "shown": [*LABELS[corpus], INVALID]}
        for corpus, gold, pred in cases
    ]
    done = subprocess.run(
        [ANALYSIS, "-c", ORACLE], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    for (corpus, gold, pred), theirs in zip(cases, json.loads(done.stdout), strict=True):
        records = [
            {
                "corpus": corpus, "gold": g, "pred": p, "acc": float(g == p), "valid": float(p != INVALID),
                "score": 0.0, "iou": 0.0, "reason": "", "answer": "",
                "parsed": json.dumps({"last_emotions": {p: 1.0} if p != INVALID else {}}),
            }
            for g, p in zip(gold, pred, strict=True)
        ]  # fmt: skip
        ours = summarise(records)[corpus]
        assert ours["accuracy"] == theirs["accuracy"]
        by_label = label_scores(gold, pred, LABELS[corpus]).values()
        for place, name in enumerate(("precision", "recall", "f1", "support")):
            assert [scores[name] for scores in by_label] == theirs["labels"][place]
        # A mean of several numbers: only the order of the sum may differ, and with it the last bit.
        for name in ("weighted_f1", "macro_f1"):
            assert abs(ours[name] - theirs[name]) <= np.spacing(theirs[name])
        assert confusion(gold, pred, LABELS[corpus])["counts"] == theirs["confusion"][:-1]
        if not np.isnan(theirs["kappa"]):
            assert cohen_kappa(gold, pred) == pytest.approx(theirs["kappa"], rel=1e-12, abs=1e-12)
