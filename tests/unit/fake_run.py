"""A small finished run, made from the sample dialogues by the recipe's own functions, without a model.

Answers are drawn at random with a seed; everything after them (scores, consensus, advantages,
selection, measures) is computed as in a real run.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from advantage.self_grpo import progress, secondary_rewards, self_grpo_advantages
from data_prep import persona_clusters as clusters
from data_prep.corpora import read_corpora
from data_prep.prepare import dialogue_rows
from data_prep.prompt import load_templates
from data_prep.rows import ground_truth, write_rows
from recipe.buffer import best_rollouts, grow, self_play_row
from recipe.evaluation.answers import score_answers
from recipe.evaluation.baselines import BASELINES
from recipe.evaluation.circularity import is_self_labelled
from recipe.evaluation.measures import summarise
from recipe.evaluation.predictions import write_predictions
from recipe.run import versions
from rewards.iou import compute_score
from rewards.labels import heaviest
from tests.unit.samples import SAMPLES

CONFIG = """
run: {root: runs, name: fake, seed: %d}
raw_dir: null
profile: cpu
base: {name: tiny, path: "builtin:tiny"}
expert: {kind: offline}
flywheel: {iterations: 2, min_reward: 0.1, mix: {original: 15000, self_play: 8000}}
evaluate: {stages: [cold, rl, retrained]}
algorithm: {adv_estimator: self_grpo, use_kl_in_reward: false}
data: {train_batch_size: 4, max_prompt_length: 192}
actor_rollout_ref: {actor: {optim: {lr: 5e-4}, kl_loss_coef: 0.001}, rollout: {n: 4}}
trainer: {total_epochs: 1}
"""
TEMPLATES = load_templates("compact")
REPLIES = ("I am so sorry.", "Good for you!", "Please calm down.", "<script>throw 1</script> Zoë & ☕")


def prompts(split: str, per_corpus: int) -> list[dict[str, Any]]:
    """The first rows of a split of the sample dialogues, of every corpus."""
    rows: dict[str, list] = {}
    for dialogue in read_corpora(SAMPLES):
        part = rows.setdefault(dialogue.corpus, [])
        if dialogue.split == split and len(part) < per_corpus:
            part += list(dialogue_rows(dialogue, TEMPLATES))
    return [row for part in rows.values() for row in part[:per_corpus]]


def answer(row: dict[str, Any], accuracy: float, draw: random.Random) -> str:
    """What a model that is right with some probability might write; one in ten breaks the rule."""
    labels = row["extra_info"]["labels"]
    gold = heaviest(ground_truth(row), labels)
    first = gold if draw.random() < accuracy else draw.choice(labels)
    second = draw.choice([label for label in labels if label != first])
    weight = draw.choice((0.6, 0.8, 0.9))
    said = {
        "last_emotions": {first: weight, second: round(1 - weight, 1)},
        "my_emotions": {draw.choice(labels): 1.0},
        "my_output": draw.choice(REPLIES),
    }
    if draw.random() < 0.1:
        return f"no dictionary, {first} " + "x" * 120
    return f"<think>{first} it is</think>\n{json.dumps(said, ensure_ascii=False)}"


def rollouts_of_step(
    rows: list[dict[str, Any]], step: int, steps: int, accuracy: float, draw: random.Random, n: int = 4
) -> list[dict[str, Any]]:
    """The trainer's records of one step."""
    records = []
    for row in rows:
        info = row["extra_info"]
        texts = [answer(row, accuracy, draw) for _ in range(n)]
        scored = [compute_score(row["data_source"], text, ground_truth(row), info) for text in texts]
        r2 = secondary_rewards([json.loads(s["parsed"])["last_emotions"] for s in scored], info["labels"])
        for i, (text, found) in enumerate(zip(texts, scored, strict=True)):
            records.append(
                {
                    "uid": f"{step}-{info['row_id']}", "row_id": info["row_id"], "rollout_index": i,
                    "data_source": row["data_source"], "labels": list(info["labels"]), "response": text,
                    **found, "r2": r2[i], "lam": progress(step, steps), "step": step,
                }
            )  # fmt: skip
    advantages = self_grpo_advantages(
        [r["score"] for r in records],
        [r["r2"] for r in records],
        [r["uid"] for r in records],
        progress(step, steps),
    )
    return [r | {"advantage": float(a)} for r, a in zip(records, advantages, strict=True)]


def make_run(folder: Path, seed: int = 1, test_accuracy: tuple[float, ...] = (0.5, 0.6, 0.7)) -> Path:
    """Write a run of two iterations; ``test_accuracy`` is that of the three checkpoints on the test rows."""
    draw = random.Random(seed)
    (folder / "data").mkdir(parents=True)
    versions.record(folder)
    (folder / "config.yaml").write_text(CONFIG % seed)
    train, test = prompts("train", 8), prompts("test", 12)
    write_rows(train, folder / "data/train.parquet")
    write_rows(test, folder / "data/test.parquet")
    (folder / "data/leakage.json").write_text("[]")
    state = {"data": 1.0}
    buffer = [row | {"response": answer(row, 0.5, draw)} for row in train]
    write_rows(buffer, folder / "iter_0/buffer/buffer.parquet")
    for k in (1, 2):
        rl, steps = folder / f"iter_{k}/rl", 6
        write_rows((row | {"response": None, "response_from": None} for row in buffer), rl / "train.parquet")
        (rl / "rollouts").mkdir()
        recorded, metrics = [], []
        for step in range(1, steps + 1):
            batch = [buffer[(step * 4 + i) % len(train)] for i in range(4)]
            batch += [row for row in buffer if is_self_labelled(row)][2 * step : 2 * step + 2]
            found = rollouts_of_step(batch, step, steps, 0.4 + 0.05 * step, draw)
            pq.write_table(pa.Table.from_pylist(found), rl / f"rollouts/step_{step:06d}.parquet")
            recorded += found
            data = {"self_emo/reward": sum(r["score"] for r in found) / len(found)}
            data |= {"self_emo/lambda": step / steps, "timing_s/step": 5.0, "timing_s/gen": 2.0}
            data |= {"val-core/meld/acc/mean@1": 0.4 + 0.01 * step} if step % 2 else {}
            metrics.append({"step": step, "data": data})
        (rl / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metrics))
        best, by_id = best_rollouts(recorded, 0.1), {row["extra_info"]["row_id"]: row for row in buffer}
        made = [self_play_row(by_id[i], r, TEMPLATES, iteration=k, model="abc") for i, r in best.items()]
        buffer, *_ = grow(
            buffer, best, [row for row in made if row], iteration=k, model="abc", min_reward=0.1,
            same_reply=1.0, mix={"original": 100, "self_play": 100}, seed=seed,
        )  # fmt: skip
        write_rows(buffer, folder / f"iter_{k}/buffer/buffer.parquet")
        state |= {f"iter_{k}/rl": 60.0, f"iter_{k}/buffer": 1.0}
    answers = {name: baseline(train, test) for name, baseline in BASELINES.items()}
    for stage, accuracy in zip(("cold", "rl", "retrained"), test_accuracy, strict=True):
        answers[stage] = {row["extra_info"]["row_id"]: answer(row, accuracy, draw) for row in test}
    for stage, texts in answers.items():
        # A text is itself a sequence: each must be in a list of its own, or its letters vote.
        records = score_answers(test, {row_id: [text] for row_id, text in texts.items()})
        out = folder / f"eval/{stage}"
        out.mkdir(parents=True)
        write_predictions(test, records, out / "predictions")
        (out / "records.json").write_text(json.dumps(records))
        (out / "summary.json").write_text(json.dumps(summarise(records)))
        if stage not in BASELINES:
            known = score_answers(train, {r["extra_info"]["row_id"]: [answer(r, 0.9, draw)] for r in train})
            (out / "records_train.json").write_text(json.dumps(known))
            (out / "summary_train.json").write_text(json.dumps(summarise(known)))
    steps = {name: {"seconds": seconds, "finished": 0.0} for name, seconds in state.items()}
    (folder / "state.json").write_text(json.dumps({"steps": steps}))
    return folder


def without_a_model(monkeypatch: Any) -> None:
    """Clusters without `.venv-analysis`: by the letters "a" in a sentence, whose vector counts its vowels."""
    monkeypatch.setattr(
        clusters, "embed", lambda texts: np.array([[t.count(c) for c in "aeiou"] for t in texts])
    )
    monkeypatch.setattr(clusters, "group", lambda vectors, size: [int(v[0] > v[0].mean()) for v in vectors])
