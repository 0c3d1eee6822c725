"""What a fresh Python holds of the training stack after importing some modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

STACK = {"torch", "verl", "ray", "vllm", "recipe", "transformers"}
#: torch, verl and the rest take seven seconds, and `--cfg job`, a typing error and every check before a run
#: would wait for them.
COMPOSE = (
    "hydra, recipe.run.shortcuts as s; "
    "hydra.initialize_config_dir(str(s.CONF), version_base=None).__enter__(); "
    "config = hydra.compose('self_emo', s.expand(['MODEL=tiny'], {})); assert config.critic"
)


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        ("rewards.iou, rewards.parse", set()),
        ("advantage.self_grpo", {"torch"}),
        ("data_prep.corpora", set()),
        ("data_prep.persona_clusters", set()),
        ("data_prep.prepare", set()),
        (COMPOSE, {"recipe"}),
    ],
)
def test_modules_load_no_training_stack(modules, allowed, subprocess_env):
    code = f"import sys, {modules}; print(*{{n.split('.')[0] for n in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=subprocess_env(), capture_output=True, text=True, check=True
    )
    assert STACK & set(done.stdout.split()) <= allowed
