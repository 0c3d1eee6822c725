"""Test rows of `make data` for lm-evaluation-harness, and their scores (Eq. 8-10)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from integrations.prompts import read_prompts
from rewards.iou import compute_score
from rewards.labels import heaviest

FOLDER = "SELF_EMO_DATA"


def load(*, corpus: str, **_: Any) -> DatasetDict:
    """The test rows of one corpus, from ``test.parquet`` in the folder that SELF_EMO_DATA names.

    Raises:
        ValueError: no folder is named, it has no such file or another one, or none of its rows.
    """
    remedy = f"set {FOLDER} to a folder that `make data RAW_DIR=... OUT_DIR=...` has written"
    if not os.environ.get(FOLDER):
        raise ValueError(f"no folder of prompts is named: {remedy}")
    try:
        rows = read_prompts(Path(os.environ[FOLDER], "test.parquet"), corpus)
    except ValueError as error:
        raise ValueError(f"{error}: {remedy}, with {corpus} in RAW_DIR") from None
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
