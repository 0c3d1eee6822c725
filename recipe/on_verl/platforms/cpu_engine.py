"""veRL's FSDP engine on a CPU: the output layer where a token counts, a prompt once for all of its answers,
and rows of like length together.

Registered for the device that VERL_ENGINE_DEVICE=cpu names (conf/hardware/cpu.yaml). What it gives is what
veRL's own gives, up to the order of sums. Log-probabilities and entropies of tokens that no loss looks at,
those of prompts, are 0 (as TRL's `logits_to_keep` leaves them out), and rows are cut into micro-batches by
their prompts and lengths, which changes nothing, because a loss is a sum over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import verl.utils.experimental.torch_functional as fused
from tensordict import LazyStackedTensorDict, TensorDict
from torch.distributed.tensor import DTensor, Partial
from verl.utils import tensordict_utils as tu
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from recipe.on_verl.platforms import shared_prompts
from recipe.on_verl.platforms.shared_prompts import IGNORED, Row


class CountedTokens(fused.FusedLinearForPPO):
    """veRL's log-probabilities and entropies in blocks, of the tokens whose label is not `IGNORED` alone."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        vocab_weights: torch.Tensor,
        input_ids: torch.Tensor,
        temperature: float = 1.0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability of each label and entropy at its place; both 0 where the label is `IGNORED`.

        Args:
            hidden_states: (rows, tokens, width).
            vocab_weights: (vocabulary, width).
            input_ids: labels, (rows, tokens).
            temperature: the logits are divided by it.

        Returns:
            Two of (rows, tokens).
        """
        if isinstance(vocab_weights, DTensor):  # of an untied model: no forward pass has gathered it
            vocab_weights = vocab_weights.full_tensor(grad_placements=[Partial("avg")])
        counted = input_ids != IGNORED
        found = super().forward(hidden_states[counted], vocab_weights, input_ids[counted], temperature)
        log_probs, entropy = (
            torch.zeros(counted.shape, dtype=x.dtype).masked_scatter(counted, x) for x in found
        )
        return log_probs, entropy


@EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")
class CpuEngine(FSDPEngineWithLMHead):
    """veRL's engine, with less padding and a smaller output layer."""

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        """veRL's, and the labels of the tokens that count, where it leaves them to the model; groups of rows
        with one prompt as one row."""
        inputs, arguments = super().prepare_model_inputs(micro_batch)
        if not tu.get_non_tensor_data(micro_batch, "use_fused_kernels", False) or "shift_labels" in inputs:
            return inputs, arguments
        labels = inputs["shift_labels"] = labels_of(micro_batch["input_ids"], micro_batch["loss_mask"])
        if rows := self._shared(micro_batch["input_ids"], labels):
            padding = tu.get_non_tensor_data(micro_batch, "pad_token_id", 0)
            packed = shared_prompts.pack(micro_batch["input_ids"], labels, rows, padding)
            arguments["places"] = packed.places
            inputs |= {
                "input_ids": packed.input_ids, "attention_mask": packed.attention_mask,
                "position_ids": packed.position_ids, "shift_labels": packed.labels,
            }  # fmt: skip
        return inputs, arguments

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, torch.Tensor]:
        """veRL's, of rows that are as they were given."""
        if "places" in output_args:
            for name in ("log_probs", "entropy"):
                output[name] = shared_prompts.unpack(output[name], output_args["places"])
        return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)

    def _shared(self, input_ids: torch.Tensor, labels: torch.Tensor) -> list[Row]:
        """What the rows share; none where it is not worth it or the model would not understand it."""
        if not shared_prompts.understood_by(self.module.config):
            return []
        rows = shared_prompts.rows_of(input_ids, labels)
        return rows if shared_prompts.worth_sharing(rows) else []

    def forward_backward_batch(
        self, data: TensorDict, loss_function: Callable[..., Any], forward_only: bool = False
    ) -> dict[str, Any]:
        """veRL's, of the rows by prompts and lengths; what is returned is in the order of ``data``.

        Packed rows are left to veRL, and so is what counts rows: there is no padding, or no limit of tokens.
        """
        by_tokens, packed = (
            tu.get_non_tensor_data(data, f"use_{name}", True) for name in ("dynamic_bsz", "remove_padding")
        )
        if packed or not by_tokens or len(data) == 1:
            return super().forward_backward_batch(data, loss_function, forward_only)
        data = without_objects(data)
        found = self._shared(data["input_ids"], labels_of(data["input_ids"], data["loss_mask"])) or [
            Row(i, 0, n) for i, n in enumerate(data["input_ids"].offsets().diff().tolist())
        ]
        order = shared_prompts.in_order(found)
        parts = self._most(number_of_parts([found[i] for i in order], data["max_token_len_per_gpu"]))
        rows = tu.index_select_tensor_dict(data, torch.tensor(order))
        tu.assign_non_tensor(rows, use_dynamic_bsz=False, micro_batch_size_per_gpu=len(order) // parts)
        output = super().forward_backward_batch(rows, loss_function, forward_only)
        back = torch.tensor(order).argsort().tolist()
        for name, values in output["model_output"].items():
            of_rows = values.unbind()
            output["model_output"][name] = torch.nested.as_nested_tensor(
                [of_rows[i] for i in back], layout=torch.jagged
            )
        return output

    def _most(self, parts: int) -> int:
        """Over all ranks, which have as many rows each and must go through as many micro-batches."""
        found = torch.tensor(parts)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX, self.get_data_parallel_group())
        return int(found)


def without_objects(data: TensorDict) -> TensorDict:
    """The columns that a model or a loss looks at.

    Objects, one a row (a group's name, gold labels), are not, and are copied one by one wherever rows are
    moved, which took a third of a step.
    """
    objects = {key for key, values in data.items() if isinstance(values, LazyStackedTensorDict)}
    return data.select(*(data.keys() - objects | {"multi_modal_inputs"}), strict=False)


def labels_of(input_ids: torch.Tensor, loss_mask: torch.Tensor) -> torch.Tensor:
    """What every token is to be followed by, where the loss looks at that.

    Args:
        input_ids: nested, a row's tokens.
        loss_mask: nested; of a row's last tokens, or of them all: 1 where the loss looks at a token.

    Returns:
        (rows, longest): the next token where it counts, else `IGNORED`.
    """
    longest = int(input_ids.offsets().diff().max())
    labels = torch.full((input_ids.size(0), longest), IGNORED)
    for label, row, mask in zip(labels, input_ids.unbind(), loss_mask.unbind(), strict=True):
        counted = torch.zeros(len(row), dtype=torch.bool)
        counted[len(row) - len(mask) :] = mask.bool()
        label[: len(row) - 1] = torch.where(counted[1:], row[1:], IGNORED)
    return labels


def number_of_parts(rows: Sequence[Row], most_tokens: int) -> int:
    """Into how many micro-batches of as many rows each ordered rows are cut.

    Args:
        rows: in the order of `recipe.on_verl.platforms.shared_prompts.in_order`.
        most_tokens: that a micro-batch may hold, padding included; a row alone may hold more.

    Returns:
        The smallest number that divides them and fits.
    """
    number = len(rows)
    for parts in range(1, number):
        size, rest = divmod(number, parts)
        if rest == 0 and all(
            shared_prompts.packed_tokens(rows[i : i + size]) <= most_tokens for i in range(0, number, size)
        ):
            return parts
    return number


def install() -> None:
    """Give the model's forward pass, which looks the class up where it is used, ours."""
    fused.FusedLinearForPPO = CountedTokens
