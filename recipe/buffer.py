"""The replay buffer B and the selection of the best rollouts into it (Algorithm 1, Eq. 7).

B is a Parquet file of prompts. A row has two faces: the prompt with its label, which RL draws, and,
where one is known, the best response, which the retraining learns from.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from advantage.self_grpo import secondary_rewards
from data_prep.prompt import PromptTemplates, render
from data_prep.rows import ground_truth, make_row
from recipe.draws import at_most_alike, draw_mix, draw_record
from rewards.iou import compute_score, label_from_feelings
from rewards.parse import spoken


def read_rollouts(folder: str | Path) -> Iterator[dict[str, Any]]:
    """All rollouts that an RL stage recorded, in step order; one step is held at a time."""
    for path in sorted(Path(folder).glob("step_*.parquet")):
        yield from pq.read_table(path).to_pylist()


def best_rollouts(rollouts: Iterable[Mapping[str, Any]], min_reward: float) -> dict[str, Mapping[str, Any]]:
    """The best rollout of every prompt: largest r, then larger r2, then later step, then smaller index.

    Args:
        rollouts: records of the trainer, with row_id, score, r2, step and rollout_index.
        min_reward: only rollouts with a reward above this count.

    Returns:
        row_id -> rollout; prompts without a good one are left out.
    """
    best: dict[str, Mapping[str, Any]] = {}
    for rollout in rollouts:
        if rollout["score"] > min_reward:
            known = best.get(rollout["row_id"])
            if known is None or _rank(rollout) > _rank(known):
                best[rollout["row_id"]] = rollout
    return best


def _rank(rollout: Mapping[str, Any]) -> tuple[float, float, int, int]:
    return rollout["score"], rollout["r2"], rollout["step"], -rollout["rollout_index"]


def next_recogniser(
    context: Sequence[Mapping[str, str]], responder: str, personas: Sequence[Mapping[str, str]]
) -> Mapping[str, str] | None:
    """Who recognises the responder's reply: the last other speaker, else any other persona."""
    by_name = {persona["name"]: persona for persona in personas}
    for turn in reversed(context):
        if turn["speaker"] != responder:
            return by_name.get(turn["speaker"], {"name": turn["speaker"], "profile": "A participant."})
    return next((p for p in personas if p["name"] != responder), None)


def self_play_row(
    row: Mapping[str, Any],
    rollout: Mapping[str, Any],
    templates: PromptTemplates,
    *,
    iteration: int,
    model: str,
    turn: int = 1,
) -> dict[str, Any] | None:
    """d*_turn = (C_new, Label_new): the dialogue goes on with the rollout's reply (Eq. 7).

    Args:
        row: the prompt that was answered.
        rollout: its chosen answer: ``parsed``, ``rollout_index``, ``score``, ``r2``, and ``step`` if any.
        templates: to render the new prompt.
        iteration: of the flywheel.
        model: the policy's `recipe.models.weights.digest`.
        turn: how many replies of this iteration's self-play the new dialogue ends with.

    Returns:
        The new row with its lineage; None if nobody is there to recognise the reply, or the feelings that
        the rollout names are none of the corpus's labels.
    """
    info, parsed = row["extra_info"], json.loads(rollout["parsed"])
    responder = info["persona"]["name"]
    context = [*info["context"], {"speaker": responder, "text": spoken(parsed["my_output"])}]
    persona = next_recogniser(info["context"], responder, info["personas"])
    label = label_from_feelings(parsed["my_emotions"], info["labels"])
    if persona is None or not label:
        return None
    theme = info.get("theme") or ""
    return make_row(
        corpus=row["data_source"],
        prompt=render(context, persona, info["labels"], templates, theme),
        ground_truth=label,
        row_id=f"{row['data_source']}:self:{content_hash(row['data_source'], context, persona)}",
        split=info["split"],
        dialogue_id=info["dialogue_id"],
        utterance_id=f"{info['utterance_id']}+",
        context=context,
        persona=persona,
        personas=info["personas"],
        labels=info["labels"],
        theme=theme,
        lineage={
            "origin": "self_play",
            "iteration": iteration,
            "turn": turn,
            "parent": info["row_id"],
            "rollout_index": rollout["rollout_index"],
            "step": rollout.get("step"),
            "reward": rollout["score"],
            "r2": rollout["r2"],
            "model": model,
        },
    )


def scored(
    row: Mapping[str, Any], texts: Sequence[str], min_named_weight: float = 0.0
) -> list[dict[str, Any]]:
    """Answers to one prompt as the trainer records rollouts: each with its reward (Eq. 8) and r2 (Eq. 12).

    Args:
        row: the prompt with its label.
        texts: the group.
        min_named_weight: as for `secondary_rewards`.
    """
    info, label = row["extra_info"], ground_truth(row)
    found = [compute_score(row["data_source"], text, label, info) for text in texts]
    predictions = [json.loads(one["parsed"])["last_emotions"] for one in found]
    secondary = secondary_rewards(predictions, info["labels"], min_named_weight)
    return [
        {"row_id": info["row_id"], "rollout_index": i, "step": None, "response": text, "r2": r2, **one}
        for i, (text, one, r2) in enumerate(zip(texts, found, secondary, strict=True))
    ]


def content_hash(corpus: str, context: Sequence[Mapping[str, str]], persona: Mapping[str, str]) -> str:
    """What makes two prompts the same: corpus, dialogue so far and who is played."""
    turns = [[turn["speaker"], turn["text"]] for turn in context]
    return hashlib.sha256(json.dumps([corpus, turns, persona["name"]]).encode()).hexdigest()[:16]


def grow(
    buffer: Sequence[dict[str, Any]],
    best: Mapping[str, Mapping[str, Any]],
    played: Iterable[dict[str, Any]],
    *,
    iteration: int,
    model: str,
    min_reward: float,
    same_reply: float,
    mix: Mapping[str, int | None],
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, int], dict[str, Any]]:
    """B after an iteration: the best response ever seen for every prompt, and the rows of self-play.

    Args:
        buffer: B so far.
        best: row_id -> y* of this iteration (`best_rollouts`).
        played: self-play rows d* of this iteration, some with a response.
        iteration: its number.
        model: the policy's digest.
        min_reward: a response must earn more than this, an expert's and an older one, too.
        same_reply: largest share of the self-play rows that one and the same reply may make.
        mix: at most so many ``original`` and ``self_play`` rows (Table 2).
        seed: of the draws.

    Returns:
        The new buffer, what happened, counted, and the record of the draw (`recipe.draws.draw_record`).

    Raises:
        ValueError: a rollout belongs to no prompt of the buffer.
    """
    by_id = {row["extra_info"]["row_id"]: row for row in buffer}
    if strangers := best.keys() - by_id.keys():
        raise ValueError(f"rollouts of {len(strangers)} prompts that are not in the buffer: {min(strangers)}")
    grown, seen = [], {_content(row) for row in buffer}
    counts: Counter[str] = Counter(prompts=len(buffer), best_responses=len(best))
    for row_id, row in by_id.items():
        found = _better_response(row, best.get(row_id), iteration, model, min_reward)
        counts["responses_replaced"] += found["response"] not in (None, row["response"])
        counts["responses_withdrawn"] += row["response"] is not None and found["response"] is None
        grown.append(found)
    for row in played:
        if _content(row) in seen:
            counts["duplicates"] += 1
            continue
        seen.add(_content(row))
        grown.append(row)
        counts["self_play_added"] += 1
    places = [i for i, row in enumerate(grown) if row["extra_info"]["origin"] == "self_play"]
    left = {places[i] for i in at_most_alike([grown[i] for i in places], same_reply, seed)}
    varied = [row for i, row in enumerate(grown) if row["extra_info"]["origin"] != "self_play" or i in left]
    kept = draw_mix(varied, mix, seed)
    counts.update(
        dropped_as_same_reply=len(grown) - len(varied),
        dropped_by_mix=len(varied) - len(kept),
        rows=len(kept),
        with_response=sum(row["response"] is not None for row in kept),
    )
    return kept, dict(counts), draw_record(varied, kept, mix, seed)


def _better_response(
    row: dict[str, Any], rollout: Mapping[str, Any] | None, iteration: int, model: str, min_reward: float
) -> dict[str, Any]:
    """The row with the better of its own response and ``rollout``; with none where neither is good enough."""
    known = row["response_from"] or {}
    reward = known.get("reward")
    if row["response"] is not None and reward is None:  # of a run that was begun before experts were scored
        reward = scored(row, [row["response"]])[0]["score"]
    own = (reward, known.get("r2") or 0.0) if reward is not None and reward > min_reward else None
    if rollout is not None and (own is None or (rollout["score"], rollout["r2"]) >= own):
        return row | {
            "response": rollout["response"],
            "response_from": {
                "source": "rollout",
                "iteration": iteration,
                "model": model,
                "reward": rollout["score"],
                **{name: rollout[name] for name in ("step", "rollout_index", "r2")},
            },
        }
    if own is None:
        return row | {"response": None, "response_from": None}
    return row


def _content(row: Mapping[str, Any]) -> str:
    info = row["extra_info"]
    return content_hash(row["data_source"], info["context"], info["persona"])
