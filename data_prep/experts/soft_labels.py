"""Soft labels of original rows (``labels.kind: expert``): an expert sees the gold label and may add to it.

The paper's examples have several emotions with weights where the corpora have one label (Tables 8, 10). The
gold label stays the heaviest, so accuracy means what it meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.experts import forms
from data_prep.experts.client import Answers, Request, Settings, ask_all
from data_prep.experts.reading import read_dictionary
from data_prep.rows import gold_label
from rewards.iou import normalise
from rewards.parse import MIN_WEIGHT

MOST = 3
_TEMPLATES = Path(__file__).parents[1] / "prompts/label"


def request(row: Mapping[str, Any]) -> Request:
    """What is asked about one row's last line."""
    info, gold = row["extra_info"], gold_label(row)
    labels = list(info["labels"])
    lines = "\n".join(f"{turn['speaker']}: {turn['text']}" for turn in info["context"])
    system, user = (
        (_TEMPLATES / f"{name}.txt").read_text(encoding="utf-8").strip() for name in ("system", "user")
    )
    # str.replace and not str.format: dialogues hold braces. They go in last: nothing in them is replaced.
    for name, value in (("labels", ", ".join(labels)), ("gold", gold), ("speaker", info["speaker"])):
        user = user.replace(f"{{{name}}}", value)
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": user.replace("{dialogue}", lines)},
    ]
    check = lambda text: complaint(text, gold, labels)  # noqa: E731
    return Request(f"label:{info['row_id']}", messages, check, forms.of_label(gold, labels))


def complaint(text: str, gold: str, labels: Sequence[str]) -> str | None:
    """What is wrong with an answer; None if it is a soft label that keeps the gold one heaviest."""
    try:
        read_label(text, gold, labels)
    except ValueError as error:
        return str(error)
    return None


def read_label(text: str, gold: str, labels: Sequence[str]) -> dict[str, float]:
    """The label that an answer ends with, normalised.

    Raises:
        ValueError: what is wrong with it, in words.
    """
    found = read_dictionary(text)
    spelled = {label.casefold(): label for label in labels}
    if unknown := [key for key in found if key.casefold() not in spelled]:
        raise ValueError(f"{unknown[0]!r} is not among the allowed labels")
    weights = {spelled[key.casefold()]: value for key, value in found.items()}
    if len(weights) != len(found) or not 1 <= len(weights) <= MOST:
        raise ValueError(f"the dictionary must name one to {MOST} labels, each once")
    for label, weight in weights.items():
        if type(weight) not in (int, float) or not MIN_WEIGHT <= weight <= 1:
            raise ValueError(f"the weight of {label} must be a number from {MIN_WEIGHT:f} to 1")
    if any(weight >= weights.get(gold, 0.0) for label, weight in weights.items() if label != gold):
        raise ValueError(f"{gold} must be among the labels and have the largest weight")
    if gold not in weights:
        raise ValueError(f"{gold} must be among the labels and have the largest weight")
    return normalise(weights)


def ask_labels(
    rows: Sequence[Mapping[str, Any]], settings: Settings, cache: str | Path, needed: bool = True
) -> tuple[dict[str, dict[str, float]], Answers]:
    """Ask the experts for soft labels.

    Args:
        rows: of `data_prep.rows.SCHEMA`, with their gold labels.
        settings: how to ask.
        cache: folder of the answers on disk.
        needed: whether it is an error that nothing passed.

    Returns:
        row_id -> label, without the rows whose answers never passed, which keep their gold label; and what
        the asking cost and rejected.

    Raises:
        ExpertError: as `data_prep.experts.client.ask_all`, and where no answer passed that is needed.
    """
    by_name = {f"label:{row['extra_info']['row_id']}": row for row in rows}
    answers = ask_all([request(row) for row in rows], settings, cache, "labels")
    if needed:
        answers.check_some("labels")
    found = {}
    for name, (_, text) in answers.texts.items():
        row = by_name[name]
        label = read_label(text, gold_label(row), row["extra_info"]["labels"])
        found[row["extra_info"]["row_id"]] = label
    return found, answers
