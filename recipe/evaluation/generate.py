"""Answer prompts with checkpoints through vLLM; runs inside a stage's process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.files import write_json
from data_prep.rows import read_rows
from recipe.draws import draw_stratified
from recipe.evaluation import entropy
from recipe.evaluation.answers import read_answers, write_part
from recipe.evaluation.engines import Sampling, loaded

#: Rows -> for one batch after the other: row_id -> the answers to it.
Batches = Callable[[Sequence[dict[str, Any]]], Iterator[dict[str, list[str]]]]


@contextmanager
def answering(config: Any, checkpoint: str, sampling: Sampling) -> Iterator[Batches]:
    """Have a checkpoint in vLLM for the length of the block.

    Args:
        config: the composed configuration.
        checkpoint: Hugging Face folder or hub id.
        sampling: how to draw answers.

    Yields:
        A function that answers rows of `data_prep.rows.SCHEMA`, ``evaluate.batch_rows`` at a time.
    """
    size = config.evaluate.batch_rows
    with loaded(config, checkpoint, sampling) as ask:

        def answer(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, list[str]]]:
            for i in range(0, len(rows), size):
                batch = rows[i : i + size]
                answers = ask([row["prompt"] for row in batch])
                yield {row["extra_info"]["row_id"]: texts for row, texts in zip(batch, answers, strict=True)}

        yield answer


def generate_answers(config: Any) -> None:
    """Answer every prompt with every checkpoint; finished batches are kept on disk.

    One answer to a prompt is greedy; several (``evaluate.samples``) are drawn at ``evaluate.temperature``.

    Args:
        config: the composed configuration, with ``job: {data: {split: rows}, out, models: {stage: model}, of:
            {stage: key}}``; the answers go below ``<out>/<stage>/<split>``, with the stage's key
            (`answers.write_part`). Entropy is measured on the split ``test``.
    """
    splits = {name: read_rows(path) for name, path in config.job.data.items()}
    folder, total = Path(config.job.out), sum(map(len, splits.values()))
    progress = folder / "metrics.part.jsonl"  # what the bar of `recipe.run.process` follows
    for number, (stage, model) in enumerate(config.job.models.items()):
        out, key = folder / stage, config.job.of[stage]
        for done in _answer(config, splits, model, out, key):
            with progress.open("a") as file:
                file.write(json.dumps({"step": number * total + done, "data": {"stage": stage}}) + "\n")
        if (most := config.evaluate.entropy_rows) and not (out / "entropy.json").exists():
            rows = splits["test"]
            asked = [rows[i] for i in draw_stratified(rows, most, config.run.seed)]
            options = dict(config.data.apply_chat_template_kwargs)
            said = read_answers(out / "test", key)
            write_json(out / "entropy.json", entropy.measure(model, asked, said, options))


def _answer(
    config: Any, splits: Mapping[str, list[dict[str, Any]]], checkpoint: str, out: Path, key: str
) -> Iterator[int]:
    """Answer what is not answered yet, batch by batch; yields how many prompts are done.

    What an earlier attempt left counts if it has the same key, whatever the size of its batches.
    """
    samples, size = config.evaluate.samples, config.evaluate.batch_rows
    todo = {name: list(_unanswered(rows, out / name, key)) for name, rows in splits.items()}
    left = sum(map(len, todo.values()))
    done = sum(map(len, splits.values())) - left
    if not left:
        yield done
        return
    (out / "entropy.json").unlink(missing_ok=True)  # of other answers
    sampling = Sampling(samples, config.evaluate.temperature if samples > 1 else 0.0)
    with answering(config, checkpoint, sampling) as answer:
        for name, places in todo.items():
            for first in range(0, len(places), size):
                batch = places[first : first + size]
                for answers in answer([splits[name][i] for i in batch]):
                    write_part(answers, out / name / f"part_{batch[0]:08d}.parquet", key)
                done += len(batch)
                yield done


def _unanswered(rows: Sequence[dict[str, Any]], folder: Path, key: str) -> Iterator[int]:
    """Places of the rows that no part of ``folder`` with this key answers."""
    done = read_answers(folder, key)
    return (i for i, row in enumerate(rows) if row["extra_info"]["row_id"] not in done)
