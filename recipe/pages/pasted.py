"""Emotions of text that is pasted into the chat page, as `make annotate` reads them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, Field

from data_prep.corpora.errors import DataError
from data_prep.own_dialogues.read import OwnDialogue, read_dialogues
from data_prep.prompt import load_templates
from recipe.annotation.checkpoint import default_labels
from recipe.annotation.prompts import own_rows
from recipe.annotation.records import Annotation, annotations_of
from recipe.annotation.task import read_labels
from rewards.parse import mended

#: Utterances that are taken, for more there is `make annotate`; and requests at a time.
MOST, _AT_ONCE = 500, 16
#: Messages -> an answer.
Ask = Callable[[list[dict[str, str]]], Awaitable[str]]


class Pasted(BaseModel):
    """As in a text file of `make annotate`: a line an utterance, an empty line between dialogues."""

    checkpoint: Annotated[int, Field(ge=0)]
    labels: Annotated[str, Field(max_length=4000)]  # as LABELS; empty: the checkpoint's own
    text: Annotated[str, Field(min_length=1, max_length=200_000)]


def pasted_dialogues(pasted: Pasted, config: DictConfig) -> tuple[list[OwnDialogue], tuple[str, ...]]:
    """The dialogues of a text, and the labels that they are read with.

    Args:
        pasted: the text.
        config: of the checkpoint.

    Raises:
        ValueError: a line or the labels cannot be used, or there are too many lines.
    """
    labels = read_labels(pasted.labels.strip() or None, default_labels(config))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pasted.txt")
        path.write_text(mended(pasted.text), encoding="utf-8")
        try:
            dialogues = list(read_dialogues(path, labels, {}, together=True))
        except DataError as error:  # without the file, which nobody has written
            where = f"line {error.line}: " if error.line else ""
            raise ValueError(f"{where}{error.problem}") from None
    if not (count := sum(len(own.lines) for own in dialogues)):
        raise ValueError("there is no line with anything in it")
    if count > MOST:
        raise ValueError(f"{count:,} lines; up to {MOST} are read here, more by make annotate")
    return dialogues, labels


async def annotated(
    dialogues: Sequence[OwnDialogue], labels: Sequence[str], tokenizer: Any, config: DictConfig, ask: Ask
) -> AsyncIterator[list[Annotation]]:
    """One dialogue after the other, asked as `make annotate` asks, one greedy answer to an utterance.

    Args:
        dialogues, labels: of `pasted_dialogues`.
        tokenizer: of the checkpoint.
        config: of the checkpoint.
        ask: has a prompt answered.
    """
    from recipe.models.fit_prompts import TooLongError, fit_with

    templates = load_templates(config.prompts.dir)
    scope = OmegaConf.select(config, "personas.scope") or "dialogue"
    free = asyncio.Semaphore(_AT_ONCE)

    async def answers_to(row: dict[str, Any]) -> list[str]:
        try:
            fitted = fit_with(tokenizer, [row], config, templates)[0][0]
        except TooLongError:
            return []
        async with free:
            return [await ask(fitted["prompt"])]

    for own in dialogues:
        rows = own_rows(own, "pasted", labels, templates, scope=scope)
        yield annotations_of(own, await asyncio.gather(*map(answers_to, rows)), labels)
