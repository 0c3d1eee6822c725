"""One stage in a process of its own: `python -m recipe.on_verl.stage <stage> <config.yaml>`.

Each stage imports only what it needs, and only once the process has its environment: veRL reads that
when it is imported.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from recipe.on_verl import warm
from recipe.run.flatten import load_config
from recipe.run.process import shown_variables


def run_rl(config: Any) -> None:
    """RL with SELF-GRPO through veRL's `run_ppo`."""
    from verl.trainer.main_ppo import run_ppo

    from recipe.on_verl.ray_session import connected
    from recipe.on_verl.trainer import SelfEmoTaskRunner

    with connected(config):
        run_ppo(config, task_runner_class=SelfEmoTaskRunner)


def run_sft(config: Any) -> None:
    """Supervised fine-tuning through veRL's Ray-driven SFT trainer."""
    from recipe.on_verl.ray_session import connected
    from recipe.on_verl.sft_driver import fit

    with connected(config):
        fit(config.sft)


def run_evaluate(config: Any) -> None:
    """Greedy generation with vLLM on the test splits."""
    import ray

    from recipe.evaluation.generate import generate_answers
    from recipe.on_verl.ray_session import connected

    with connected(config):
        options = {"num_gpus": config.actor_rollout_ref.rollout.tensor_model_parallel_size}
        ray.get(ray.remote(**options)(generate_answers).remote(config))


def run_self_play(config: Any) -> None:
    """The policy's answers to its own dialogues."""
    import ray

    from recipe.on_verl.ray_session import connected
    from recipe.on_verl.self_play import play_on

    with connected(config):
        options = {"num_gpus": config.actor_rollout_ref.rollout.tensor_model_parallel_size}
        ray.get(ray.remote(**options)(play_on).remote(config))


def run_annotate(config: Any) -> None:
    """Emotions of a user's own dialogues."""
    import ray

    from recipe.annotation.answer import answer_dialogues
    from recipe.on_verl.ray_session import connected

    with connected(config):
        options = {"num_gpus": config.actor_rollout_ref.rollout.tensor_model_parallel_size}
        ray.get(ray.remote(**options)(answer_dialogues).remote(config))


STAGES = {
    "rl": run_rl,
    "sft": run_sft,
    "self_play": run_self_play,
    "evaluate": run_evaluate,
    "annotate": run_annotate,
}


def main() -> None:
    """Run the stage that the command line names, with the configuration that a step wrote."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("config", type=Path)
    args = parser.parse_args()
    config = load_config(args.config)
    os.environ.update(shown_variables(config))
    work = args.config.parent
    os.environ["VERL_FILE_LOGGER_PATH"] = str(work / "metrics.part.jsonl")
    os.environ.setdefault("TENSORBOARD_DIR", str(work / "tensorboard"))  # used if trainer.logger names it
    os.environ.setdefault("WANDB_DIR", str(work))
    with warm.forking(config.run.preload) if config.run.preload else nullcontext():
        _run(args.stage, config)


def _run(stage: str, config: Any) -> None:
    from recipe.run.process import REFUSED
    from recipe.run.ray_nodes import ClusterError

    try:
        STAGES[stage](config)
    except ClusterError as error:
        print(f"error: {error}", flush=True)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
