"""Answer the test splits with a checkpoint through vLLM, and score what it says: greedy, or by a vote."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.files import write_json
from data_prep.rows import ground_truth, read_rows
from recipe import token_entropy
from recipe.buffer import draw_stratified
from recipe.measures import INVALID
from rewards.iou import compute_score, normalise
from rewards.labels import heaviest


def generate_answers(config: Any) -> None:
    """Answer every prompt with every checkpoint; finished batches are kept on disk.

    One answer to a prompt is greedy; several (``evaluate.samples``) are drawn at ``evaluate.temperature``.

    Args:
        config: the composed configuration, with ``job: {data, out, models: {stage: model}}``; the
            answers of a stage go below ``<out>/<stage>``.
    """
    rows, folder = read_rows(config.job.data), Path(config.job.out)
    progress = folder / "metrics.part.jsonl"  # what the bar of `recipe.process` follows
    for number, (stage, model) in enumerate(config.job.models.items()):
        out = folder / stage
        for done in _answer(config, rows, model, out):
            with progress.open("a") as file:
                file.write(json.dumps({"step": number * len(rows) + done, "data": {"stage": stage}}) + "\n")
        if (most := config.evaluate.entropy_rows) and not (out / "entropy.json").exists():
            asked = [rows[i] for i in draw_stratified(rows, most, config.run.seed)]
            options = dict(config.data.apply_chat_template_kwargs)
            write_json(out / "entropy.json", token_entropy.measure(model, asked, read_answers(out), options))


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


def read_answers(folder: str | Path) -> dict[str, list[str]]:
    """row_id -> answers, from the parts that `generate_answers` wrote."""
    return {
        row["row_id"]: row["answers"]
        for part in sorted(Path(folder).glob("part_*.parquet"))
        for row in pq.read_table(part).to_pylist()
    }


def score_answers(
    rows: Sequence[Mapping[str, Any]], answers: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """One record per row: corpus, gold and predicted label, the reward's parts, the answer.

    Args:
        rows: of `data_prep.rows.SCHEMA`.
        answers: row_id -> one or several answers; several are put together by `vote`.

    Raises:
        ValueError: a row has no answer.
    """
    missing = [row["extra_info"]["row_id"] for row in rows if not answers.get(row["extra_info"]["row_id"])]
    if missing:
        raise ValueError(f"{len(missing)} prompts have no answer, the first is {missing[0]}; run it again")
    records = []
    for row in rows:
        info, gold = row["extra_info"], ground_truth(row)
        label = heaviest(gold, info["labels"])
        fields = ("score", "iou", "acc", "valid", "reason", "parsed", "pred")
        scored = []
        for text in answers[info["row_id"]]:
            found = compute_score(row["data_source"], text, gold, info)
            scored.append({"answer": text} | {k: found[k] for k in fields})
        records.append(
            {
                "row_id": info["row_id"],
                "corpus": row["data_source"],
                "dialogue_id": info["dialogue_id"],
                "gold": label,
                **(scored[0] if len(scored) == 1 else vote(scored, label, info["labels"])),
            }
        )
        records[-1]["pred"] = records[-1]["pred"] or INVALID
    return records


def vote(scored: Sequence[Mapping[str, Any]], gold: str, labels: Sequence[str]) -> dict[str, Any]:
    """Several answers to one prompt as one: the label that most valid answers hold for the heaviest.

    Ties go to the label with more weight over all answers, then to the corpus's order. Reward and IoU
    are means over the answers; the weights are the mean of the valid answers' normalised ones.

    Args:
        scored: one or more answers with the fields of a record.
        gold: the label to be found.
        labels: of the corpus, in its order.

    Returns:
        The fields of a record, and ``votes``: label -> answers for it.
    """
    valid = [s for s in scored if s["valid"]]
    votes = Counter(s["pred"] for s in valid)
    said = [normalise(json.loads(s["parsed"])["last_emotions"]) for s in valid]
    weights = {e: math.fsum(p.get(e, 0.0) for p in said) / len(said) for e in labels if said}
    winner = max(votes, key=lambda e: (votes[e], weights[e], -labels.index(e)), default="")
    shown = next((s for s in valid if s["pred"] == winner), scored[0])
    parsed = json.loads(shown["parsed"]) | {"last_emotions": {e: w for e, w in weights.items() if w > 0}}
    return {
        **shown,
        "pred": winner,
        "acc": float(winner == gold),
        "parsed": json.dumps(parsed, ensure_ascii=False),
        "votes": dict(votes),
        **{k: math.fsum(s[k] for s in scored) / len(scored) for k in ("score", "iou")},
    }
