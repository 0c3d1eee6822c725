"""Annotations as JSON lines and as CSV, written one dialogue after the other, and what they come to."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from recipe.annotation.records import TOO_LONG, Annotation

#: Decimals of a weight.
_DECIMALS = 6


def how_many(utterances: int, dialogues: int) -> str:
    """Both numbers in words."""
    counts = ((utterances, "utterance"), (dialogues, "dialogue"))
    return " in ".join(f"{n:,} {word if n == 1 else word + 's'}" for n, word in counts)


@dataclass
class Summary:
    """What all annotations come to.

    Attributes:
        utterances, dialogues: how many there are.
        emotions: label -> utterances with it as their heaviest, in the order of the labels.
        problems: name -> utterances without emotions for it.
        labelled: utterances that the file gives a label; of them ``agreeing`` have it as their heaviest.
    """

    utterances: int = 0
    dialogues: int = 0
    emotions: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    labelled: int = 0
    agreeing: int = 0

    def lines(self) -> list[str]:
        """In words, for a terminal and for the page."""
        found = [how_many(self.utterances, self.dialogues)]
        if without := sum(self.problems.values()):
            named = ", ".join(f"{name} {count:,}" for name, count in self.problems.items())
            found.append(f"{without:,} without emotions (column `problem`): {named}")
        if 2 * (without - self.problems.get(TOO_LONG, 0)) > self.utterances:
            found.append(
                "most answers break the output rule: this model does not know such dialogues or labels"
            )
        if self.labelled:
            share = self.agreeing / self.labelled
            found.append(f"{share:.1%} of the {self.labelled:,} labels in the file are the heaviest emotion")
        return found


def count_annotations(
    dialogues: Iterable[Sequence[Annotation]], labels: Sequence[str], summary: Summary
) -> Iterator[Sequence[Annotation]]:
    """Hand the dialogues on, and count them into ``summary``, whose mappings are made anew."""
    emotions, problems = Counter(dict.fromkeys(labels, 0)), Counter[str]()
    for dialogue in dialogues:
        summary.dialogues += 1
        summary.utterances += len(dialogue)
        emotions.update(a.emotion for a in dialogue if a.emotion)
        problems.update(a.problem for a in dialogue if a.problem)
        summary.labelled += sum(a.label is not None for a in dialogue)
        summary.agreeing += sum(a.label is not None and a.label == a.emotion for a in dialogue)
        yield dialogue
    summary.emotions, summary.problems = dict(emotions), dict(problems.most_common())


def write_tables(
    dialogues: Iterable[Sequence[Annotation]], targets: Mapping[str, Path], labels: Sequence[str]
) -> None:
    """Write every annotation into each table.

    Args:
        dialogues: one after the other; one is held at a time.
        targets: ``jsonl`` and ``csv``, or one of them -> a file that has not got its final name yet.
        labels: a column of weights each, in a CSV table.
    """
    with ExitStack() as files:
        write = {
            kind: _WRITERS[kind](files.enter_context(path.open("w", encoding="utf-8", newline="")), labels)
            for kind, path in targets.items()
        }
        for dialogue in dialogues:
            for annotation in dialogue:
                for one in write.values():
                    one(annotation)


Write = Callable[[Annotation], object]


def _json_lines(file: TextIO, _: Sequence[str]) -> Write:
    def write(annotation: Annotation) -> None:
        found = asdict(annotation)
        found["emotions"] = {label: round(weight, _DECIMALS) for label, weight in found["emotions"].items()}
        file.write(json.dumps(found, ensure_ascii=False) + "\n")

    return write


def _csv(file: TextIO, labels: Sequence[str]) -> Write:
    """One row an utterance; a weight is empty where there are no emotions, and several answers are joined."""
    table = csv.writer(file)
    before = ("dialogue_id", "utterance_id", "line", "speaker", "text", "label", "emotion", "problem")
    table.writerow([*before, *(f"weight_{label}" for label in labels), "answer"])

    def write(annotation: Annotation) -> None:
        emotions = annotation.emotions
        weights = [round(emotions.get(label, 0.0), _DECIMALS) if emotions else "" for label in labels]
        answer = "\n".join(annotation.answers)
        table.writerow([*(getattr(annotation, name) for name in before), *weights, answer])

    return write


_WRITERS: dict[str, Callable[[TextIO, Sequence[str]], Write]] = {"jsonl": _json_lines, "csv": _csv}
