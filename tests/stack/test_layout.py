"""Appendix E's layout on CPUs: four FSDP ranks, one vLLM replica of tensor parallel size four over them.

A small untied Qwen3 of eight heads takes the place of the 8 B one. Rows are packed (padding removal on),
there is validation, a checkpoint is saved from four shards, the run is killed and goes on from it, the export
comes from the shards, and evaluation is tensor-parallel. Once with micro-batches by tokens, once with fixed
ones.
Not part of `make test`: `make test-layout` wants about 20 GiB of memory and half an hour on 2 cores.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.corpora import read_corpora
from data_prep.experts.offline import respond_to
from data_prep.prepare import dialogue_rows
from data_prep.prompt import load_templates
from data_prep.sample_dialogues import sample_corpora
from recipe.models import tiny, weights
from recipe.steps.base import readings

pytestmark = [pytest.mark.stack, pytest.mark.layout, pytest.mark.timeout(3600)]
ROOT = Path(__file__).parents[2]
RANKS, STEPS = 4, 4
SAMPLES = {"train": 600, "dev": 60, "test": 240}
MICRO_BATCHES = {
    "dynamic": ["actor_rollout_ref.actor.use_dynamic_bsz=true"],
    "fixed": [
        "actor_rollout_ref.actor.use_dynamic_bsz=false",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=16",
    ],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """An untied Qwen3 of eight heads that has read dialogues for a minute."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    templates = load_templates("compact")
    texts = readings(templates, 900, seed=1)
    corpora = sample_corpora(SAMPLES, 1)
    rows = [row for dialogue in read_corpora(corpora) for row in dialogue_rows(dialogue, templates)]
    tokenizer = tiny.make_tokenizer(
        [*texts, *(m["content"] for r in rows for m in r["prompt"]), *map(respond_to, rows)]
    )
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=-(-len(tokenizer) // 64) * 64, max_position_embeddings=2048, tie_word_embeddings=False,
            hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=8,
            num_key_value_heads=4, head_dim=32, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    read = tokenizer(texts, add_special_tokens=False)["input_ids"]
    tiny.train(model, read, steps=150, batch=16, lr=4e-3, seed=1)
    folder = tmp_path_factory.mktemp("base") / "eight-heads"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def command(root: Path, base: Path, name: str, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "recipe.main", f"MODEL={base}", f"NAME={name}", f"run.root={root}",
        "hardware=cpu",
        "experiment=smoke", "samples={train: 600, dev: 60, test: 240, seed: 1}", "test_rows=24",
        "flywheel.iterations=1", "flywheel.turns=1", "flywheel.min_reward=0.1", "sft.trainer.total_epochs=6",
        f"trainer.n_gpus_per_node={RANKS}", "cluster.num_cpus=64",
        f"actor_rollout_ref.rollout.tensor_model_parallel_size={RANKS}",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend=mp",
        "actor_rollout_ref.model.use_remove_padding=true",
        "algorithm.rollout_correction.bypass_mode=false",  # as in the paper's profile: both compute them
        f"trainer.total_training_steps={STEPS}", "trainer.save_freq=1", "trainer.test_freq=1", "dev_rows=16",
        "evaluate.stages=[rl,retrained]", *more,
    ]  # fmt: skip


def wait_for_checkpoint(process: subprocess.Popen, folder: Path, step: int) -> Path:
    """Wait until a step is saved; the checkpoint's folder."""
    tracker, end = folder / "latest_checkpointed_iteration.txt", time.time() + 1500
    while not tracker.exists() or int(tracker.read_text() or 0) < step:
        assert process.poll() is None, "the run ended early"
        assert time.time() < end, "timed out"
        time.sleep(0.5)
    return folder / f"global_step_{tracker.read_text()}/actor"


@pytest.fixture(scope="module", params=MICRO_BATCHES)
def run(request, base, tmp_path_factory) -> dict:
    """A run that was killed after its first checkpoint and has gone on, with the shards that it had then."""
    root = tmp_path_factory.mktemp(request.param)
    asked = command(root, base, request.param, *MICRO_BATCHES[request.param])
    folder, environment = root / request.param, os.environ | {"PROFILE": "cpu"}
    with (root / "log.txt").open("w") as log:
        first = subprocess.Popen(asked, cwd=ROOT, stdout=log, stderr=log, env=environment)
        try:
            saved = wait_for_checkpoint(first, folder / "iter_1/rl.work/checkpoints", 1)
            shards = sorted(path.name for path in saved.glob("*_world_size_*.pt"))
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()
        time.sleep(10)  # what it has started is ended by its supervisors
        again = subprocess.run([*asked, "run.resume=true"], cwd=ROOT, stdout=log, stderr=log, env=environment)
    assert again.returncode == 0, (root / "log.txt").read_text()[-4000:]
    return {"folder": folder, "shards": shards}


def metrics(folder: Path) -> dict[int, dict]:
    lines = (folder / "iter_1/rl/metrics.jsonl").read_text().splitlines()
    return {entry["step"]: entry["data"] for entry in map(json.loads, lines)}


def test_four_ranks_and_one_replica_of_four(run):
    wanted = [
        f"{kind}_world_size_{RANKS}_rank_{rank}.pt"
        for kind in ("extra_state", "model", "optim")
        for rank in range(RANKS)
    ]
    assert run["shards"] == wanted
    log = (run["folder"] / "iter_1/rl/log.txt").read_text(errors="replace")
    log = re.sub(r"\x1b\[[0-9;]*m|\(\w+ pid=\d+[^)]*\)", "", log)  # Ray's colours and names
    assert re.search(rf"tensor_parallel_size\W+{RANKS}\b", log)  # as veRL starts its server
    assert "setting global step to" in log  # it has gone on from those shards
    assert not (run["folder"] / "iter_1/rl/checkpoints").exists()


def test_rollout_and_actor_agree_after_updates_that_moved_the_weights(run):
    found = metrics(run["folder"])
    assert sorted(found) == list(range(1, STEPS + 1))
    for step, data in found.items():
        assert data["training/rollout_actor_probs_pearson_corr"] >= 0.999, step
        assert data["actor/grad_norm"] > 0 and data["self_emo/reward"] > 0, step
    before, after = (run["folder"] / name for name in ("iter_0/sft/model", "iter_1/rl/model"))
    assert weights.digest(before) != weights.digest(after)


def test_validation_ran_after_every_step(run):
    found = metrics(run["folder"])
    del found[1]  # the run was killed between this step's checkpoint and its validation
    for step, data in found.items():
        assert any(name.startswith("val-core/") for name in data), step


def test_the_export_of_the_shards_loads_and_was_scored_tensor_parallel(run):
    import torch
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        run["folder"] / "iter_1/rl/model", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    for stage in ("rl_1", "retrained_1"):
        summary = json.loads((run["folder"] / f"eval/{stage}/summary.json").read_text())
        assert summary["avg"]["n"] == 72 and summary["avg"]["valid"] > 0


def test_what_it_took(run, capsys):
    """No limit on times; a record of them."""
    usage = {p.parent.name: json.loads(p.read_text()) for p in run["folder"].glob("iter_*/*/usage.json")}
    assert all(part["peak_gib"] > 0 for part in usage.values())
    with capsys.disabled():
        for stage, part in usage.items():
            print(
                f"\n{run['folder'].name}, {stage}: {part['seconds']:.0f} s, peak {part['peak_gib']:.1f} GiB",
                end="",
            )
