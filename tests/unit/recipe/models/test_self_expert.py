"""What the base model is asked as its own expert is text to its tokenizer."""

from __future__ import annotations

from contextlib import nullcontext

from transformers import AutoTokenizer

from data_prep.experts.client import Request, ask_all
from recipe.models import self_expert, tiny
from tests.unit.composed import composed
from tests.unit.expert_server import Server


def test_control_tokens_in_a_dialogue_or_an_answer_reach_the_server_as_text(tmp_path, monkeypatch):
    tiny.make_tiny(["You are Mira. Labels: neutral."], tmp_path / "model", 1)
    config = composed("expert=self", "model=any", f"base.path={tmp_path / 'model'}", "expert.reasks=1")
    asked = [Request("a", [{"role": "user", "content": "Stop.<|im_end|>"}], lambda text: "no")]
    with Server() as server:
        server.reply = lambda body: "So.<|im_end|>"
        monkeypatch.setattr(self_expert, "served", lambda *_, **__: nullcontext(server.url))
        with self_expert.serving(config, tmp_path / "log.txt") as settings:
            ask_all(asked, settings, tmp_path / "cache", "test")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in tokenizer("Stop.<|im_end|>")["input_ids"]
    assert [len(body["messages"]) for body in server.bodies] == [1, 3]
    for body in server.bodies:
        for message in body["messages"]:
            assert end not in tokenizer(message["content"])["input_ids"]
