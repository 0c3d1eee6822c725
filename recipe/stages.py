"""What each stage does, once its process has its environment. Each imports only what it needs."""

from __future__ import annotations

from typing import Any

from recipe.cluster import connected


def run_rl(config: Any) -> None:
    """RL with SELF-GRPO through veRL's `run_ppo`."""
    from verl.trainer.main_ppo import run_ppo

    from recipe.trainer import SelfEmoTaskRunner

    with connected(config):
        run_ppo(config, task_runner_class=SelfEmoTaskRunner)


def run_sft(config: Any) -> None:
    """Supervised fine-tuning through veRL's Ray-driven SFT trainer."""
    from verl.trainer.sft_trainer_ray import SFTTrainer

    with connected(config):
        SFTTrainer(config=config.sft).fit()


def run_evaluate(config: Any) -> None:
    """Greedy generation with vLLM on the test splits."""
    import ray

    from recipe.evaluate import generate_answers

    with connected(config):
        options = {"num_gpus": config.actor_rollout_ref.rollout.tensor_model_parallel_size}
        ray.get(ray.remote(**options)(generate_answers).remote(config))
