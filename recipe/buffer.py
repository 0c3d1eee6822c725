"""The replay buffer B and the selection of the best rollouts into it (Algorithm 1, Eq. 7).

B is a Parquet file of prompts. A row has two faces: the prompt with its label, which RL draws, and,
where one is known, the best response, which the retraining learns from.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.prompt import PromptTemplates, render
from data_prep.rows import gold_label, make_row
from rewards.iou import normalise


def read_rollouts(folder: str | Path) -> list[dict[str, Any]]:
    """All rollouts that an RL stage recorded, in step order."""
    return [
        row for path in sorted(Path(folder).glob("step_*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def best_rollouts(rollouts: Iterable[Mapping[str, Any]], min_reward: float) -> dict[str, Mapping[str, Any]]:
    """The best rollout of every prompt: largest r, then larger r2, then later step, then smaller index.

    Args:
        rollouts: records of the trainer, with row_id, score, r2, step and rollout_index.
        min_reward: only rollouts with a reward above this count.

    Returns:
        row_id -> rollout; prompts without a good one are left out.
    """
    best: dict[str, Mapping[str, Any]] = {}

    def rank(rollout: Mapping[str, Any]) -> tuple[float, float, int, int]:
        return rollout["score"], rollout["r2"], rollout["step"], -rollout["rollout_index"]

    for rollout in rollouts:
        if rollout["score"] > min_reward:
            known = best.get(rollout["row_id"])
            if known is None or rank(rollout) > rank(known):
                best[rollout["row_id"]] = rollout
    return best


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
    row: Mapping[str, Any], rollout: Mapping[str, Any], templates: PromptTemplates, iteration: int, model: str
) -> dict[str, Any] | None:
    """d* = (C_new, Label_new): the dialogue goes on with the rollout's reply (Eq. 7).

    Returns:
        The new row with its lineage; None if nobody is there to recognise the reply.
    """
    info, parsed = row["extra_info"], json.loads(rollout["parsed"])
    responder = info["persona"]["name"]
    context = [*info["context"], {"speaker": responder, "text": " ".join(parsed["my_output"].split())}]
    persona = next_recogniser(info["context"], responder, info["personas"])
    if persona is None:
        return None
    label, theme = normalise(parsed["my_emotions"]), info.get("theme") or ""
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
            "parent": info["row_id"],
            "rollout_index": rollout["rollout_index"],
            "step": rollout["step"],
            "reward": rollout["score"],
            "r2": rollout["r2"],
            "model": model,
        },
    )


def content_hash(corpus: str, context: Sequence[Mapping[str, str]], persona: Mapping[str, str]) -> str:
    """What makes two prompts the same: corpus, dialogue so far and who is played."""
    turns = [[turn["speaker"], turn["text"]] for turn in context]
    return hashlib.sha256(json.dumps([corpus, turns, persona["name"]]).encode()).hexdigest()[:16]


def grow(
    buffer: Sequence[dict[str, Any]],
    rollouts: Iterable[Mapping[str, Any]],
    templates: PromptTemplates,
    *,
    iteration: int,
    model: str,
    min_reward: float,
    mix: Mapping[str, int],
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, int], dict[str, Any]]:
    """B after an iteration: best responses on the prompts that have one, and the new prompts d*.

    Args:
        buffer: B so far.
        rollouts: what the RL stage recorded.
        mix: at most so many ``original`` and ``self_play`` rows (Table 2).

    Returns:
        The new buffer, what happened, counted, and the record of the draw (`draw_record`).

    Raises:
        ValueError: a rollout belongs to no prompt of the buffer.
    """
    best = best_rollouts(rollouts, min_reward)
    by_id = {row["extra_info"]["row_id"]: row for row in buffer}
    if strangers := best.keys() - by_id.keys():
        raise ValueError(f"rollouts of {len(strangers)} prompts that are not in the buffer: {min(strangers)}")
    grown = [
        _with_response(row, best[row_id], iteration, model) if row_id in best else row
        for row_id, row in by_id.items()
    ]
    seen = {_content(row) for row in buffer}
    counts: Counter[str] = Counter(prompts=len(buffer), best_responses=len(best))
    for row_id, rollout in best.items():
        row = self_play_row(by_id[row_id], rollout, templates, iteration, model)
        if row is None:
            counts["nobody_to_recognise"] += 1
        elif _content(row) in seen:
            counts["duplicates"] += 1
        else:
            seen.add(_content(row))
            grown.append(row)
            counts["self_play_added"] += 1
    kept = draw_mix(grown, mix, seed)
    counts.update(dropped_by_mix=len(grown) - len(kept), rows=len(kept))
    return kept, dict(counts), draw_record(grown, kept, mix, seed)


def _with_response(
    row: dict[str, Any], rollout: Mapping[str, Any], iteration: int, model: str
) -> dict[str, Any]:
    fields = ("step", "rollout_index", "r2")
    source = {"source": "rollout", "iteration": iteration, "model": model, "reward": rollout["score"]}
    return {
        **row,
        "response": rollout["response"],
        "response_from": source | {name: rollout[name] for name in fields},
    }


def draw_mix(rows: Sequence[dict[str, Any]], mix: Mapping[str, int], seed: int) -> list[dict[str, Any]]:
    """At most ``mix[origin]`` rows of each origin, drawn with a seed, order kept."""
    kept: set[int] = set()
    for origin, most in mix.items():
        places = [i for i, row in enumerate(rows) if row["extra_info"]["origin"] == origin]
        kept.update(draw_stratified([rows[i] for i in places], most, seed, places))
    return [row for i, row in enumerate(rows) if i in kept]


def draw_record(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    limit: Mapping[str, int] | int | None,
    seed: int,
) -> dict[str, Any]:
    """What a draw took, so that it can be checked and made again.

    Args:
        before: the rows that it drew from.
        after: the rows that it took.
        limit: how many it was allowed to take, as configured.
        seed: of the draw.

    Returns:
        ``limit``, ``seed``, the counts ``before`` and ``after`` by origin, corpus and heaviest label, and
        the ``row_ids`` taken, in order.
    """

    def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, int]]]:
        table: dict[str, dict[str, dict[str, int]]] = {}
        for (origin, corpus, label), count in sorted(Counter(map(_stratum, rows)).items()):
            table.setdefault(origin, {}).setdefault(corpus, {})[label] = count
        return table

    ids = [row["extra_info"]["row_id"] for row in after]
    limit = dict(limit) if isinstance(limit, Mapping) else limit
    return {"limit": limit, "seed": seed, "before": counts(before), "after": counts(after), "row_ids": ids}


def _stratum(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["extra_info"]["origin"], row["data_source"], gold_label(row)


def draw_stratified(
    rows: Sequence[Mapping[str, Any]], most: int | None, seed: int, places: Sequence[int] | None = None
) -> list[int]:
    """Places of at most ``most`` rows, every corpus and label keeping its share (largest remainders).

    Args:
        places: what to return for each row; default its index.
    """
    places = list(range(len(rows))) if places is None else list(places)
    if most is None or len(rows) <= most:
        return places
    strata: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, row in zip(places, rows, strict=True):
        strata[row["data_source"], gold_label(row)].append(place)
    quotas = {key: most * len(members) / len(rows) for key, members in strata.items()}
    share = {key: int(quota) for key, quota in quotas.items()}
    for key in sorted(quotas, key=lambda k: share[k] - quotas[k])[: most - sum(share.values())]:
        share[key] += 1
    draw = random.Random(seed)
    return sorted(place for key, members in strata.items() for place in draw.sample(members, share[key]))


def _content(row: Mapping[str, Any]) -> str:
    info = row["extra_info"]
    return content_hash(row["data_source"], info["context"], info["persona"])
