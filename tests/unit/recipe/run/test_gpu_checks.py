"""What a machine's GPUs, driver and compiler must have, each told before anything is loaded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from recipe.run import gpu_checks
from recipe.run.gpu_checks import (
    GIB,
    Gpu,
    GpuError,
    Machine,
    check_compiler,
    check_driver,
    check_free,
    check_memory,
    check_sequence_parallel,
    choose_attention,
    fit_replicas,
    probe,
    settle,
)
from tests.unit.composed import composed

pytestmark = pytest.mark.settings

H100 = Gpu("NVIDIA H100", 79 * GIB, int(79.6 * GIB))
FLASH, BARE = Machine(flash_attention="2.8.3"), Machine(no_flash_attention="No module named 'flash_attn'")
ATTENTION = "actor_rollout_ref.model.override_config.attn_implementation"
ULYSSES = "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size=2"


def paper(*overrides: str, hardware: str = "8gpu"):
    return composed("model=qwen3-8b", "experiment=paper", f"hardware={hardware}", *overrides)


def attention(config) -> str | None:
    return config.actor_rollout_ref.model.override_config.get("attn_implementation")


def test_this_machine_is_asked_in_another_process():
    import torch

    found = probe()
    assert found.gpus == () and found.problem and found.cuda is None
    assert found.flash_attention is None and "flash_attn" in found.no_flash_attention
    assert not torch.cuda.is_initialized()


# ---- attention ----


def test_flash_attention_is_left_alone_where_it_is_there(capsys):
    config = paper()
    choose_attention(config, FLASH)
    assert attention(config) is None and capsys.readouterr().out == ""


def test_sdpa_stands_in_for_it_and_says_so(capsys):
    config = paper()
    choose_attention(config, BARE)
    assert attention(config) == "sdpa" and attention_of_sft(config) == "sdpa"
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "No module named 'flash_attn'" in out and gpu_checks.INSTALL in out


def attention_of_sft(config) -> str:
    return config.sft.model.override_config.attn_implementation


def test_sdpa_is_refused_where_its_mask_would_be_too_large():
    with pytest.raises(GpuError, match=r"a mask of 108 GiB for the 196,608 tokens .* flash-attn==2.8.3"):
        choose_attention(paper("experiment=paper_exact"), BARE)


def test_flash_attention_that_was_asked_for_by_name_is_not_replaced():
    with pytest.raises(GpuError, match="asks for it, and flash-attn cannot be imported"):
        choose_attention(paper(f"+{ATTENTION}=flash_attention_2"), BARE)


@pytest.mark.parametrize("hardware", ["8gpu", "cpu"])
def test_split_sequences_with_another_attention_are_refused(hardware):
    """veRL patches flash-attn's function alone; with sdpa a GPU would see its own part of a row."""
    check_sequence_parallel(paper(ULYSSES))
    sdpa = [] if hardware == "cpu" else [f"+{ATTENTION}=sdpa"]
    with pytest.raises(GpuError, match=r"actor\.\S+=2 needs flash-attn"):
        check_sequence_parallel(paper(ULYSSES, *sdpa, hardware=hardware))


@pytest.mark.parametrize("name", ["Qwen3", "Llama"])
def test_sdpa_keeps_packed_rows_apart(name):
    """What the fallback rests on: rows laid end to end, told apart by their positions, answer as alone."""
    import torch
    import transformers

    config = getattr(transformers, f"{name}Config")(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, attn_implementation="sdpa",
    )  # fmt: skip
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    rows = [torch.randint(64, (1, n)) for n in (5, 9, 3)]
    positions = torch.cat([torch.arange(row.shape[1]) for row in rows])[None]
    with torch.inference_mode():
        packed = model(
            torch.cat(rows, 1), attention_mask=None, position_ids=positions, use_cache=False
        ).logits
        alone = torch.cat([model(row).logits for row in rows], 1)
    assert torch.allclose(packed, alone, atol=1e-5)


# ---- driver, compiler, memory ----


def test_a_driver_that_is_too_old():
    old = Machine(cuda="13.0", problem="The NVIDIA driver on your system is too old (found version 12040).")
    with pytest.raises(GpuError, match=r"too old \(found version 12040\).* built for CUDA 13.0: update"):
        check_driver(old)
    check_driver(Machine((H100,), "13.0"))


def test_what_triton_compiles_with(monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GpuError, match="neither gcc nor clang.* build-essential"):
        check_compiler(tmp_path)
    (tmp_path / "gcc").write_text("#!/bin/sh\n")
    (tmp_path / "gcc").chmod(0o755)
    with pytest.raises(GpuError, match=r"Python.h, which is missing.* python3-dev"):
        check_compiler(tmp_path)
    (tmp_path / "Python.h").touch()
    check_compiler(tmp_path)


def test_a_gpu_that_somebody_else_uses():
    check_free([H100])
    with pytest.raises(GpuError, match=r"GPU 1 \(NVIDIA H100\) is in use: 39.6 of 79.6 GiB"):
        check_free([H100, Gpu("NVIDIA H100", 40 * GIB, H100.total)])


def test_memory_is_that_of_the_gpus_that_are_there():
    check_memory(paper(), Machine((H100,) * 8), training=True)
    small = Gpu("NVIDIA L4", 22 * GIB, 22 * GIB)
    with pytest.raises(
        GpuError, match=r"Qwen3-8B on 8 x NVIDIA L4: training does not fit: .* plan.check=false"
    ):
        check_memory(paper(), Machine((H100,) * 7 + (small,)), training=True)
    check_memory(paper("plan.check=false"), Machine((small,) * 8), training=True)
    check_memory(paper(), Machine((small,) * 8), training=False)
    check_memory(paper(), None, training=True)  # a cluster's


@pytest.mark.parametrize(("hardware", "size"), [("8gpu", 8), ("4gpu", 4), ("2gpu", 2), ("1gpu", 1)])
def test_a_replica_takes_no_more_gpus_than_a_node_has(hardware, size):
    config = paper(hardware=hardware)
    fit_replicas(config)
    assert config.actor_rollout_ref.rollout.tensor_model_parallel_size == size
    assert config.cluster.num_cpus >= 10 * size and config.cluster.num_gpus == size
    units = config.transfer_queue.backend.SimpleStorage.num_data_storage_units
    # What RL reserves: three CPUs a GPU, one for every storage unit and for their controller.
    assert config.cluster.num_cpus > 3 * size + units + 1


def test_on_a_cluster_the_driver_s_own_machine_does_not_matter(monkeypatch):
    monkeypatch.setattr(gpu_checks, "probe", lambda: Machine(problem="no GPU", flash_attention="2.8.3"))
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert settle(paper()) is None
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(GpuError, match="no GPU"):
        settle(paper())


# ---- what vLLM is told ----


@pytest.mark.parametrize("hardware", ["1gpu", "1gpu_lora", "2gpu", "4gpu", "8gpu", "multinode"])
def test_vllm_compiles_no_sampler_and_forks_nothing(hardware):
    env = paper(hardware=hardware).env
    assert env.VLLM_USE_FLASHINFER_SAMPLER == "0" and env.VLLM_WORKER_MULTIPROC_METHOD == "spawn"


def test_vllm_reads_those_variables():
    from vllm import envs

    known = SimpleNamespace(**envs.environment_variables)
    assert {"VLLM_USE_FLASHINFER_SAMPLER", "VLLM_WORKER_MULTIPROC_METHOD"} <= vars(known).keys()
