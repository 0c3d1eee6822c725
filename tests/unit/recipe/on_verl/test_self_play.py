"""Every turn of self-play asks prompts that fit, whether the stage was stopped on the way or not."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from omegaconf import OmegaConf

from data_prep.rows import read_rows, write_rows
from recipe.on_verl import self_play
from tests.unit.recipe.test_turns import answer, first_of


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Plays three turns; gives the prompts that were asked in each."""
    asked: list[list[str]] = []

    @contextmanager
    def answering(config, checkpoint, sampling):
        def batches(rows):
            asked.append([row["prompt"][-1]["content"] for row in rows])
            yield {r["extra_info"]["row_id"]: [answer("joy", "joy", f"Yes {len(asked)}.")] for r in rows}

        yield batches

    def fit_rows(rows, *_):
        last = [{**row["prompt"][-1], "content": row["prompt"][-1]["content"][-40:]} for row in rows]
        return [{**row, "prompt": [one]} for row, one in zip(rows, last, strict=True)], 0

    monkeypatch.setattr(self_play, "answering", answering)
    monkeypatch.setattr(self_play, "fit_rows", fit_rows)
    job = {"work": str(tmp_path), "policy": "p", "digest": "d", "iteration": 1, "held_out": None}
    job["tokenizer"] = "t"
    rollout = {"n": 1, "temperature": 1.0, "top_p": 1.0}
    config = OmegaConf.create(
        {"job": job, "actor_rollout_ref": {"rollout": rollout}, "prompts": {"dir": "compact"},
         "flywheel": {"turns": 3, "min_reward": 0.1}, "self_emo": {"min_named_weight": 0.05}}
    )  # fmt: skip

    def run() -> list[list[str]]:
        asked.clear()
        self_play.play_on(config)
        return [list(part) for part in asked]

    return run


def test_every_turn_asks_prompts_that_fit(play, tmp_path, make_prompt_row):
    row = first_of(make_prompt_row())
    row["prompt"] = [{"role": "user", "content": "short"}]
    write_rows([row], tmp_path / "asked_1.parquet")
    prompts = play()
    assert len(prompts) == 3 and all(len(text) <= 40 for part in prompts for text in part)
    played = {turn: read_rows(tmp_path / f"played_{turn}.parquet") for turn in (1, 2, 3)}
    for turn in (2, 3):  # stopped after the first turn
        (tmp_path / f"played_{turn}.parquet").unlink()
    assert len(play()) == 2
    assert read_rows(tmp_path / "played_2.parquet")[0]["prompt"] == played[2][0]["prompt"]
    assert (tmp_path / "samples_3.parquet").exists() and play() == []
