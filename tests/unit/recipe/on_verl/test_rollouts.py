"""Rollouts of whole groups: what reaches TransferQueue is what veRL's trainer reads of its own agent loop."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.utils.tensordict_utils import get_tensordict

from recipe.on_verl import rollouts
from rewards.iou import compute_score

PROMPT = [{"role": "system", "content": "You are Ann."}, {"role": "user", "content": "Bob: hello there"}]
TRUTH = {"joy": 1.0}
RIGHT = (
    "<think>Bob sounds joy.</think>\n"
    "{'last_emotions': {'joy': 1.0}, 'my_emotions': {'joy': 1.0}, 'my_output': 'hello'}"
)


class Servers:
    """In place of veRL's client and vLLM: even requests answer right, odd ones break the rule."""

    def __init__(self, tokenizer):
        self.tokenizer, self.asked, self.busy = tokenizer, [], set()
        self.generate_group = SimpleNamespace(remote=self.answers)

    async def _acquire_server(self, request_id, **_):
        self.busy.add(request_id)
        return "one", self

    def _release_server(self, name, request_id):
        self.busy.remove(request_id)

    async def answers(self, n, prompt_ids, sampling_params, request_id):
        assert request_id in self.busy
        return [self.answer(prompt_ids, sampling_params, f"{request_id}_{i}") for i in range(n)]

    def answer(self, prompt_ids, sampling_params, request_id):
        text = "no rule is kept" if len(self.asked) % 2 else RIGHT
        self.asked.append((request_id, prompt_ids, sampling_params))
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return SimpleNamespace(token_ids=ids, log_probs=[-0.5] * len(ids), extra_fields={"global_steps": 4})


@pytest.fixture
def made(tokenizer_folder, monkeypatch):
    """The manager, its servers, and what it put: (partition, keys, fields, tags) of every call."""
    config = OmegaConf.create(
        {
            "data": {"apply_chat_template_kwargs": {}},
            "reward": {
                "custom_reward_function": {"path": "pkg://rewards.iou", "name": "compute_score"}
            },
            "actor_rollout_ref": {
                "model": {"path": str(tokenizer_folder)},
                "rollout": {
                    "n": 2, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "response_length": 400,
                    "calculate_log_probs": True,
                    "val_kwargs": {"n": 1, "temperature": 0, "top_p": 1.0, "top_k": -1},
                },
            },
        }
    )  # fmt: skip
    servers, put = Servers(AutoTokenizer.from_pretrained(str(tokenizer_folder))), []

    def keep(keys, tags, partition_id, fields=None):
        put.append((partition_id, keys, fields, tags))

    monkeypatch.setattr(rollouts.tq, "kv_batch_put", keep)
    return rollouts.GroupedRollouts.create(config, servers), servers, put


def prompts(validate: bool):
    def column(*values):
        return np.array(values, dtype=object)

    return get_tensordict(
        {
            "raw_prompt": column(PROMPT, PROMPT),
            "uid": column("a", "b"),
            "data_source": column("meld", "meld"),
            "reward_model": column({"ground_truth": TRUTH}, {"ground_truth": TRUTH}),
            "extra_info": column({"row_id": "1"}, {"row_id": "2"}),
            "agent_name": column("single_turn_agent", "single_turn_agent"),
        },
        {"global_steps": 4, "validate": validate},
    )


def test_a_group_of_every_prompt_is_stored_with_its_reward_on_the_last_token(made):
    manager, servers, put = made
    manager.generate_sequences(prompts(validate=False))
    (partition, keys, fields, tags), (_, uids, none, finished) = put
    assert partition == "train" and keys == ["a_0_0", "a_1_0", "b_0_0", "b_1_0"]
    assert (uids, none, finished) == (["a", "b"], None, [{"status": "finished"}] * 2)
    assert len({request for request, *_ in servers.asked}) == 4 and not servers.busy
    for i in range(4):
        row = fields[i]
        text = servers.tokenizer.decode(row["responses"], skip_special_tokens=True)
        expected = compute_score("meld", text, TRUTH, {"row_id": "1"})
        assert (expected["valid"] == 1) is (i % 2 == 0)
        assert row["rm_scores"][-1].item() == pytest.approx(expected["score"])
        assert not row["rm_scores"][:-1].any()
        assert torch.equal(row["input_ids"], torch.cat([row["prompts"], row["responses"]]))
        assert len(row["rollout_log_probs"]) == len(row["response_mask"]) == len(row["responses"])
        assert row["prompts"].tolist() == servers.asked[i][1]
        assert tags[i] == {
            "status": "success", "seq_len": len(row["input_ids"]), "prompt_len": len(row["prompts"]),
            "response_len": len(row["responses"]), "global_steps": 4,
            "min_global_steps": 4, "max_global_steps": 4,
        }  # fmt: skip


def test_validation_asks_as_its_own_settings_say(made):
    manager, servers, put = made
    manager.generate_sequences(prompts(validate=True))
    assert put[0][:2] == ("val", ["a_0_0", "b_0_0"])
    assert [sampling["temperature"] for *_, sampling in servers.asked] == [0, 0]
