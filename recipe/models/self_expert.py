"""`expert=self`: the base model as its own expert, served while personas, labels and responses are asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.experts.client import Endpoint, ExpertError, Settings, settings_of
from data_prep.setting_types import shown
from recipe.models import hub, named, weights
from recipe.models.serve import served
from recipe.models.special_tokens import plain_messages
from recipe.run.flatten import plain


def is_self(config: Any) -> bool:
    """Whether a run's base model is its own expert."""
    return config.expert.kind == "self"


def experts_of(config: Any) -> Settings | None:
    """Checked settings of experts that are there before the run; None for the offline stand-in and `self`.

    Raises:
        ExpertError: they cannot be asked.
    """
    if not is_self(config):
        return settings_of(config.expert)
    if config.base.path == "builtin:tiny":
        raise ExpertError(
            "expert=self asks the base model, and the tiny model is made from the very answers; choose "
            "expert=offline, or another MODEL"
        )
    _settings(config, "http://127.0.0.1", "self")
    if config.trainer.device != "cpu" and os.environ.get("RAY_ADDRESS"):
        import torch

        wanted = config.actor_rollout_ref.rollout.tensor_model_parallel_size
        if (there := torch.cuda.device_count()) < wanted:
            raise ExpertError(
                f"expert=self serves the base model on this machine, which shows {there} GPUs of the "
                f"{wanted} wanted: start the run on a node with GPUs, or name experts (expert=mixed and "
                "their keys, expert=endpoint)"
            )
    return None


@contextmanager
def serving(config: Any, log: Path) -> Iterator[Settings]:
    """Serve the base model for the length of the block.

    Args:
        config: the composed configuration, whose `experts_of` is None.
        log: where the server's output goes.

    Yields:
        How to ask it. Its name holds its weights' digest, so that answers on disk are known again.
    """
    path = named.resolve(config.base.path)
    folder = str(hub.fetch(path).folder) if named.is_hub_id(path) else path
    context = min(config.expert.context, weights.context_length(folder))
    name = f"self-{weights.digest(folder)}"
    with served(folder, config, log, name=name, longest=context) as url:
        yield _settings(config, url, name, _of_tokenizer(folder))


def _of_tokenizer(folder: str) -> type[Settings]:
    """Settings whose requests are text to a model's tokenizer: the server would find control tokens in it.

    The last time an answer is asked for again, vLLM holds the model to the answer's form: a base that
    follows no instructions still says what it feels, and what the rule asks around it is given.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

    class Plain(Settings):
        def sent(self, messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
            return plain_messages(messages, tokenizer)

        def kept_under(self, endpoint: Endpoint) -> str:
            return endpoint.name  # its model's name holds the weights' digest, and the port is any

        def held_to(self, form: str) -> dict[str, Any]:
            return {"structured_outputs": {"regex": form}} if form else {}  # vLLM's own field

    return Plain


def _settings(config: Any, url: str, model: str, kind: type[Settings] = Settings) -> Settings:
    values = plain(config.expert)
    context = values.pop("context", None)
    if type(context) is not int or context < 1:
        raise ExpertError(f"expert.context={shown(context)} must be a whole number, at least 1")
    return kind.of({**values, "endpoints": [{"name": "self", "base_url": url, "model": model}]})
