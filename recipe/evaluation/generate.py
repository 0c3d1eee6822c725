"""Answer prompts with checkpoints through vLLM; runs inside a stage's process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.files import write_json
from data_prep.rows import read_rows
from recipe.draws import draw_stratified
from recipe.evaluation import entropy
from recipe.evaluation.answers import is_part_of, read_answers, write_part

#: Rows -> for one batch after the other: row_id -> the answers to it.
Batches = Callable[[Sequence[dict[str, Any]]], Iterator[dict[str, list[str]]]]


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: ``n`` to a prompt at ``temperature``, 0 being greedy."""

    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0


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
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory

    rollout = config.actor_rollout_ref.rollout
    longest = config.data.max_prompt_length + config.data.max_response_length
    engines = [
        LLM(
            model=checkpoint,
            dtype=rollout.dtype,
            enforce_eager=rollout.enforce_eager,
            gpu_memory_utilization=rollout.gpu_memory_utilization,
            tensor_parallel_size=rollout.tensor_model_parallel_size,
            max_model_len=longest,
            max_num_batched_tokens=max(rollout.max_num_batched_tokens, longest),
            seed=config.run.seed,
            disable_log_stats=True,
        )
    ]
    parameters = SamplingParams(
        n=sampling.n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=config.data.max_response_length,
    )  # no seed: vLLM cannot seed single requests on a CPU; the engine has the run's
    template, size = dict(config.data.apply_chat_template_kwargs), config.evaluate.batch_rows

    def answer(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, list[str]]]:
        for i in range(0, len(rows), size):
            batch = rows[i : i + size]
            prompts = [row["prompt"] for row in batch]
            outputs = engines[0].chat(prompts, parameters, use_tqdm=False, chat_template_kwargs=template)
            yield {
                row["extra_info"]["row_id"]: [answer.text for answer in output.outputs]
                for row, output in zip(batch, outputs, strict=True)
            }

    try:
        yield answer
    finally:
        engines.clear()  # its memory is wanted for the next checkpoint
        cleanup_dist_env_and_memory()


def generate_answers(config: Any) -> None:
    """Answer every prompt with every checkpoint; finished batches are kept on disk.

    One answer to a prompt is greedy; several (``evaluate.samples``) are drawn at ``evaluate.temperature``.

    Args:
        config: the composed configuration, with ``job: {data, out, models: {stage: model}, of: {stage:
            key}}``; the answers of a stage go below ``<out>/<stage>``, with its key (`answers.write_part`).
    """
    rows, folder = read_rows(config.job.data), Path(config.job.out)
    progress = folder / "metrics.part.jsonl"  # what the bar of `recipe.run.process` follows
    for number, (stage, model) in enumerate(config.job.models.items()):
        out, key = folder / stage, config.job.of[stage]
        for done in _answer(config, rows, model, out, key):
            with progress.open("a") as file:
                file.write(json.dumps({"step": number * len(rows) + done, "data": {"stage": stage}}) + "\n")
        if (most := config.evaluate.entropy_rows) and not (out / "entropy.json").exists():
            asked = [rows[i] for i in draw_stratified(rows, most, config.run.seed)]
            options = dict(config.data.apply_chat_template_kwargs)
            write_json(out / "entropy.json", entropy.measure(model, asked, read_answers(out, key), options))


def _answer(config: Any, rows: list[dict[str, Any]], checkpoint: str, out: Path, key: str) -> Iterator[int]:
    """Answer what is not answered yet, batch by batch; yields how many prompts are done."""
    size = config.evaluate.batch_rows
    todo = [i for i in range(0, len(rows), size) if not is_part_of(out / f"part_{i:08d}.parquet", key)]
    if not todo:
        yield len(rows)
        return
    (out / "entropy.json").unlink(missing_ok=True)  # of other answers
    samples = config.evaluate.samples
    sampling = Sampling(samples, config.evaluate.temperature if samples > 1 else 0.0)
    with answering(config, checkpoint, sampling) as answer:
        for i in todo:
            for answers in answer(rows[i : i + size]):
                write_part(answers, out / f"part_{i:08d}.parquet", key)
            yield min(i + size, len(rows))
