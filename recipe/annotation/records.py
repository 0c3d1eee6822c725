"""Answers as what they say of every utterance, read by the rule and the vote of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.own_dialogues.read import OwnDialogue, read_dialogues
from recipe.annotation.answer import answered_parts
from recipe.annotation.task import Task
from recipe.evaluation.answers import agree
from rewards.iou import normalise
from rewards.labels import heaviest
from rewards.parse import parse_output

#: The problem of an utterance that was not asked: its prompt does not fit, even without any context. The
#: others are `rewards.parse.REASONS`.
TOO_LONG = "too_long"


@dataclass(frozen=True)
class Annotation:
    """One utterance with its emotions.

    Attributes:
        dialogue_id, utterance_id, line, speaker, text: of the file.
        label: that the file gives it; None if there is none.
        emotion: the heaviest of ``emotions``, the earlier in the list of labels among equals; None if no
            answer keeps the rule.
        emotions: label -> weight, heaviest first, summing to 1.
        problem: what keeps it without emotions: a name of `rewards.parse.REASONS`, or `TOO_LONG`.
        answers: as they were said.
    """

    dialogue_id: str
    utterance_id: str
    line: int
    speaker: str
    text: str
    label: str | None
    emotion: str | None
    emotions: dict[str, float]
    problem: str | None
    answers: list[str]


def read_annotations(task: Task, work: Path) -> Iterator[list[Annotation]]:
    """The utterances of one dialogue after the other.

    Raises:
        ValueError: the answers are not all there, or are of another file than the one that is there now.
    """
    said = _said(answered_parts(work / "answers", task.key))
    name = Path(task.source).name
    for own in read_dialogues(Path(task.source), task.labels, task.columns, task.together):
        found = [next(said, ("", [])) for _ in own.lines]
        if [row_id for row_id, _ in found] != [f"{name}, line {line}" for line in own.lines]:
            raise ValueError(
                f"{task.source}: dialogue {own.dialogue.dialogue_id!r} is not what was asked; the file has "
                f"changed since, so delete {work} and run the command again"
            )
        yield annotations_of(own, [answers for _, answers in found], task.labels)


def _said(parts: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    for part in parts:
        for row in pq.read_table(part).to_pylist():
            yield row["row_id"], row["answers"]


def annotations_of(
    own: OwnDialogue, said: Sequence[Sequence[str]], labels: Sequence[str]
) -> list[Annotation]:
    """The utterances of a dialogue with their emotions.

    Args:
        own: the dialogue.
        said: the answers to each utterance, none where it was not asked.
        labels: the list of labels, in its order.
    """
    return [
        Annotation(
            dialogue_id=own.dialogue.dialogue_id,
            utterance_id=utterance.utterance_id,
            line=line,
            speaker=utterance.speaker,
            text=utterance.text,
            label=utterance.label,
            **read_answers_to_one(answers, labels),
        )
        for utterance, line, answers in zip(own.dialogue.utterances, own.lines, said, strict=True)
    ]


def read_answers_to_one(answers: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """``emotion``, ``emotions``, ``problem`` and ``answers`` of an `Annotation`.

    Args:
        answers: to one prompt; several vote, as in `recipe.evaluation.answers.vote`.
        labels: the list of labels, in its order.
    """
    if not answers:
        return {"emotion": None, "emotions": {}, "problem": TOO_LONG, "answers": []}
    read = [_read(text, labels) for text in answers]
    said = read[0] if len(read) == 1 else agree(read, labels)
    weights = normalise(json.loads(said["parsed"])["last_emotions"])
    ordered = sorted(weights, key=list(labels).index)
    ordered.sort(key=weights.__getitem__, reverse=True)  # stable
    return {
        "emotion": said["pred"] or None,
        "emotions": {label: weights[label] for label in ordered},
        "problem": said["reason"] or None,
        "answers": list(answers),
    }


def _read(text: str, labels: Sequence[str]) -> dict[str, Any]:
    parsed = parse_output(text, labels)
    return {
        "answer": text,
        "valid": parsed.valid,
        "reason": parsed.reason or "",
        "pred": heaviest(parsed.last_emotions, labels) or "",
        "parsed": json.dumps(asdict(parsed), ensure_ascii=False),
    }
