"""The Ray cluster that a stage runs on: the one at RAY_ADDRESS, or a local one that ends with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from omegaconf import OmegaConf
from verl.trainer.constants_ppo import get_ppo_ray_runtime_env


@contextmanager
def connected(config: Any) -> Iterator[None]:
    """Connect to Ray for the length of the block.

    Args:
        config: the composed configuration; ``env`` goes to every worker, ``cluster`` holds the
            logical resources of a local cluster.
    """
    environment = {key: str(value) for key, value in config.get("env", {}).items()}
    runtime_env = get_ppo_ray_runtime_env(config)
    runtime_env["env_vars"] |= {"TRANSFER_QUEUE_ENABLE": "1", **environment}
    local = {}
    if not os.environ.get("RAY_ADDRESS"):
        local = dict(OmegaConf.to_container(config.cluster, resolve=True), include_dashboard=False)
    ray.init(runtime_env=runtime_env, log_to_driver=True, **local)
    try:
        yield
    finally:
        ray.shutdown()
