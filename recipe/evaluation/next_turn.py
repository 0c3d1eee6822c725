"""What the persona really felt next: a gold label for `my_emotions`, taken from the dialogue itself.

A prompt plays the persona who answers C. The persona's next utterance stands in the same dialogue, with a
gold label. So what the model says that the persona feels can be scored without a judge: the paper's
hypothesis (a model that knows what it would feel knows what others feel) against always saying neutral, and
against copying the emotion that was recognised.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_prep.rows import gold_label, ground_truth
from recipe.evaluation.intervals import Estimate, clustered_mean
from recipe.evaluation.measures import label_scores
from rewards.labels import corpus_labels, heaviest

#: Stands for an answer without `my_emotions` of the corpus: it counts as wrong.
NONE = "(none)"
#: What corpora call it when nothing is felt.
_NO_FEELING = ("neutral", "no emotion")


def real_next_labels(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """row_id -> gold label of the persona's real next utterance after that row's context.

    Rows of one dialogue show how it went on: a later row's context begins with an earlier one's. Rows that
    were made by self-play are not looked at. A prompt is left out if the persona says nothing more, or if
    that utterance has no row (no label, or not drawn).

    Args:
        rows: of `data_prep.rows.SCHEMA`; more rows of a dialogue find more.

    Returns:
        For each original row with a known next utterance: label -> weight.
    """
    return {row_id: ground_truth(later) for row_id, later in _real_next_rows(rows).items()}


def _real_next_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """row_id -> the row that ends with the persona's real next utterance; see `real_next_labels`."""
    found: dict[str, Mapping[str, Any]] = {}
    for dialogue in _dialogues(rows):
        for i, row in enumerate(dialogue):
            context, name = row["extra_info"]["context"], row["extra_info"]["persona"]["name"]
            for later in dialogue[i + 1 :]:
                whole = later["extra_info"]["context"]
                said_before = any(turn["speaker"] == name for turn in whole[len(context) : -1])
                if said_before or whole[: len(context)] != context:
                    break  # the persona's next utterance has no row, or this is another dialogue
                if later["extra_info"]["speaker"] == name and len(whole) > len(context):
                    found[row["extra_info"]["row_id"]] = later
                    break
    return found


def _dialogues(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The original rows of each dialogue, by the length of their contexts."""
    found: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        info = row["extra_info"]
        if info["origin"] == "original":
            found.setdefault((row["data_source"], info["split"], info["dialogue_id"]), []).append(row)
    for dialogue in found.values():
        yield sorted(dialogue, key=lambda row: len(row["extra_info"]["context"]))


def understanding(
    rows: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """How often `my_emotions` is what the persona really felt next, with two baselines beside it.

    Args:
        rows: the prompts, all that there are of their dialogues.
        records: a checkpoint's answers to (some of) them, of `recipe.evaluation.answers.score_answers`.

    Returns:
        corpus -> ``n`` answers with a known next utterance; shares that are right: ``mine`` (the heaviest of
        `my_emotions`), ``neutral`` (always the corpus's neutral, or, where it has none, what is felt most
        often), ``copied`` (the recognised emotion once more); ``macro_f1`` of mine and ``copied_macro_f1``,
        over all labels of the corpus; ``gain``, an `Estimate` of mine minus the better baseline, over
        dialogues. A broken answer counts as wrong, and so do `my_emotions` without a label of the corpus.
        Corpora without such an answer are left out.
    """
    truth = {row_id: gold_label(later) for row_id, later in _real_next_rows(rows).items()}
    table = {}
    for corpus in sorted({r["corpus"] for r in records if r["row_id"] in truth}):
        part = [r for r in records if r["corpus"] == corpus and r["row_id"] in truth]
        labels = corpus_labels(corpus)
        gold = [truth[r["row_id"]] for r in part]
        neutral = _neutral(labels, gold)
        said = {
            "mine": [own_emotion(r, labels) or NONE for r in part],
            "neutral": [neutral] * len(part),
            "copied": [r["pred"] for r in part],
        }
        right = {
            name: [float(a == b) for a, b in zip(gold, answers, strict=True)]
            for name, answers in said.items()
        }
        shares = {name: math.fsum(hits) / len(part) for name, hits in right.items()}
        better = max(("neutral", "copied"), key=shares.__getitem__)
        gains = [a - b for a, b in zip(right["mine"], right[better], strict=True)]
        f1 = {name: label_scores(gold, said[name], labels) for name in ("mine", "copied")}
        macro = {name: math.fsum(s["f1"] for s in f1[name].values()) / len(labels) for name in f1}
        gain: Estimate | None = clustered_mean(gains, [r["dialogue_id"] for r in part])
        table[corpus] = {
            "n": len(part),
            **shares,
            "macro_f1": macro["mine"],
            "copied_macro_f1": macro["copied"],
            "better": better,
            "gain": gain,
        }
    return table


def _neutral(labels: Sequence[str], gold: Sequence[str]) -> str:
    named = [label for label in labels if label.casefold() in _NO_FEELING]
    return named[0] if named else max(labels, key=gold.count)


def own_emotion(record: Mapping[str, Any], labels: Sequence[str]) -> str | None:
    """The heaviest label of a record's `my_emotions` among the corpus's; None if there is none."""
    mine = json.loads(record["parsed"]).get("my_emotions") or {}
    return heaviest({label: w for label, w in mine.items() if label in labels}, labels)
