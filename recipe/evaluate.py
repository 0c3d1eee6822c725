"""Score a checkpoint on the test splits: greedy answers from vLLM, then the paper's measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.rows import ground_truth, read_rows
from rewards.iou import compute_score
from rewards.labels import corpus_labels, heaviest

#: What stands for an answer that breaks the rule: it counts as wrong, for every label.
INVALID = "(invalid)"


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


def f1_per_label(gold: Sequence[str], pred: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """F1 of every label; 0 for a label that is neither predicted nor there.

    Not scikit-learn's: where that is installed, transformers imports it in every process of a run,
    which makes each start seconds slower.
    """
    hits = Counter(g for g, p in zip(gold, pred, strict=True) if g == p)
    seen = Counter(gold) + Counter(pred)
    return {label: 2 * hits[label] / seen[label] if seen[label] else 0.0 for label in labels}


def summarise(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The paper's measures per corpus, and ``avg``: the mean over corpora, as in Table 1.

    Returns:
        corpus -> n, accuracy, weighted_f1, macro_f1, valid, reward, iou (all in [0, 1.1]), reasons.
    """
    table: dict[str, dict[str, Any]] = {}
    for corpus in sorted({r["corpus"] for r in records}):
        part = [r for r in records if r["corpus"] == corpus]
        gold, pred, labels = [r["gold"] for r in part], [r["pred"] for r in part], corpus_labels(corpus)
        f1 = f1_per_label(gold, pred, labels)
        table[corpus] = {
            "n": len(part),
            "accuracy": float(np.mean([r["acc"] for r in part])),
            "weighted_f1": sum(f1[e] * gold.count(e) for e in labels) / len(part),
            "macro_f1": sum(f1.values()) / len(labels),
            "valid": float(np.mean([r["valid"] for r in part])),
            "reward": float(np.mean([r["score"] for r in part])),
            "iou": float(np.mean([r["iou"] for r in part])),
            "reasons": dict(Counter(r["reason"] for r in part if r["reason"])),
        }
    measures = ("accuracy", "weighted_f1", "macro_f1", "valid", "reward", "iou")
    table["avg"] = {
        "n": len(records),
        **{m: float(np.mean([table[c][m] for c in table])) for m in measures},
        "reasons": dict(Counter(r["reason"] for r in records if r["reason"])),
    }
    return table
