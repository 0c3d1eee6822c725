"""B_0: the original rows, some of them with an expert's response (Algorithm 1, line 1; D_0 of line 3).

Reads: ``data/train.parquet``. Leaves: ``iter_0/buffer/buffer.parquet``, the record of both draws, and what
the experts answered and how much of it broke the rule.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data_prep.experts.cold_start import ask_responses
from data_prep.experts.offline import NAME as OFFLINE
from data_prep.experts.offline import respond_to
from data_prep.files import cache_dir, write_json
from data_prep.rows import read_rows, write_rows
from recipe.buffer import scored
from recipe.draws import draw_mix, draw_record, draw_stratified
from recipe.models.self_expert import is_self
from recipe.run.experts import asked
from recipe.run.run import Run


def fill(run: Run, work: Path) -> None:
    """Draw the original rows and give some of them an expert's response.

    Raises:
        ExpertError: the experts cannot be asked, or nothing of what they say can be used.
    """
    flywheel, seed = run.config.flywheel, run.config.run.seed
    everything = read_rows(run.folder / "data/train.parquet")
    rows = draw_mix(everything, flywheel.mix, seed)
    drawn = [rows[i] for i in draw_stratified(rows, flywheel.cold_start_rows, seed)]
    draws = {
        "mix": draw_record(everything, rows, flywheel.mix, seed),
        "cold_start": draw_record(rows, drawn, flywheel.cold_start_rows, seed),
    }
    write_json(work / "draw.json", draws)
    with asked(run, work) as experts:
        if experts:
            worked = is_self(run.config)
            if worked:  # what is longer than a rollout may be teaches nothing
                longest = run.config.data.max_response_length
                limits = {n: min(getattr(experts, n), longest) for n in ("max_tokens", "max_tokens_cap")}
                experts = replace(experts, **limits)
            responses, answers = ask_responses(drawn, experts, cache_dir() / "experts", worked)
            answers.write(work / "responses", {row_id: text for row_id, (_, text) in responses.items()})
            print(answers.summary("responses"), flush=True)
    if not experts:
        responses = {row["extra_info"]["row_id"]: (OFFLINE, respond_to(row)) for row in drawn}
    for row in drawn:
        if found := responses.get(row["extra_info"]["row_id"]):
            reward = scored(row, [found[1]])[0]["score"]  # by the same rule and reward as every rollout
            row["response_from"] = {"source": found[0], "iteration": 0, "reward": reward}
            row["response"] = found[1]
    write_rows(rows, work / "buffer.parquet")
    answered = sum(row["response"] is not None for row in rows)
    least, batch = flywheel.min_reward, run.config.sft.data.train_batch_size
    good = sum(row["response"] is not None and row["response_from"]["reward"] > least for row in rows)
    counts = {"rows": len(rows), "with_response": answered, "above_min_reward": good}
    if good < batch:
        print(
            f"  only {good:,} of D_0's responses have a reward above flywheel.min_reward={least:g}: unless "
            f"RL finds better ones, B will not fill sft.data.train_batch_size={batch} when the model is "
            "retrained. Name a better expert, raise flywheel.cold_start_rows, or lower one of the two",
            flush=True,
        )
    if experts:  # what kept the rule is kept
        print(
            f"  {answered:,} of {len(drawn):,} responses kept the rule ({answered / len(drawn):.0%})",
            flush=True,
        )
    write_json(work / "counts.json", counts)
