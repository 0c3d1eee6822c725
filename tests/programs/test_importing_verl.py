"""`import verl` finds the recipe's plug-in by its entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROBE = """
import importlib.metadata, json, os, sys
import torch.distributed as dist, torch.distributed.fsdp as fsdp, ray, transformers  # most of verl's seconds
cpu = {"VERL_PLATFORM": "cpu"}
for name, platform in {"cpu": cpu, "none": {}, "stage": cpu | {"VERL_ENGINE_DEVICE": "cpu"}}.items():
    if os.fork():
        assert os.wait()[1] == 0
        continue
    os.environ.update(platform)
    original = importlib.metadata.version, dist.init_process_group, fsdp.CPUOffloadPolicy
    import verl
    from verl.plugin.platform import get_platform
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn
    now = importlib.metadata.version, dist.init_process_group, fsdp.CPUOffloadPolicy
    print("PROBE" + json.dumps([name, {
        "estimator": get_adv_estimator_fn("self_grpo").__module__,
        "shims": any(name.startswith("recipe.on_verl.platforms.") for name in sys.modules),
        "changed": [a is not b for a, b in zip(original, now)],
        "platform": type(get_platform()).__name__,
        "device": get_platform().device_name,
        "engine": "recipe.on_verl.platforms.cpu_engine" in sys.modules,
    }]), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def probes(root):
    """What `import verl` alone does in a process without it, with and without VERL_PLATFORM=cpu."""
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    base = {k: v for k, v in os.environ.items() if k not in ("VERL_PLATFORM", "VERL_ENGINE_DEVICE")} | {
        "PYTHONPATH": path
    }
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=root, env=base, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("PROBE"))


def test_importing_verl_registers_the_estimator_and_with_verl_platform_cpu_the_platform(probes):
    assert probes["cpu"] == {
        "estimator": "recipe.on_verl.estimator",
        "shims": True,
        "changed": [True, True, True],
        "platform": "PlatformCPU",
        "device": "cpu",
        "engine": False,
    }


def test_only_the_processes_of_a_stage_import_the_engine(probes):
    assert probes["stage"] == probes["cpu"] | {"engine": True}


def test_without_verl_platform_cpu_nothing_of_the_platform_is_active(probes):
    found = probes["none"]
    assert found["estimator"] == "recipe.on_verl.estimator"
    assert (found["shims"], found["changed"]) == (False, [False, False, False])
    assert found["platform"] != "PlatformCPU" and not found["engine"]
