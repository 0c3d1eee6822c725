"""What the base model is asked as its own expert is text to its tokenizer; at last it is held to a form."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

from transformers import AutoTokenizer

from data_prep.experts.client import Request, ask_all
from recipe.models import self_expert, tiny
from tests.unit.composed import composed
from tests.unit.expert_server import Server


@contextmanager
def asked(folder, monkeypatch, *overrides: str, seed: int = 1):
    """How `serving` asks a tiny model in ``folder``, and a server in the place of vLLM's."""
    tiny.make_tiny(["You are Mira. Labels: neutral."], folder, seed)
    config = composed("expert=self", "model=any", f"base.path={folder}", *overrides)
    with Server() as server:
        monkeypatch.setattr(self_expert, "served", lambda *_, **__: nullcontext(server.url))
        with self_expert.serving(config, folder / "log.txt") as settings:
            yield server, settings


def test_control_tokens_in_a_dialogue_or_an_answer_reach_the_server_as_text(tmp_path, monkeypatch):
    one = [Request("a", [{"role": "user", "content": "Stop.<|im_end|>"}], lambda text: "no")]
    with asked(tmp_path / "model", monkeypatch, "expert.reasks=1") as (server, settings):
        server.reply = lambda body: "So.<|im_end|>"
        ask_all(one, settings, tmp_path / "cache", "test")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in tokenizer("Stop.<|im_end|>")["input_ids"]
    assert [len(body["messages"]) for body in server.bodies] == [1, 3]
    for body in server.bodies:
        for message in body["messages"]:
            assert end not in tokenizer(message["content"])["input_ids"]


def test_the_last_time_it_is_held_to_the_answer_s_form_and_that_is_counted(tmp_path, monkeypatch, capsys):
    check = lambda text: None if text == "fine" else "it is not fine"  # noqa: E731
    of_two = [Request(name, [{"role": "user", "content": name}], check, "fi[n]e") for name in ("a", "b")]
    with asked(tmp_path / "model", monkeypatch, "expert.concurrency=1") as (server, settings):
        server.reply = lambda body: (
            "fine" if "structured_outputs" in body or body["messages"][0]["content"] == "b" else "well"
        )
        answers = ask_all(of_two, settings, tmp_path / "cache", "test")
        again = ask_all(of_two, settings, tmp_path / "cache", "test")
    assert {name: text for name, (_, text) in answers.texts.items()} == {"a": "fine", "b": "fine"}
    assert (answers.asked, answers.held) == (4, 1) and "2 answers, 1 of them held to" in answers.summary("t")
    assert [body.get("structured_outputs") for body in server.bodies] == [
        *[None, None, {"regex": "fi[n]e"}],
        None,
    ]
    assert [len(body["messages"]) for body in server.bodies] == [1, 3, 1, 1]  # held, it starts anew
    assert (again.asked, again.cached, again.held) == (0, 4, 1)


def test_what_it_answered_is_known_again_at_another_port_and_not_with_other_weights(tmp_path, monkeypatch):
    one = [Request("a", [{"role": "user", "content": "a"}], lambda text: None)]
    ways = []
    for folder, seed in (("model", 1), ("again", 1), ("other", 2)):
        with asked(tmp_path / folder, monkeypatch, seed=seed) as (server, settings):
            found = ask_all(one, settings, tmp_path / "cache", "test")
            ways.append((server.url, found.asked, found.cached))
    assert len({url for url, *_ in ways}) == 3
    assert [way[1:] for way in ways] == [(1, 0), (0, 1), (1, 0)]


def test_without_a_second_time_or_a_form_nothing_is_held(tmp_path, monkeypatch):
    def ask(form, *overrides):
        request = Request("a", [{"role": "user", "content": "a"}], lambda text: "no", form)
        folder = tmp_path / f"model{len(overrides)}"
        with asked(folder, monkeypatch, *overrides) as (server, settings):
            answers = ask_all([request], settings, folder / "cache", "test")
            return answers.held, [set(body) - {"model", "messages", "temperature"} for body in server.bodies]

    assert ask("fine", "expert.reasks=0") == (0, [{"max_tokens"}])
    assert ask("") == (0, 3 * [{"max_tokens"}])
