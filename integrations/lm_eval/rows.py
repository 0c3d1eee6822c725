"""Test rows of `make data` for lm-evaluation-harness, and their scores (Eq. 8-10)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict

from rewards.iou import compute_score
from rewards.labels import heaviest

FOLDER = "SELF_EMO_DATA"


def load(*, corpus: str, **_: Any) -> DatasetDict:
    """The test rows of one corpus, from ``test.parquet`` in the folder that SELF_EMO_DATA names.

    Raises:
        ValueError: no folder is named, it has no such file, or none of its rows is the corpus's.
    """
    remedy = f"set {FOLDER} to a folder that `make data RAW_DIR=... OUT_DIR=...` has written"
    if not os.environ.get(FOLDER):
        raise ValueError(f"no folder of prompts is named: {remedy}")
    path = Path(os.environ[FOLDER], "test.parquet")
    if not path.is_file():
        raise ValueError(f"there is no {path}: {remedy}")
    columns = ["data_source", "prompt", "reward_model", "extra_info"]
    rows = pq.read_table(path, columns=columns, filters=[("data_source", "==", corpus)]).to_pylist()
    if not rows:
        raise ValueError(f"{path} has no row of {corpus}: {remedy}, with {corpus} in RAW_DIR")
    return DatasetDict({"test": Dataset.from_list([_document(row) for row in rows])})


def _document(row: Mapping[str, Any]) -> dict[str, Any]:
    said = {message["role"]: message["content"] for message in row["prompt"]}
    truth = {label: weight for label, weight in row["reward_model"]["ground_truth"].items() if weight}
    labels = row["extra_info"]["labels"]
    return {
        "row_id": row["extra_info"]["row_id"],
        "data_source": row["data_source"],
        "system": said["system"],
        "user": said["user"],
        "label": heaviest(truth, labels),
        "weights": [truth.get(label, 0.0) for label in labels],
        "labels": labels,
    }


def score(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Accuracy, reward and validity of one answer, as `make eval` counts them."""
    truth = {
        label: weight for label, weight in zip(document["labels"], document["weights"], strict=True) if weight
    }
    found = compute_score(document["data_source"], results[0], truth, {"labels": document["labels"]})
    return {"acc": found["acc"], "reward": found["score"], "valid": found["valid"]}
