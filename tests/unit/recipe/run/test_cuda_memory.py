"""A stage that ran out of GPU memory: tried once with half the tokens, then told what would fit."""

from __future__ import annotations

import pytest

from recipe.run.cuda_memory import halved, with_less_memory
from recipe.run.process import StageError
from tests.unit.composed import composed

MOVED = (
    "AssertionError: Error in memory profiling. Initial free memory 99.34 GiB, current free memory 114.74 "
    "GiB. This happens when other processes sharing the same container release GPU memory"
)
OUT = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.64 GiB."


@pytest.fixture(scope="module")
def paper():
    return composed("model=qwen3-8b", "experiment=paper", "hardware=8gpu")


class Stage:
    """An attempt leaves its words in the log, and fails unless they are none."""

    def __init__(self, log, *said: str):
        self.log, self.said, self.tokens = log, list(said), []

    def __call__(self, config):
        self.tokens.append(config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu)
        said = self.said.pop(0)
        with self.log.open("a") as log:
            log.write(f"{said}\n")
        if said:
            raise StageError("it ended with status 1")


def test_half_the_tokens_but_never_less_than_a_row(paper, tmp_path, capsys):
    stage = Stage(tmp_path / "log.txt", OUT, "")
    with_less_memory(stage, "rl", paper, tmp_path / "log.txt")
    assert stage.tokens == [16384, 12288]
    assert (
        "trying once more with actor_rollout_ref.actor.ppo_max_token_len_per_gpu=12288"
        in capsys.readouterr().out
    )
    changed = paper.copy()
    changed.actor_rollout_ref.actor.ppo_max_token_len_per_gpu = 65536
    smaller, setting = halved("rl", changed)
    assert setting.endswith("=32768") and changed.actor_rollout_ref.actor.ppo_max_token_len_per_gpu == 65536
    # What log-probabilities are computed in follows it.
    assert smaller.actor_rollout_ref.ref.log_prob_max_token_len_per_gpu == 32768


def test_a_second_time_is_told_with_what_would_fit(paper, tmp_path):
    log = tmp_path / "log.txt"
    with pytest.raises(StageError, match=r"rl ran out of GPU memory; .* ARGS=\"actor\S+.*log.txt") as caught:
        with_less_memory(Stage(log, OUT, OUT), "rl", paper, log)
    assert len(str(caught.value).splitlines()) == 1


def test_rows_that_fill_a_micro_batch_are_not_halved(paper, tmp_path):
    stage = Stage(tmp_path / "log.txt", OUT)
    with pytest.raises(StageError, match="stage sft ran out of GPU memory"):
        with_less_memory(stage, "sft", paper, tmp_path / "log.txt")
    assert len(stage.tokens) == 1


def test_other_failures_and_those_of_an_earlier_attempt_are_left_alone(paper, tmp_path):
    (tmp_path / "log.txt").write_text(OUT)
    stage = Stage(tmp_path / "log.txt", "ValueError: something else")
    with pytest.raises(StageError, match="ended with status 1"):
        with_less_memory(stage, "rl", paper, tmp_path / "log.txt")
    assert len(stage.tokens) == 1


def test_memory_that_another_process_frees_while_vllm_measures_it_is_tried_once_more(paper, tmp_path, capsys):
    log = tmp_path / "log.txt"
    stage = Stage(log, MOVED, "")
    with_less_memory(stage, "rl", paper, log)
    assert stage.tokens == [16384, 16384]
    assert "another process freed GPU memory" in capsys.readouterr().out
    with pytest.raises(StageError, match="ended with status 1"):
        with_less_memory(Stage(log, MOVED, MOVED), "rl", paper, log)
