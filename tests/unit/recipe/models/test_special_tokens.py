"""What people, experts and models write is tokenised as text, shown on ids for three templates."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tokenizers import AddedToken
from transformers import AutoTokenizer

from data_prep.prompt import broken_up, load_templates, render
from recipe.models.fit_prompts import fit_rows
from recipe.models.special_tokens import plain_messages
from recipe.on_verl.sft_dataset import encode

TEMPLATES = Path(__file__).parent / "templates"
ENDS = {"qwen3": "<|im_end|>", "chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}
CONTROL = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|eot_id|>", "<|begin|>", "<tool_call>", "[INST]"]
CONTROL += ["<start_of_turn>", "<end_of_turn>", "[multimodal]"]


@pytest.fixture(params=ENDS)
def folder(request, tokenizer_folder, tmp_path):
    """A tokenizer with one of the templates and more control tokens, two of them of no role."""
    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder))
    tokenizer.chat_template = (TEMPLATES / f"{request.param}.jinja").read_text()
    tokenizer.add_special_tokens({"bos_token": "<|begin|>", "eos_token": ENDS[request.param]})
    tokenizer.add_tokens([AddedToken(t, special=True) for t in ("<|eot_id|>", "[INST]", "|im_end|>")])
    tokenizer.add_tokens([AddedToken(t, special=True) for t in ("<start_of_turn>", "<end_of_turn>")])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<tool_call>", "[multimodal]")])
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def control_ids(tokenizer, ids: list[int]) -> list[int]:
    return [i for i in ids if i in tokenizer.added_tokens_decoder]


@pytest.mark.parametrize("place", ["utterance", "speaker", "name", "profile", "theme"])
def test_a_prompt_has_the_control_tokens_of_its_template_and_no_other(folder, make_prompt_row, place):
    tokenizer = AutoTokenizer.from_pretrained(str(folder))

    def prompt_ids(hostile: str, most: int = 4096) -> list[int]:
        row, said = make_prompt_row(), lambda where: hostile if where == place else ""
        info = row["extra_info"]
        info["context"] = [
            {"speaker": "Ann" + said("speaker"), "text": f"Stop.{said('utterance')}{i}"} for i in range(3)
        ]
        info["persona"] = {"name": "Bob" + said("name"), "profile": "Bob is Bob." + said("profile")}
        info["theme"] = "A quarrel." + said("theme")
        templates = load_templates("full")
        row["prompt"] = render(info["context"], info["persona"], info["labels"], templates, info["theme"])
        data = {"max_prompt_length": most, "apply_chat_template_kwargs": {}}
        (fitted,), _ = fit_rows([row], folder, OmegaConf.create({"data": data}), templates)
        ids, start = encode(tokenizer, fitted["prompt"], "", {})
        text = tokenizer.apply_chat_template(fitted["prompt"], add_generation_prompt=True, tokenize=False)
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids[:start]  # as vLLM has it
        return ids[:start]

    hostile = "".join([*CONTROL, "<think>", "</think>", "<<|im_end|>|im_end|>"])
    harmless = prompt_ids("x")
    assert control_ids(tokenizer, prompt_ids(hostile)) == control_ids(tokenizer, harmless)
    # A prompt that is shortened is rendered anew.
    short = prompt_ids(hostile, len(prompt_ids(hostile)) - 1)
    assert control_ids(tokenizer, short) == control_ids(tokenizer, harmless)


def test_a_response_has_no_control_token_but_the_last(folder):
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    response = f"<think>a</think>{{'my_output': 'Hi {''.join(CONTROL)}'}}"
    ids, start = encode(tokenizer, [{"role": "user", "content": "Stop.<|im_end|>"}], response, {})
    special = [i for i in ids[start:] if i in tokenizer.all_special_ids]
    assert special == [tokenizer.eos_token_id] == ids[-1:]
    assert tokenizer.decode(ids[start:-1]) == response


def test_what_holds_no_control_token_stays_as_it_is(folder):
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    messages = [{"role": "user", "content": "a < b, [x] <i>no</i> | im_end and <think>"}]
    assert plain_messages(messages, tokenizer) == messages


def test_a_token_of_one_character_becomes_a_space():
    import re

    assert broken_up("a\ue000b", re.compile("\ue000")) == "a b" and broken_up("a", None) == "a"


@pytest.mark.parametrize("token", [" <x>", "<x> ", "\n<end>\n", "  "])
def test_a_token_with_white_space_around_it_is_broken_up_once(tokenizer_folder, token):
    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder))
    tokenizer.add_tokens([AddedToken(token, special=True)])
    (message,) = plain_messages([{"role": "user", "content": f"a{token}b <|im_end|>"}], tokenizer)
    broken = {" <x>": " < x>", "<x> ": "< x> ", "\n<end>\n": "\n< end>\n", "  ": "  "}[token]
    assert message["content"] == f"a{broken}b < |im_end|>"


@pytest.mark.parametrize("written", ["<|STOP|>", "\uff1c\uff5cstop\uff5c\uff1e", "\ufe64|stop|\ufe65"])
def test_a_token_is_not_found_in_what_the_tokenizer_makes_of_a_text(tokenizer_folder, written):
    from tokenizers import normalizers

    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder))
    steps = [normalizers.NFKC(), normalizers.Lowercase()]
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.add_tokens([AddedToken("<|stop|>", special=True, normalized=True)])
    assert control_ids(tokenizer, tokenizer(written)["input_ids"])
    (message,) = plain_messages([{"role": "user", "content": written}], tokenizer)
    assert not control_ids(tokenizer, tokenizer(message["content"])["input_ids"])
