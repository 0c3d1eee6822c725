"""Answer prompts with checkpoints through vLLM; runs inside the evaluation stage's process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.files import write_json
from data_prep.rows import read_rows
from recipe.buffer import draw_stratified
from recipe.evaluation import entropy
from recipe.evaluation.answers import read_answers


def generate_answers(config: Any) -> None:
    """Answer every prompt with every checkpoint; finished batches are kept on disk.

    One answer to a prompt is greedy; several (``evaluate.samples``) are drawn at ``evaluate.temperature``.

    Args:
        config: the composed configuration, with ``job: {data, out, models: {stage: model}}``; the
            answers of a stage go below ``<out>/<stage>``.
    """
    rows, folder = read_rows(config.job.data), Path(config.job.out)
    progress = folder / "metrics.part.jsonl"  # what the bar of `recipe.run.process` follows
    for number, (stage, model) in enumerate(config.job.models.items()):
        out = folder / stage
        for done in _answer(config, rows, model, out):
            with progress.open("a") as file:
                file.write(json.dumps({"step": number * len(rows) + done, "data": {"stage": stage}}) + "\n")
        if (most := config.evaluate.entropy_rows) and not (out / "entropy.json").exists():
            asked = [rows[i] for i in draw_stratified(rows, most, config.run.seed)]
            options = dict(config.data.apply_chat_template_kwargs)
            write_json(out / "entropy.json", entropy.measure(model, asked, read_answers(out), options))


def _answer(config: Any, rows: list[dict[str, Any]], checkpoint: str, out: Path) -> Iterator[int]:
    """Answer what is not answered yet, batch by batch; yields how many prompts are done."""
    size = config.evaluate.batch_rows
    todo = [i for i in range(0, len(rows), size) if not (out / f"part_{i:08d}.parquet").exists()]
    if not todo:
        yield len(rows)
        return
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory

    out.mkdir(parents=True, exist_ok=True)
    rollout = config.actor_rollout_ref.rollout
    longest = config.data.max_prompt_length + config.data.max_response_length
    model = LLM(
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
    samples = config.evaluate.samples
    sampling = SamplingParams(
        n=samples,
        temperature=config.evaluate.temperature if samples > 1 else 0.0,
        max_tokens=config.data.max_response_length,
    )  # no seed: vLLM cannot seed single requests on a CPU; the engine has the run's
    template = dict(config.data.apply_chat_template_kwargs)
    for i in todo:
        batch = rows[i : i + size]
        answers = model.chat(
            [row["prompt"] for row in batch], sampling, use_tqdm=False, chat_template_kwargs=template
        )
        table = [
            {"row_id": row["extra_info"]["row_id"], "answers": [output.text for output in answer.outputs]}
            for row, answer in zip(batch, answers, strict=True)
        ]
        part = out / f"part_{i:08d}.tmp"
        pq.write_table(pa.Table.from_pylist(table), part)
        part.replace(out / f"part_{i:08d}.parquet")
        yield min(i + size, len(rows))
    del model  # its memory is wanted for the next checkpoint
    cleanup_dist_env_and_memory()
