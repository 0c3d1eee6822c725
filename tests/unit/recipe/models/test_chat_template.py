"""Chat templates: SFT learns the tokens that rollouts sample, with the think block once; some are refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from transformers import AutoTokenizer

from recipe.models import chat_template, named, weights
from recipe.models.chat_template import check_template
from recipe.models.weights import ModelError
from recipe.on_verl.sft_dataset import encode
from rewards.labels import LABELS
from rewards.parse import parse_output
from tests.unit.composed import composed

TEMPLATES = Path(__file__).parent / "templates"
PROMPT = [{"role": "system", "content": "You are Ann."}, {"role": "user", "content": "Bob: hello there"}]
ANSWER = (
    "<think>Bob sounds glad.\n\nAnn is calm.</think>\n"
    "{'last_emotions': {'joy': 0.9}, 'my_emotions': {'neutral': 1.0}, 'my_output': 'Hello, Bob.'}"
)
#: Template -> token that ends a turn, and the prompt written out by hand.
CHATML_PROMPT = (
    "<|im_start|>system\nYou are Ann.<|im_end|>\n<|im_start|>user\nBob: hello there<|im_end|>\n"
    "<|im_start|>assistant\n"
)
KNOWN = {
    "qwen3": ("<|im_end|>", CHATML_PROMPT),
    "chatml": ("<|im_end|>", CHATML_PROMPT),
    "llama3": (
        "<|eot_id|>",
        "<|begin|><|start_header_id|>system<|end_header_id|>\n\nYou are Ann.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBob: hello there<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
}


@pytest.fixture
def with_template(tokenizer_folder):
    """A small tokenizer with one of the templates, and the special tokens that go with it."""

    def make(name: str, end: str = "<|im_end|>"):
        tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder))
        tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text()
        tokenizer.add_special_tokens({"bos_token": "<|begin|>", "eos_token": end})
        return tokenizer

    return make


@pytest.mark.parametrize("name", KNOWN)
def test_sft_learns_what_a_rollout_samples(with_template, name):
    from verl.utils.tokenizer.continuous_token import ContinuousTokenBuilder

    end, written = KNOWN[name]
    tokenizer = with_template(name, end)
    check_template(tokenizer, {}, name)
    ids, start = encode(tokenizer, PROMPT, ANSWER, {})
    # The prompt as veRL's agent loop makes it, and an answer as vLLM would return it.
    builder = ContinuousTokenBuilder(tokenizer, chat_template_kwargs={})
    prompt_ids = builder.build_initial_tokens(PROMPT)
    sampled = [*tokenizer(ANSWER, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert ids == builder.merge_assistant_tokens(prompt_ids, sampled).token_ids
    # The loss lies on the answer and the token that ends its turn, on nothing else.
    assert ids[:start] == prompt_ids and ids[start:] == sampled
    assert tokenizer.decode(ids[:start]) == written
    assert tokenizer.decode(ids[start:]) == ANSWER + end
    assert tokenizer.decode(ids).count("<think>") == tokenizer.decode(ids).count("</think>") == 1
    # What the reward reads keeps the rule.
    read = tokenizer.decode(ids[start:], skip_special_tokens=True)
    assert read == ANSWER and parse_output(read, LABELS["meld"]).valid


def test_qwen3_s_template_would_rewrite_the_answer(with_template):
    # Why SFT appends the answer as text: rendered as a turn, it is not what was sampled, and as a past
    # turn its think block is gone.
    tokenizer = with_template("qwen3")
    turn = {"role": "assistant", "content": ANSWER}

    def rendered(messages):
        return tokenizer.apply_chat_template(messages, tokenize=False).removeprefix(CHATML_PROMPT)

    assert rendered([*PROMPT, turn]).startswith("<think>\nBob sounds glad.\n\nAnn is calm.\n</think>\n\n{")
    past = rendered([*PROMPT, turn, {"role": "user", "content": "Bob: bye"}])
    assert past.startswith("{'last_emotions'") and "<think>" not in past
    separate = turn | {"content": "Hello.", "reasoning_content": "Bob is glad."}
    assert rendered([*PROMPT, separate]) == "<think>\nBob is glad.\n</think>\n\nHello.<|im_end|>\n"


def test_a_think_block_in_the_prompt_is_refused(with_template):
    tokenizer = with_template("qwen3")
    check_template(tokenizer, {"enable_thinking": True}, "m")
    with pytest.raises(ModelError, match="MODEL=m writes <think> into the prompt.*enable_thinking"):
        check_template(tokenizer, {"enable_thinking": False}, "m")
    # With it, the sequence would hold two blocks and the answer that is read none of its own.
    ids, start = encode(tokenizer, PROMPT, ANSWER, {"enable_thinking": False})
    assert tokenizer.decode(ids[:start]) == CHATML_PROMPT + "<think>\n\n</think>\n\n"
    assert parse_output(ANSWER.partition("</think>")[2], LABELS["meld"]).reason == "no_think"
    # So do templates that open a block for the model to go on with.
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant\\n' -", "assistant\\n<think>\\n' -")
    with pytest.raises(ModelError, match="writes <think> into the prompt"):
        check_template(tokenizer, {}, "m")


def test_templates_without_a_system_message_are_refused(with_template):
    tokenizer = with_template("no_system")
    with pytest.raises(ModelError, match="MODEL=m takes no system .*System role not supported"):
        check_template(tokenizer, {}, "m")
    user_only = tokenizer.apply_chat_template(PROMPT[1:], tokenize=False, add_generation_prompt=True)
    assert user_only == (
        "<|begin|><start_of_turn>user\nBob: hello there<end_of_turn>\n<start_of_turn>model\n"
    )
    tokenizer.chat_template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(ModelError, match="drops the system message"):
        check_template(tokenizer, {}, "m")


DATED = "{%- if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"


def test_a_template_that_writes_the_date_is_told(with_template, capsys):
    tokenizer = with_template("chatml")
    check_template(tokenizer, {}, "m")
    assert capsys.readouterr().err == ""
    tokenizer.chat_template = DATED + "Today: {{ date_string }}\n" + tokenizer.chat_template
    check_template(tokenizer, {"date_string": "26 Jul 2024"}, "m")
    assert capsys.readouterr().err == ""
    check_template(tokenizer, {}, "m")
    assert "MODEL=m writes the date into every prompt" in capsys.readouterr().err


def test_a_template_that_does_not_end_is_refused(with_template, monkeypatch):
    monkeypatch.setattr(chat_template, "PATIENCE", 0.2)
    tokenizer = with_template("chatml")
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    tokenizer.chat_template = endless + tokenizer.chat_template
    with pytest.raises(ModelError, match="MODEL=m does not end within 0.2 s"):
        check_template(tokenizer, {}, "m")


def test_code_of_a_model_s_own_is_not_run(with_template, tmp_path):
    folder = tmp_path / "m"
    with_template("chatml").save_pretrained(folder)
    auto = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": ["evil.T", None]}
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        content |= {"auto_map": auto, "model_type": "evil", "tokenizer_class": "Evil"}
        (folder / name).write_text(json.dumps(content))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for use in (
        lambda: named.resolve(str(folder)),
        lambda: weights.count_parameters(str(folder)),
        lambda: chat_template.check_model(str(folder), {}, "m"),
    ):
        with contextlib.suppress(ModelError):
            use()
    assert not (tmp_path / "ran").exists()


def test_tokenizers_that_cannot_be_used(with_template):
    tokenizer = with_template("chatml")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    with pytest.raises(ModelError, match="<think> among its special tokens"):
        check_template(tokenizer, {}, "m")
    tokenizer = with_template("chatml")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-text token"):
        check_template(tokenizer, {}, "m")
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        check_template(tokenizer, {}, "m")


def test_the_options_count_towards_the_prompt_s_length(with_template, tmp_path, make_prompt_row):
    from data_prep.prompt import load_templates
    from recipe.models.fit_prompts import fit_rows

    with_template("qwen3").save_pretrained(tmp_path)
    row = make_prompt_row()

    def cut(limit: int, **options) -> int:
        data = {"max_prompt_length": limit, "apply_chat_template_kwargs": options}
        return fit_rows([row], tmp_path, OmegaConf.create({"data": data}), load_templates("compact"))[1]

    exact = encode(with_template("qwen3"), row["prompt"], "", {})[1]
    assert (cut(exact), cut(exact - 1)) == (0, 1)
    assert cut(exact, enable_thinking=False) == 1  # the empty block is part of the prompt


def test_sft_renders_prompts_with_the_options_of_rl():
    from recipe.run.sft_config import sft_config

    config = composed("+data.apply_chat_template_kwargs.enable_thinking=true")
    assert sft_config(config.sft).data.apply_chat_template_kwargs == {"enable_thinking": True}
