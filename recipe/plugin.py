"""What veRL and vLLM load through their entry points, in every process that they start.

Importing this module registers the `self_grpo` estimator and, where the CPU platform is selected,
the platform with its shims. veRL hides what a plug-in raises, so the reason goes to stderr as well;
without the platform the process then stops at veRL's own "Unknown platform 'cpu'".
"""

from __future__ import annotations

import os
import sys


def cpu_selected() -> bool:
    """Is the CPU platform in use? It is selected by veRL's own variable, and inactive otherwise."""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"


def register_vllm() -> None:
    """Entry point of vLLM's processes."""
    if cpu_selected():
        from recipe.on_verl.platforms import vllm_cpu

        vllm_cpu.apply()


def _register_verl() -> None:
    if cpu_selected():
        from recipe.on_verl.platforms import verl_cpu

        verl_cpu.apply()


try:
    _register_verl()
    from recipe.on_verl import estimator  # noqa: F401  registers `self_grpo`
except Exception as error:
    print(f"self-emo: the veRL plug-in could not be loaded: {error!r}", file=sys.stderr)
    raise
