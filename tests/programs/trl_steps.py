"""Runs in TRL's environment: `SelfGRPOTrainer` on recorded rollouts, then on rollouts of its own.

`python -m tests.programs.trl_steps <recorded.json> <prompts.parquet> <out.json>`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig

from integrations.trl.self_grpo import SelfGRPOTrainer, load_prompts
from recipe.models.tiny import make_model, make_tokenizer


class Recorder(SelfGRPOTrainer):
    """Keeps what the loss is given: texts and their advantages."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        texts = self.processing_class.batch_decode(inputs["completion_ids"], skip_special_tokens=True)
        self.seen.append(list(zip(texts, inputs["advantages"].tolist(), strict=True)))
        return super().compute_loss(model, inputs, *args, **kwargs)


def settings(out: Path, n: int, batch: int, steps: int, **more: Any) -> GRPOConfig:
    return GRPOConfig(
        output_dir=str(out), use_cpu=True, bf16=False, per_device_train_batch_size=batch, num_generations=n,
        max_steps=steps, scale_rewards="none", learning_rate=1e-3, shuffle_dataset=False, beta=0.0,
        gradient_checkpointing=False, save_strategy="no", report_to="none", disable_tqdm=True,
        logging_steps=1, seed=1, **more,
    )  # fmt: skip


def trainer(args: GRPOConfig, data: Dataset, tokenizer: Any, **more: Any) -> Recorder:
    made = Recorder(
        args=args,
        model=make_model(tokenizer, seed=1) if tokenizer else None,
        processing_class=tokenizer,
        train_dataset=data,
        **more,
    )
    made.seen = []
    return made


def replay(recorded: dict[str, Any], out: Path, tokenizer: Any) -> list[Any]:
    """A step for every entry of ``recorded["steps"]``, each with the rollouts that it lists."""
    steps, n = recorded["steps"], recorded["n"]
    rows = [row for step in steps for row in step["rows"]]
    texts = iter([step["answers"] for step in steps])

    def rollouts(prompts: list[Any], _: Any) -> dict[str, Any]:
        tokens = tokenizer(next(texts), add_special_tokens=False)["input_ids"]
        asked = tokenizer.apply_chat_template(prompts, add_generation_prompt=True)["input_ids"]
        return {"prompt_ids": asked, "completion_ids": tokens, "logprobs": None}

    args = settings(out, n, len(steps[0]["answers"]), len(steps), max_completion_length=400)
    own = {name: recorded[name] for name in ("lambda_max", "min_named_weight")}
    made = trainer(args, Dataset.from_list(rows), tokenizer, rollout_func=rollouts, **own)
    before = [weight.detach().clone() for weight in made.model.parameters()]
    made.train()
    after = list(made.model.parameters())
    assert any(bool((a != b).any()) for a, b in zip(before, after, strict=True)), "no weight has moved"
    return made.seen


def refusal(call: Callable[[], object]) -> str:
    """What a call is refused with."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


def logged(made: Recorder) -> list[dict[str, float]]:
    """What was logged with every batch of rollouts."""
    return [entry for entry in made.state.log_history if "self_emo/lambda" in entry]


def main() -> None:
    """Write what both gave."""
    recorded_path, prompts, target = map(Path, sys.argv[1:])
    recorded = json.loads(recorded_path.read_text())
    tokenizer = make_tokenizer([text for step in recorded["steps"] for text in step["answers"]])
    tokenizer.padding_side = "left"
    replayed = replay(recorded, target.parent / "replay", tokenizer)
    args = settings(target.parent / "steps", 4, 8, 3, max_completion_length=16)
    own = trainer(args, load_prompts(prompts), tokenizer)
    own.train()
    # Whole groups by accumulation, and rollouts that two steps train on.
    args = settings(
        target.parent / "twice",
        4,
        2,
        4,
        max_completion_length=4,
        gradient_accumulation_steps=2,
        num_iterations=2,
    )
    twice = trainer(args, load_prompts(prompts), tokenizer)
    twice.train()
    parts = settings(target, 4, 2, 1, gradient_accumulation_steps=2, generation_batch_size=4)
    parts.steps_per_generation = 1
    evaluated = settings(target, 4, 4, 1)
    evaluated.eval_strategy, evaluated.per_device_eval_batch_size = "steps", 2
    renamed = load_prompts(prompts).rename_column("ground_truth", "gold")
    refused = {
        "scaled": refusal(
            lambda: trainer(GRPOConfig(output_dir=str(target), use_cpu=True, bf16=False), None, None)
        ),
        "three": refusal(lambda: own.self_grpo(["a", "a", "a"], [[1]] * 3, own.state, print)),
        "mixed": refusal(lambda: own.self_grpo(["a", "a", "a", "b"], [[1]] * 4, own.state, print)),
        "parts": refusal(lambda: trainer(parts, load_prompts(prompts), tokenizer)),
        "evaluated": refusal(lambda: trainer(evaluated, load_prompts(prompts), tokenizer)),
        "renamed": refusal(lambda: trainer(settings(target, 4, 4, 1), renamed, tokenizer)),
        "removed": refusal(
            lambda: own.self_grpo(["a"] * 4, [[]] * 4, own.state, print, labels=[["joy"]] * 4)
        ),
    }
    found = {
        "replayed": replayed,
        "logs": logged(own),
        "twice": logged(twice),
        "finite": all(bool(torch.isfinite(weight).all()) for weight in own.model.parameters()),
        "refused": refused,
        "nothing": own.self_grpo(
            ["a"] * 4,
            [[]] * 4,
            own.state,
            lambda *_: None,
            **{k: [v] * 4 for k, v in load_prompts(prompts)[0].items()},
        ),
    }
    target.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
