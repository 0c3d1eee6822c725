"""Memory, disk, GPUs and cluster that a run needs, known before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from data_prep.experts.client import ExpertError
from recipe.models import hub, tiny, weights
from recipe.run import gpu_checks, preflight
from recipe.run.preflight import GIB, check, disk_bytes, memory_bytes
from recipe.run.ray_nodes import ClusterError
from tests.unit.recipe.run.refusals import LARGE, refused

pytestmark = pytest.mark.settings


def test_a_model_too_large_for_the_memory(configured, tmp_path, machine, model_folder):
    folder = model_folder(tmp_path / "large", LARGE)
    machine.disk = 10_000 * GIB
    message = refused(configured(model=folder), "8,191 M parameters", "memory", "64.0 are free", "MODEL=mine")
    assert "tiny" in message and "gpu" in message.lower()  # the remedies


@pytest.mark.parametrize(("memory", "disk", "said"), [(64, 9_000, "8,190 M parameters"), (9_000, 64, "disk")])
def test_the_paper_s_model_on_a_laptop_is_told_before_the_hub_is_asked(
    configured, machine, monkeypatch, memory, disk, said
):
    monkeypatch.setattr(hub, "check", lambda repo: pytest.fail("the hub was asked"))
    machine.memory, machine.disk = memory * GIB, disk * GIB
    refused(configured("model=qwen3-8b", "experiment=paper", "expert=self", "hardware=cpu"), said)


def test_the_same_model_fits_where_memory_is(configured, tmp_path, machine, model_folder):
    folder = model_folder(tmp_path / "small")
    machine.memory = memory_bytes(weights.count_parameters(str(folder)), 1, 1.0)
    check(configured("run.name=first", model=folder))
    machine.memory -= 1
    refused(configured("run.name=second", model=folder), "memory")


def test_memory_and_disk_grow_with_what_is_asked():
    assert memory_bytes(0, 1, 1.0) < memory_bytes(10**9, 1, 1.0) < memory_bytes(10**9, 2, 1.0)
    assert memory_bytes(0, 1, 1.0) + GIB == memory_bytes(0, 1, 2.0)
    assert memory_bytes(0, 1, 1.0, training=False, replicas=3) == 2 * GIB + memory_bytes(0, 1, 1.0, False)
    assert memory_bytes(0, 1, 1.0, replicas=16) > memory_bytes(0, 1, 1.0)  # more than an RL stage needs
    assert memory_bytes(8 * 10**9, 1, 1.0) > 4 * 5 * 8 * 10**9  # weights, gradients, Adam's two, reference


def test_disk_at_its_fullest():
    """While the last RL stage saves: veRL keeps its old checkpoint (16 bytes a parameter) until the new one
    is whole, beside the exported models (4) of the cold start, RL 1 and its retraining."""
    n = 8_190_427_136
    assert disk_bytes(n, 1) == pytest.approx((4 + 2 * 16) * n + 0.2 * GIB)
    assert disk_bytes(n, 2) == pytest.approx((3 * 4 + 2 * 16) * n + 0.2 * GIB)
    assert 0 < disk_bytes(n, 0) < disk_bytes(n, 1)
    # Adapters have no moments worth counting, and are merged while both checkpoints are there.
    assert disk_bytes(n, 1, adapters=True) == pytest.approx((4 + 2 * 8 + 4) * n + 0.2 * GIB)


def test_adapters_take_less_disk(configured, machine):
    adapters = ["actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.model.lora.merge=true"]
    machine.disk = disk_bytes(tiny.PARAMETERS, 2, adapters=True) + 2**20
    refused(configured("run.name=whole"), "free some")
    check(configured("run.name=adapters", *adapters))


def test_a_resumed_run_needs_no_disk_for_what_it_has_written(configured, machine, tmp_path):
    machine.disk = disk_bytes(tiny.PARAMETERS, 2) - 2**20
    config = configured("run.name=mine")
    refused(config, "free some")
    folder = tmp_path / "runs/mine"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(2 * 2**20))
    OmegaConf.save(config, folder / "config.yaml")
    config.run.resume = True
    assert check(config) == folder


def test_too_little_disk(configured, machine):
    machine.disk = 0.1 * GIB
    refused(configured(), "disk", "0.1 are free", "run.root")


def test_the_tiny_model_is_nobody_s_expert(configured):
    refused(configured("expert=self"), "the tiny model", "expert=offline", error=ExpertError)


def test_a_head_without_gpus_serves_no_expert(configured, monkeypatch, tmp_path, model_folder):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    config = configured("expert=self", "hardware=8gpu", model=model_folder(tmp_path / "m"))
    refused(config, "shows 0 GPUs of the 1", "expert=mixed", error=ExpertError)


def test_cpus_that_verl_would_wait_for(configured):
    refused(configured("trainer.n_gpus_per_node=4"), "cluster.num_cpus=32", "10 CPUs", "cluster.num_cpus=64")


@pytest.mark.parametrize("gpus", ["0", "0.5", "null"])
def test_logical_gpus_that_ray_would_wait_for(configured, gpus):
    refused(configured(f"cluster.num_gpus={gpus}"), f"cluster.num_gpus={gpus} is less", "cluster.num_gpus=1")


def test_more_gpus_than_there_are(configured, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused(configured("hardware=8gpu"), "8 GPUs", "shows 1", "hardware=cpu")
    monkeypatch.setattr(gpu_checks, "probe", gpu_checks.Machine)
    asked = []
    monkeypatch.setattr(preflight, "check_cluster", lambda *what: asked.append(what))
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # the cluster has what this machine lacks
    check(configured("hardware=8gpu"))
    assert asked == [("auto", 1, 8, 45)]


def test_a_cluster_with_too_little_is_refused_before_anything_is_written(configured, monkeypatch):
    def check_cluster(*_):
        raise ClusterError("the cluster has 1 node(s) with 0")

    monkeypatch.setattr(preflight, "check_cluster", check_cluster)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    config = configured()
    refused(config, "the cluster has 1 node(s) with 0", error=ClusterError)
    assert not list(Path(config.run.root).glob("*"))


def test_the_address_of_a_dashboard_is_for_submitting(configured, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    said = ("RAY_ADDRESS=http://head:8265 is a dashboard", "make submit", "head:6379")
    refused(configured(), *said, error=ClusterError)
