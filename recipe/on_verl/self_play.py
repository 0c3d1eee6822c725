"""The self-play stage: `recipe.turns.play` with the policy behind vLLM, turn by turn onto the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from data_prep.files import sync, write_json
from data_prep.prompt import load_templates
from data_prep.rows import read_rows, write_records, write_rows
from recipe.buffer import best_rollouts, scored, self_play_row
from recipe.draws import draw_stratified
from recipe.evaluation import entropy
from recipe.evaluation.engines import Sampling
from recipe.evaluation.generate import answering
from recipe.models.fit_prompts import fit_rows
from recipe.turns import play

Row = dict[str, Any]


def play_on(config: Any) -> None:
    """Answer d*_1 and what follows from it, then see how dialogues that B never sees go on.

    Args:
        config: the composed configuration, with ``job`` as `recipe.steps.self_play` fills it.
    """
    job, work = config.job, Path(config.job.work)
    rollout = config.actor_rollout_ref.rollout
    sampling = Sampling(rollout.n, rollout.temperature, rollout.top_p)
    with answering(config, job.policy, sampling) as answer:

        def ask(rows: Sequence[Row]) -> Mapping[str, Sequence[str]]:
            return {row_id: texts for part in answer(rows) for row_id, texts in part.items()}

        _go_on(config, work, ask)
        if job.held_out:
            found, rows, texts = _held_out(config, read_rows(job.held_out), ask)
    if job.held_out:
        asked = [rows[i] for i in draw_stratified(rows, config.evaluate.entropy_rows or 0, config.run.seed)]
        options = dict(config.data.apply_chat_template_kwargs)
        found["entropy"] = entropy.measure(job.policy, asked, texts, options) if asked else None
        write_json(work / "held_out.json", found)


def _settings(config: Any) -> dict[str, Any]:
    return {
        "iteration": config.job.iteration,
        "model": config.job.digest,
        "turns": config.flywheel.turns,
        "min_reward": config.flywheel.min_reward,
        "min_named_weight": config.self_emo.min_named_weight,
    }


def _go_on(config: Any, work: Path, ask: Any) -> None:
    """Every turn answers the prompts that the one before left on the disk, cut to fit, in this attempt or an
    earlier one: turns that are there are not played again."""
    templates, settings = load_templates(config.prompts.dir), _settings(config)
    for number in range(1, settings.pop("turns") + 1):
        asked = work / f"asked_{number}.parquet"
        if (work / f"played_{number}.parquet").exists() or not asked.exists():
            continue
        for turn in play(read_rows(asked), ask, templates, first=number, turns=number, **settings):
            write_records(turn.samples, work / f"samples_{number}.parquet")
            following, _ = fit_rows(turn.following, config.job.tokenizer, config, templates)
            write_rows(following, work / f"asked_{number + 1}.parquet")
            passed = sum(row["response"] is not None for row in turn.rows)
            data = {"self_play/rows": len(turn.rows), "self_play/passed": passed / len(turn.rows)}
            data["self_emo/reward"] = fmean(sample["score"] for sample in turn.samples)
            metrics = work / "metrics.part.jsonl"
            with metrics.open("a") as file:
                file.write(json.dumps({"step": number, "data": data}) + "\n")
            sync(metrics)
            # Last: a turn that is there is not played again, and its metrics could not be made again.
            write_rows(turn.rows, work / f"played_{number}.parquet")


def _held_out(
    config: Any, rows: Sequence[Row], ask: Any
) -> tuple[dict[str, Any], list[Row], dict[str, Sequence[str]]]:
    """SELF-EMO's own test split (Fig. 5b): mean IoU on gold rows of held-out dialogues and on sequels.

    Returns:
        The measures, and the sequels with the answers that were given to them.
    """
    templates, settings = load_templates(config.prompts.dir), _settings(config)
    gold, _ = fit_rows(rows, config.job.tokenizer, config, templates)
    texts, samples, first = ask(gold), [], []
    for row in gold:
        group = scored(row, texts[row["extra_info"]["row_id"]], settings["min_named_weight"])
        samples += group
        best = best_rollouts(group, settings["min_reward"]).get(row["extra_info"]["row_id"])
        if best is None:
            continue
        new = self_play_row(row, best, templates, iteration=settings["iteration"], model=settings["model"])
        first += [new] if new else []
    found: dict[str, Any] = {"gold": _measures(samples)}
    answered: dict[str, Sequence[str]] = {}

    def remembered(rows: Sequence[Row]) -> Mapping[str, Sequence[str]]:
        fitted, _ = fit_rows(rows, config.job.tokenizer, config, templates)
        answered.update(ask(fitted))
        return answered

    turns = list(play(first, remembered, templates, **settings))
    found |= {f"turn_{turn.number}": _measures(turn.samples) for turn in turns}
    return found, [row for turn in turns for row in turn.rows], answered


def _measures(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of all answers: their number, mean IoU in [0, 1], share that keeps the rule."""
    return {
        "n": len(samples),
        "iou": fmean(s["iou"] for s in samples) if samples else None,
        "valid": fmean(s["valid"] for s in samples) if samples else None,
    }
