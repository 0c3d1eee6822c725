"""A stage's RL with nothing of ours but the reward: veRL's own task runner, `grpo`, and its agent loop.

`python -m bench.stock_rl <config.yaml>`, the configuration being that of an RL stage.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from omegaconf import open_dict

from recipe.run.flatten import load_config


def main() -> None:
    """Run it; the metrics go beside the configuration, as a stage's do."""
    path = Path(sys.argv[1])
    config = load_config(path)
    os.environ.update({key: str(value) for key, value in config.get("env", {}).items()})
    os.environ["VERL_ENGINE_DEVICE"] = "cuda"  # what veRL calls its own engine
    os.environ["VERL_FILE_LOGGER_PATH"] = str(path.parent / "metrics.part.jsonl")
    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo

    with open_dict(config):
        config.algorithm.adv_estimator = "grpo"
        config.actor_rollout_ref.rollout.agent.agent_loop_manager_class = None
        config.transfer_queue.enable = True
        config.ray_kwargs.ray_init = {**config.cluster, "include_dashboard": False, "address": "local"}
    run_ppo(config, task_runner_class=TaskRunnerV1)


if __name__ == "__main__":
    main()
