"""Answer the test splits with a checkpoint, greedily through vLLM, and score every answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.rows import ground_truth, read_rows
from recipe.measures import INVALID
from rewards.iou import compute_score
from rewards.labels import heaviest


def generate_answers(config: Any) -> None:
    """Answer every prompt greedily with every checkpoint; finished batches are kept on disk.

    Args:
        config: the composed configuration, with ``job: {data, out, models: {stage: model}}``; the
            answers of a stage go below ``<out>/<stage>``.
    """
    rows = read_rows(config.job.data)
    for stage, model in config.job.models.items():
        _answer(config, rows, stage, model, Path(config.job.out) / stage)


def _answer(config: Any, rows: list[dict[str, Any]], stage: str, checkpoint: str, out: Path) -> None:
    size = config.evaluate.batch_rows
    todo = [i for i in range(0, len(rows), size) if not (out / f"part_{i:08d}.parquet").exists()]
    if not todo:
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
    sampling = SamplingParams(temperature=0.0, max_tokens=config.data.max_response_length)
    template = dict(config.data.apply_chat_template_kwargs)
    for done, i in enumerate(todo):
        batch = rows[i : i + size]
        answers = model.chat(
            [row["prompt"] for row in batch], sampling, use_tqdm=False, chat_template_kwargs=template
        )
        table = [
            {"row_id": row["extra_info"]["row_id"], "answer": answer.outputs[0].text}
            for row, answer in zip(batch, answers, strict=True)
        ]
        part = out / f"part_{i:08d}.tmp"
        pq.write_table(pa.Table.from_pylist(table), part)
        part.replace(out / f"part_{i:08d}.parquet")
        print(f"{stage}: {min((done + 1) * size, len(rows))}/{len(rows)} prompts", flush=True)
    del model  # its memory is wanted for the next checkpoint
    cleanup_dist_env_and_memory()


def read_answers(folder: str | Path) -> dict[str, str]:
    """row_id -> answer, from the parts that `generate_answers` wrote."""
    return {
        row["row_id"]: row["answer"]
        for part in sorted(Path(folder).glob("part_*.parquet"))
        for row in pq.read_table(part).to_pylist()
    }


def score_answers(rows: list[dict[str, Any]], answers: dict[str, str]) -> list[dict[str, Any]]:
    """One record per row: corpus, gold and predicted label, the reward's parts, the answer.

    Raises:
        ValueError: a row has no answer.
    """
    missing = [row["extra_info"]["row_id"] for row in rows if row["extra_info"]["row_id"] not in answers]
    if missing:
        raise ValueError(f"{len(missing)} prompts have no answer, the first is {missing[0]}; run it again")
    records = []
    for row in rows:
        info, gold = row["extra_info"], ground_truth(row)
        scored = compute_score(row["data_source"], answers[info["row_id"]], gold, info)
        records.append(
            {
                "row_id": info["row_id"],
                "corpus": row["data_source"],
                "dialogue_id": info["dialogue_id"],
                "gold": heaviest(gold, info["labels"]),
                "pred": scored["pred"] or INVALID,
                "answer": answers[info["row_id"]],
                **{k: scored[k] for k in ("score", "iou", "acc", "valid", "reason", "parsed")},
            }
        )
    return records
