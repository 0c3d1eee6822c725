"""Answers to a user's dialogues, kept batch by batch as they come; runs in a stage's process."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.own_dialogues.read import OwnDialogue, read_dialogues
from data_prep.prompt import load_templates
from recipe.annotation.prompts import Profiles, own_rows, read_personas
from recipe.annotation.task import Task, read_task
from recipe.evaluation import generate
from recipe.evaluation.answers import is_part_of, write_part
from recipe.evaluation.engines import Sampling
from recipe.models.fit_prompts import TooLongError, fit_with, load_tokenizer

#: Has a checkpoint at hand for the length of a block, as `recipe.evaluation.generate.answering` does.
Answering = Callable[[Any, str, Sampling], AbstractContextManager[generate.Batches]]
#: Of a part: the dialogues that it answers, from the first number on and below the second.
_PART = re.compile(r"part_(\d+)_(\d+)\.parquet")


def answer_dialogues(config: Any, answering: Answering = generate.answering) -> None:
    """Ask a checkpoint about every utterance of the dialogues that no part answers yet.

    What is held at a time is a batch: its dialogues, prompts and answers. A prompt that cannot be cut to what
    the checkpoint reads has no answer, and the others go on.

    Args:
        config: the composed configuration, with ``job: {work, progress}``: the folder of the task, and the
            file that the bar of `recipe.run.process` follows. The answers go below ``<work>/answers``, whole
            dialogues in every part.
        answering: what has the checkpoint at hand.
    """
    work = Path(config.job.work)
    task = read_task(work)
    parts = answered_parts(work / "answers", task.key)
    begun = dialogues_in(parts)
    if begun == task.dialogues:
        return
    done, size = rows_in(parts), config.evaluate.batch_rows
    samples, progress = config.evaluate.samples, Path(config.job.progress)
    sampling = Sampling(samples, config.evaluate.temperature if samples > 1 else 0.0)
    left = zip(islice(_dialogues(task), begun, None), islice(read_personas(work), begun, None), strict=False)
    ask = _Asker(config, task)
    with answering(config, task.model, sampling) as answer:
        for some in _groups(left, size):
            said: dict[str, list[str]] = {}
            for rows in _batches(ask.rows_of(some), size):
                said |= ask.about(rows, answer)
                with progress.open("a") as file:
                    file.write(json.dumps({"step": done + len(said), "data": {}}) + "\n")
            write_part(said, work / f"answers/part_{begun:09d}_{begun + len(some):09d}.parquet", task.key)
            done, begun = done + len(said), begun + len(some)


def answered_parts(folder: Path, key: str) -> list[Path]:
    """The parts that answer the dialogues from the first on without a gap, in their order."""
    by_first = {
        int(found[1]): path
        for path in folder.glob("part_*.parquet")
        if (found := _PART.fullmatch(path.name)) and is_part_of(path, key)
    }
    parts: list[Path] = []
    while path := by_first.get(dialogues_in(parts)):
        parts.append(path)
    return parts


def dialogues_in(parts: Sequence[Path]) -> int:
    """How many dialogues the parts answer."""
    found = _PART.fullmatch(parts[-1].name) if parts else None
    return int(found[2]) if found else 0


def rows_in(parts: Iterable[Path]) -> int:
    """How many utterances the parts answer."""
    return sum(pq.read_metadata(path).num_rows for path in parts)


def _dialogues(task: Task) -> Iterator[OwnDialogue]:
    return read_dialogues(Path(task.source), task.labels, task.columns, task.together)


def _groups(
    dialogues: Iterable[tuple[OwnDialogue, Profiles]], size: int
) -> Iterator[list[tuple[OwnDialogue, Profiles]]]:
    """Whole dialogues, so many that they have ``size`` utterances or some more."""
    group: list[tuple[OwnDialogue, Profiles]] = []
    count = 0
    for own, profiles in dialogues:
        group.append((own, profiles))
        count += len(own.lines)
        if count >= size:
            yield group
            group, count = [], 0
    if group:
        yield group


def _batches(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, size)):
        yield batch


class _Asker:
    def __init__(self, config: Any, task: Task):
        self._config, self._task = config, task
        self._templates = load_templates(config.prompts.dir)
        self._tokenizer = load_tokenizer(task.model)

    def rows_of(self, group: Iterable[tuple[OwnDialogue, Profiles]]) -> Iterator[dict[str, Any]]:
        name, scope = Path(self._task.source).name, self._config.personas.scope
        for own, profiles in group:
            yield from own_rows(own, name, self._task.labels, self._templates, profiles, scope)

    def about(self, rows: Sequence[dict[str, Any]], answer: generate.Batches) -> dict[str, list[str]]:
        """Row id -> answers, in the order of the rows; none to a prompt that does not fit."""
        said: dict[str, list[str]] = {row["extra_info"]["row_id"]: [] for row in rows}
        for answers in answer(self._fitting(rows)):
            said |= answers
        return said

    def _fitting(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        try:
            return fit_with(self._tokenizer, rows, self._config, self._templates)[0]
        except TooLongError:
            if len(rows) == 1:
                return []
        return [fitted for row in rows for fitted in self._fitting([row])]
