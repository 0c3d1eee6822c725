"""`make ablate`: what each setting changes, what is run, and the table in the paper's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipe.ablate import commands, overrides_of, table
from tests.unit.composed import composed


def test_what_an_ablation_changes():
    assert overrides_of(None) == []
    assert overrides_of("ablation_grpo") == ["algorithm.adv_estimator=grpo"]
    assert overrides_of("ablation_cold") == ["flywheel.cold_start_rows=5000"]
    assert overrides_of("ablation_original_only") == [
        "algorithm.adv_estimator=grpo",
        "flywheel.turns=0",
        "flywheel.mix.original=100000",
        "flywheel.mix.self_play=0",
    ]


def test_every_setting_is_run_for_every_seed():
    name, planned = commands(["MODEL=tiny", "SEEDS=3,5", "test_rows=8"], Path("/r"))
    assert name == "ablation" and list(planned)[:4] == [
        ("full", 3), ("cold", 3), ("grpo", 3), ("original", 3),
    ]  # fmt: skip
    assert len(planned) == 8
    assert planned["grpo", 5] == [
        "NAME=ablation-grpo-s5", "MODEL=tiny", "test_rows=8", "algorithm.adv_estimator=grpo", "run.seed=5",
        'run.reuse=["/r/ablation-full-s5", "/r/ablation-cold-s5"]',
    ]  # fmt: skip
    assert not any("run.reuse" in argument for argument in planned["full", 5])
    with pytest.raises(ValueError, match="SEEDS=a,b"):
        commands(["SEEDS=a,b"], Path("/r"))
    with pytest.raises(ValueError, match="--cfg: make ablate takes settings alone"):
        commands(["SEEDS=1", "--cfg", "job"], Path("/r"))


def test_an_ablation_lies_over_any_experiment():
    _, planned = commands([], Path("/r"))
    overrides = [a for a in planned["original", 1] if not a.startswith("NAME=")]
    config = composed("hardware=cpu", "experiment=smoke", *overrides)
    assert config.algorithm.adv_estimator == "grpo" and config.flywheel.mix.self_play == 0
    assert config.flywheel.turns == 0 and list(config.evaluate.stages) == ["cold", "rl", "retrained"]


def summary(accuracy: float) -> dict:
    row = {"n": 2, "reasons": {}, "ece": None} | {
        m: accuracy for m in ("accuracy", "weighted_f1", "macro_f1", "valid", "reward", "iou")
    }
    return {"meld": row, "avg": row}


def test_the_table():
    full = [
        {
            stage: summary(a + i / 10)
            for stage, a in (("base", 0.1), ("cold", 0.2), ("rl_1", 0.3), ("retrained_1", 0.4))
        }
        for i in range(3)
    ]
    text = table({"full": full, "original": [{"cold": summary(0.2), "rl_1": summary(0.25)}]})
    lines = text.splitlines()
    assert lines[0] == (
        "| setting | checkpoint | seeds | meld acc / wF1 | avg acc | avg wF1 | paper's avg acc (Qwen3-4B) |"
    )
    # By hand: 0.4, 0.5 and 0.6 have mean 0.5 and standard deviation 0.1.
    numbers = "50.00 ± 10.00 / 50.00 ± 10.00 | 50.00 ± 10.00 | 50.00 ± 10.00 | 59.29 |"
    assert f"| SELF-EMO (full) | retrained on B 1 | 3 | {numbers}" in lines
    assert any(line.startswith("| SELF-EMO (full) | base model | 3 |") and "52.96" in line for line in lines)
    assert "| w/o SELF-EMO | after RL 1 | 1 | 25.00 / 25.00 | 25.00 | 25.00 | 54.11 |" in lines
    assert not any("w/o SELF-EMO | after cold start" in line for line in lines)  # the full run's
    assert not any("w/o SELF-GRPO" in line for line in lines)
    assert "not measured here" in lines[-1]
