"""SELF-GRPO (Eq. 8-13) on TRL's `GRPOTrainer`, through its public interface alone.

With ``scale_rewards="none"`` TRL's advantage is the reward less its group's mean. The advantages of Eq. 13
have mean 0 in every group, so a reward function that returns them has TRL train on exactly them. What TRL
logs as the reward is therefore about 0; R, r2 and the rest are logged below ``self_emo/``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trl
from datasets import Dataset
from packaging.version import Version
from trl import GRPOConfig, GRPOTrainer

from advantage.self_grpo import progress, secondary_rewards, self_grpo_advantages
from integrations.prompts import read_prompts
from rewards.iou import compute_score
from rewards.labels import corpus_labels

#: From here on a reward function may log.
_OLDEST_TRL = "1.0.0"
#: What the reward needs of a row beside its prompt.
_COLUMNS = ("data_source", "ground_truth", "labels")

if Version(trl.__version__) < Version(_OLDEST_TRL):
    raise ImportError(f"SELF-GRPO needs trl {_OLDEST_TRL} or newer, and this is {trl.__version__}")


def load_prompts(path: str | Path) -> Dataset:
    """The prompts of a file that `make data` wrote, with what the reward needs of each.

    Raises:
        ValueError: there is no such file, or it is another one.
    """
    return Dataset.from_list(
        [
            {
                "prompt": row["prompt"],
                "data_source": row["data_source"],
                "ground_truth": row["reward_model"]["ground_truth"],
                "labels": row["extra_info"]["labels"],
            }
            for row in read_prompts(path)
        ]
    )


def group_advantages(
    answers: Sequence[str], rows: Sequence[Mapping[str, Any]], n: int, lam: float, min_named_weight: float
) -> tuple[list[float], dict[str, list[float]]]:
    """Advantages of whole groups (Eq. 13), and what they were made of.

    Args:
        answers: the rollouts' texts, n of each prompt next to each other.
        rows: for each answer a row of `load_prompts`.
        n: rollouts of a prompt.
        lam: the consensus weight.
        min_named_weight: see `secondary_rewards`.

    Returns:
        The advantages, and for each of reward, r2, acc and valid the value of every answer.
    """
    scores = [
        compute_score(row["data_source"], text, row["ground_truth"], {"labels": row["labels"]})
        for text, row in zip(answers, rows, strict=True)
    ]
    secondary: list[float] = []
    for start in range(0, len(answers), n):
        predictions = [json.loads(score["parsed"])["last_emotions"] for score in scores[start : start + n]]
        labels = rows[start]["labels"] or corpus_labels(rows[start]["data_source"])
        secondary += secondary_rewards(predictions, labels, min_named_weight)
    # In the precision of veRL's trainer, so that both give the same advantages to the last bit.
    rewards = np.array([score["score"] for score in scores], dtype=np.float32)
    prompts = [i // n for i in range(len(answers))]
    advantages = self_grpo_advantages(rewards, np.array(secondary), prompts, lam)
    parts = {"reward": rewards.tolist(), "r2": secondary}
    return advantages.tolist(), parts | {name: [score[name] for score in scores] for name in ("acc", "valid")}


class SelfGRPOTrainer(GRPOTrainer):
    """`GRPOTrainer` whose reward function is SELF-GRPO; all else is TRL's.

    Args:
        args: TRL's settings, with ``scale_rewards="none"``.
        lambda_max: λ = lambda_max * t / T in step t of T. Steps that train on the same rollouts
            (``num_iterations``, ``steps_per_generation``) have one λ, that of the last of them.
        min_named_weight: a label counts as named in Eq. 12 from this weight on; 0 is its letter.
        **others: as for `GRPOTrainer`, without ``reward_funcs``.

    Raises:
        ValueError: the settings would scale the advantages once more, or make groups of one or parts of
            groups; or the training data lacks a column.
    """

    def __init__(
        self, *, args: GRPOConfig, lambda_max: float = 1.0, min_named_weight: float = 0.05, **others: Any
    ) -> None:
        wanted = {"scale_rewards": "none", "multi_objective_aggregation": "sum_then_normalize"}
        wrong = [f"{name}={value!r}" for name, value in wanted.items() if getattr(args, name) != value]
        if args.reward_weights not in (None, [1.0]):
            wrong.append("reward_weights=None")
        if args.num_generations < 2 or args.num_generations_eval not in (None, args.num_generations):
            wrong.append("num_generations of at least 2, and the same in evaluation")
        if wrong:
            raise ValueError(f"SELF-GRPO's advantages are final; set {', '.join(wrong)} in GRPOConfig")
        _check_whole(args.num_generations, args.train_batch_size * args.steps_per_generation)
        if args.eval_strategy != "no":
            _check_whole(args.num_generations, args.eval_batch_size)
        if (there := getattr(others.get("train_dataset"), "column_names", None)) is not None:
            _check_columns(there)
        self.lambda_max, self.min_named_weight = lambda_max, min_named_weight
        super().__init__(args=args, reward_funcs=self.self_grpo, **others)

    def self_grpo(
        self,
        prompts: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        trainer_state: Any,
        log_metric: Callable[[str, float], None],
        **columns: Sequence[Any],
    ) -> list[float]:
        """The advantages of a batch of completions, as TRL asks for rewards.

        Raises:
            ValueError: this process has been given parts of groups.
        """
        n = self.args.num_generations
        _check_whole(n, len(prompts))
        if any(prompt != prompts[i - i % n] for i, prompt in enumerate(prompts)):
            raise ValueError(f"the completions of a prompt do not stand together, {n} of each")
        _check_columns(columns)
        # From the tokens: a chat template with a response schema would take the think block out of the text.
        answers = self.processing_class.batch_decode(completion_ids, skip_special_tokens=True)
        parts_of_rows = zip(*(columns[name] for name in _COLUMNS), strict=True)
        rows = [dict(zip(_COLUMNS, row, strict=True)) for row in parts_of_rows]
        # TRL counts the steps that are done, and knows no total outside of training.
        total, step = trainer_state.max_steps, trainer_state.global_step + _steps_of_rollouts(self.args)
        lam = self.lambda_max * progress(step, total) if total > 0 else 0.0
        advantages, parts = group_advantages(answers, rows, n, lam, self.min_named_weight)
        log_metric("self_emo/lambda", lam)
        for name, values in parts.items():
            log_metric(f"self_emo/{name}", float(np.mean(values)))
        return advantages


def _steps_of_rollouts(args: GRPOConfig) -> int:
    """Steps of the optimizer that train on the same rollouts; 1 if a step takes several batches of them."""
    return math.ceil(args.steps_per_generation * args.num_iterations / args.gradient_accumulation_steps)


def _check_whole(n: int, count: int) -> None:
    if count % n:
        raise ValueError(
            f"a process needs whole groups of {n} completions and has {count}; make "
            "per_device_train_batch_size * steps_per_generation (as large as "
            "gradient_accumulation_steps, if it is not set) and "
            "per_device_eval_batch_size multiples of num_generations"
        )


def _check_columns(there: Container[str]) -> None:
    if missing := [name for name in _COLUMNS if name not in there]:
        raise ValueError(
            f"the data has no column {', '.join(missing)}: use load_prompts, and remove_unused_columns=False"
        )
