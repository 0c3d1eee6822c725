"""A stage that ran out of a GPU's memory: recognised by its log, and tried once more with half the tokens.

One in which vLLM could not measure that memory, because another process gave some back meanwhile, is tried
once more as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf, open_dict

from recipe.run.plan_memory import GIB, architecture, longest_row, memory, micro_batch_tokens, remedy
from recipe.run.process import StageError, WorkerLostError

_SAID = re.compile(r"CUDA out of memory|OutOfMemoryError: CUDA|CUDA error: out of memory")
#: vLLM's assertion at its start (seen with a second run on one H200).
_MOVED = re.compile(r"Error in memory profiling\. Initial free memory")


def with_less_memory(run: Callable[..., None], stage: str, config: Any, log: Path) -> None:
    """Run a training stage; once more, with smaller micro-batches, where it runs out of a GPU's memory.

    Args:
        run: makes an attempt with the ``config`` that it is given.
        stage: ``sft`` or ``rl``.
        config: the stage's whole configuration.
        log: what the attempts say is appended to it.

    Raises:
        StageError: as it does; the message names what would fit where memory was the reason.
    """
    for attempt in range(2):
        before = log.stat().st_size if log.exists() else 0
        try:
            return run(config=config)
        except WorkerLostError:
            raise
        except StageError as error:
            if not attempt and says(_MOVED, log, before):
                print(
                    f"  {stage}: another process freed GPU memory while vLLM measured it; trying once more",
                    flush=True,
                )
                continue
            if not says(_SAID, log, before):
                raise
            found = None if attempt else halved(stage, config)
            if found is None:
                raise StageError(f"{explain(stage, config)} ({log})") from error
            config, setting = found
            print(f"  {stage}: out of GPU memory; trying once more with {setting}", flush=True)


def says(what: re.Pattern[str], log: Path, start: int = 0) -> bool:
    """Whether a log says something from byte ``start`` on."""
    if not log.exists():
        return False
    with log.open("rb") as file:
        file.seek(start)
        return bool(what.search(file.read().decode(errors="replace")))


def halved(stage: str, config: Any) -> tuple[Any, str] | None:
    """The configuration with micro-batches of half the tokens, and the setting in words.

    Args:
        stage: ``sft`` or ``rl``.
        config: the stage's; it is left as it is.

    Returns:
        None where the longest row that the settings allow would no longer fit into a micro-batch, or where
        micro-batches count rows.
    """
    node, size, longest = {
        "rl": ("actor_rollout_ref.actor", "ppo_max_token_len_per_gpu", longest_row(config)),
        "sft": ("sft.data", "max_token_len_per_gpu", config.sft.data.max_length),
    }[stage]
    found = OmegaConf.select(config, node)
    tokens = max(found[size] // 2, longest)
    if not found.use_dynamic_bsz or tokens >= found[size]:
        return None
    smaller = config.copy()
    with open_dict(smaller):
        OmegaConf.select(smaller, node)[size] = tokens
    return smaller, f"{node}.{size}={tokens}"


def explain(stage: str, config: Any) -> str:
    """What to say where no further attempt is worth it."""
    told = f"stage {stage} ran out of GPU memory"
    if stage == "rl" and config.base.path != "builtin:tiny":
        here, model = config.copy(), architecture(config)
        needed = sum(memory(here, model, micro_batch_tokens(here, longest_row(here))).training.values())
        with open_dict(here):  # it has just been shown that less is there than this needs
            here.plan.gpus[here.plan.gpu].memory_gib = 0.95 * needed / GIB
        return f"{told}; by `make plan`'s arithmetic {remedy(here, model)}"
    return f"{told}; shorten its rows (sft.data.max_length and max_token_len_per_gpu), or take more GPUs"
