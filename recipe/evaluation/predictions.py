"""The prediction for every row as Parquet, under the ids that the corpus's own release gives it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.corpora import id_columns
from data_prep.rows import write_records
from recipe.evaluation.nearest import read_nearest

#: Below a checkpoint's folder of ``eval/``: a file for each corpus.
FOLDER = "predictions"


def write_predictions(
    rows: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]], folder: Path
) -> None:
    """Commit ``<folder>/<corpus>.parquet``, a row for every utterance in the given order.

    Columns: ``split``, the ids of `data_prep.corpora.id_columns`, ``gold``, ``predicted`` (the heaviest
    label; null where the rule is broken), ``nearest`` (never null), ``valid``, ``reason``, ``reward``,
    ``weights`` (label and normalised weight, heaviest first), ``answer``.

    Args:
        rows: of `data_prep.rows.SCHEMA`.
        records: of `recipe.evaluation.answers.score_answers`, of the same rows.
        folder: is made.
    """
    for corpus in sorted({record["corpus"] for record in records}):
        pairs = [
            (row["extra_info"], record)
            for row, record in zip(rows, records, strict=True)
            if record["corpus"] == corpus
        ]
        ids = official_ids(corpus, [info for info, _ in pairs])
        table = [
            {"split": info["split"], **names, **_prediction(record)}
            for names, (info, record) in zip(ids, pairs, strict=True)
        ]
        write_records(table, folder / f"{corpus}.parquet")


def official_ids(corpus: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, int | str]]:
    """The ids of rows as the corpus's release writes them, numbers where they all are.

    Where a user's tables name dialogues in a way of their own, the ids are ``dialogue_id`` and
    ``utterance_id``, as these tables have them.

    Args:
        corpus: of all rows.
        rows: with ``split``, ``dialogue_id`` and ``utterance_id`` (``extra_info`` of `data_prep.rows`).
    """
    names = id_columns(corpus)
    of_dialogue = [row["dialogue_id"].removeprefix(f"{row['split']}_") for row in rows]
    parts = [
        [*name.split("_", len(names) - 2), row["utterance_id"]]
        for name, row in zip(of_dialogue, rows, strict=True)
    ]
    if any(len(found) != len(names) for found in parts):
        names = ("dialogue_id", "utterance_id")
        parts = [[name, row["utterance_id"]] for name, row in zip(of_dialogue, rows, strict=True)]
    numbers = [all(id_.isascii() and id_.isdigit() for id_ in column) for column in zip(*parts, strict=True)]
    for found in parts:
        yield {
            name: int(id_) if number else id_ for name, id_, number in zip(names, found, numbers, strict=True)
        }


def _prediction(record: Mapping[str, Any]) -> dict[str, Any]:
    weights = json.loads(record["parsed"])["last_emotions"] if record["valid"] else {}
    total = sum(weights.values())
    heaviest_first = sorted(weights.items(), key=lambda entry: -entry[1])
    return {
        "gold": record["gold"],
        "predicted": record["pred"] if record["valid"] else None,
        "nearest": read_nearest(record),
        "valid": bool(record["valid"]),
        "reason": record["reason"] or None,
        "reward": record["score"],
        "weights": [{"label": label, "weight": weight / total} for label, weight in heaviest_first],
        "answer": record["answer"],
    }
