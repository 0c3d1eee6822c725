"""What `make smoke-gpu` reads from a run, and that it needs a GPU."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipe import smoke_gpu
from recipe.run.shortcuts import expand
from tests.unit.composed import composed
from tests.unit.fake_run import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("runs") / "smoke")
    (folder / "iter_1/rl/log.txt").write_text("setting global step to 1\n")
    (folder / "eval/retrained").rename(folder / "eval/retrained_1")
    entry = {"perf/throughput": 1234.5, "timing_s/step": 2.5, "actor/perf/max_memory_reserved_gb": 31.25}
    lines = [{"step": i, "data": entry | {smoke_gpu.AGREEMENT: 0.998}} for i in (1, 2, 3)]
    (folder / "iter_1/rl/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "iter_2/rl/metrics.jsonl").unlink()
    sft = [
        {"step": i, "data": {"train/global_tokens": 500, "perf/max_memory_reserved_gb": i}} for i in (1, 2, 3)
    ]
    for iteration in (0, 1, 2):
        path = folder / f"iter_{iteration}/sft/metrics.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in sft))
        usage = {"seconds": 60.0, "to_first_step": 50.0, "after_last_step": 5.0}
        (path.parent / "usage.json").write_text(json.dumps(usage))
    state = {"steps": {f"iter_{i}/sft": {"seconds": 60.0, "finished": 0.0} for i in (0, 1, 2)}}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def test_without_a_gpu_it_refuses_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr(smoke_gpu.gpu_checks, "probe", smoke_gpu.gpu_checks.Machine)
    assert smoke_gpu.main() == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: make smoke-gpu needs an NVIDIA GPU") and said.err.count("\n") == 1


def test_a_good_run_has_its_table_and_nothing_wrong(run):
    found = smoke_gpu.findings(run)
    assert found["wrong"] == [] and found["advantage_difference"] < 1e-6
    rl = [line["step"] for line in found["steps"] if line["stage"] == "iter_1/rl"]
    assert rl == [1, 2, 3]
    text = smoke_gpu.render(found)
    assert (
        "iter_1/rl              1       1,234       2.5    31.2     0.99800" in text and "WRONG" not in text
    )
    assert "iter_0/sft             3         200      60.0     3.0           –" in text  # 1,000 tokens in 5 s


def test_what_is_wrong_is_named(run, tmp_path):
    path = run / "iter_1/rl/rollouts/step_000002.parquet"
    table, log = pq.read_table(path), run / "iter_1/rl/log.txt"
    rows = table.to_pylist()
    rows[3]["advantage"] += 0.5
    pq.write_table(pa.Table.from_pylist(rows), path)
    log.write_text("")
    try:
        found = smoke_gpu.findings(run)
    finally:
        pq.write_table(table, path)
        log.write_text("setting global step to 1\n")
    assert found["advantage_difference"] == pytest.approx(0.5)
    assert ["differs by 0.5" in found["wrong"][0], "not resumed" in found["wrong"][1]] == [True, True]
    assert "WRONG  an advantage differs" in smoke_gpu.render(found)


def test_a_run_whose_advantages_are_all_zero_has_shown_nothing(run):
    kept = {path: path.read_bytes() for path in run.glob("iter_*/rl/rollouts/step_*.parquet")}
    try:
        for path in kept:
            rows = [
                row | {"advantage": 0.0, "score": 0.0, "r2": 0.0} for row in pq.read_table(path).to_pylist()
            ]
            pq.write_table(pa.Table.from_pylist(rows), path)
        found = smoke_gpu.findings(run)
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    assert found["advantage_difference"] == 0
    assert len(found["wrong"]) == 1 and "every advantage is 0" in found["wrong"][0]


def test_adapters_learn_faster_unless_told_otherwise():
    asked = smoke_gpu.command(["hardware=1gpu_lora", "sft.optim.lr=2e-3"], "smoke")
    config = composed(*expand(asked[3:], {}))
    assert (config.actor_rollout_ref.model.lora_rank, config.trainer.n_gpus_per_node) == (32, 1)
    assert (config.sft.optim.lr, config.actor_rollout_ref.actor.optim.lr) == (2e-3, 1e-4)


def test_the_command_composes_and_makes_the_steps_that_are_ended_and_resumed():
    asked = smoke_gpu.command(["MODEL=SmolLM2-135M", "run.seed=3"], "smoke")
    assert asked[1:3] == ["-m", "recipe.main"] and asked[-1] == "run.seed=3"
    config = composed(*expand(asked[3:], {}))
    assert (config.profile, config.trainer.device, config.trainer.n_gpus_per_node) == ("gpu", "cuda", 1)
    assert (config.trainer.total_training_steps, config.trainer.save_freq) == (smoke_gpu.STEPS, 1)
    assert config.expert.kind == "offline" and config.labels.kind == "gold"
