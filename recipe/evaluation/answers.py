"""Answers of a checkpoint as records, scored by the reward of Eq. 8-10; several to a prompt vote."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.rows import gold_label, ground_truth, write_records
from recipe.evaluation.measures import INVALID
from rewards.iou import compute_score, normalise

#: In a part's metadata: what its answers are answers of.
_KEY = b"of"


def write_part(answers: Mapping[str, Sequence[str]], path: Path, key: str) -> None:
    """Commit the answers to a batch of prompts.

    Args:
        answers: row_id -> answers.
        path: ``part_<number>.parquet``.
        key: names checkpoint, prompts and sampling; `read_answers` wants the same.
    """
    records = [{"row_id": row_id, "answers": texts} for row_id, texts in answers.items()]
    write_records(records, path, {_KEY.decode(): key})


def is_part_of(path: Path, key: str) -> bool:
    """Is the file there, and are its answers those of ``key``?"""
    return path.exists() and (pq.read_schema(path).metadata or {}).get(_KEY) == key.encode()


def read_answers(folder: str | Path, key: str | None = None) -> dict[str, list[str]]:
    """row_id -> answers, from the parts of `write_part`; with a key, from those alone that have it."""
    return {
        row["row_id"]: row["answers"]
        for part in sorted(Path(folder).glob("part_*.parquet"))
        if key is None or is_part_of(part, key)
        for row in pq.read_table(part).to_pylist()
    }


def score_answers(
    rows: Sequence[Mapping[str, Any]], answers: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """One record per row: corpus, gold and predicted label, the reward's parts, the answer.

    ``gold`` is the heaviest label of the row, ``label`` all of them with their weights.

    Args:
        rows: of `data_prep.rows.SCHEMA`.
        answers: row_id -> one or several answers; several are put together by `vote`.

    Raises:
        ValueError: a row has no answer.
    """
    missing = [row["extra_info"]["row_id"] for row in rows if not answers.get(row["extra_info"]["row_id"])]
    if missing:
        raise ValueError(f"{len(missing)} prompts have no answer, the first is {missing[0]}; run it again")
    records = []
    for row in rows:
        info, gold = row["extra_info"], ground_truth(row)
        label = gold_label(row)
        fields = ("score", "iou", "acc", "valid", "reason", "parsed", "pred")
        scored = []
        for text in answers[info["row_id"]]:
            found = compute_score(row["data_source"], text, gold, info)
            scored.append({"answer": text} | {k: found[k] for k in fields})
        records.append(
            {
                "row_id": info["row_id"],
                "corpus": row["data_source"],
                "dialogue_id": info["dialogue_id"],
                "gold": label,
                "label": gold,
                **(scored[0] if len(scored) == 1 else vote(scored, label, info["labels"])),
            }
        )
        records[-1]["pred"] = records[-1]["pred"] or INVALID
    return records


def vote(scored: Sequence[Mapping[str, Any]], gold: str, labels: Sequence[str]) -> dict[str, Any]:
    """Several answers to one prompt as one: the label that most valid answers hold for the heaviest.

    Ties go to the label with more weight over all answers, then to the corpus's order. Reward and IoU
    are means over the answers; the weights are the mean of the valid answers' normalised ones.

    Args:
        scored: one or more answers with the fields of a record.
        gold: the label to be found.
        labels: of the corpus, in its order.

    Returns:
        The fields of a record, and ``votes``: label -> answers for it.
    """
    agreed = agree(scored, labels)
    return {
        **agreed,
        "acc": float(agreed["pred"] == gold),
        **{k: math.fsum(s[k] for s in scored) / len(scored) for k in ("score", "iou")},
    }


def agree(scored: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, Any]:
    """What several answers say together, whatever is right: `vote` without a label to be found.

    Args:
        scored: one or more answers with ``answer``, ``valid``, ``reason``, ``pred`` and ``parsed``.
        labels: in their order.

    Returns:
        The fields of the answer that is shown, with the label of the vote, all valid answers' mean weights,
        and ``votes``.
    """
    valid = [s for s in scored if s["valid"]]
    votes = Counter(s["pred"] for s in valid)
    said = [normalise(json.loads(s["parsed"])["last_emotions"]) for s in valid]
    weights = {e: math.fsum(p.get(e, 0.0) for p in said) / len(said) for e in labels if said}
    winner = max(votes, key=lambda e: (votes[e], weights[e], -labels.index(e)), default="")
    shown = next((s for s in valid if s["pred"] == winner), scored[0])
    parsed = json.loads(shown["parsed"]) | {"last_emotions": {e: w for e, w in weights.items() if w > 0}}
    return {
        **shown,
        "pred": winner,
        "parsed": json.dumps(parsed, ensure_ascii=False),
        "votes": dict(votes),
    }
