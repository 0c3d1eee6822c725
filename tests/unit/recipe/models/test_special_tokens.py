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
ENDS = {"qwen3": "<|im_end|>", "chatml": "<|im_end|>", "llama3": "<|eot_id|>"}
CONTROL = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|eot_id|>", "<|begin|>", "<tool_call>", "[INST]"]


@pytest.fixture(params=ENDS)
def folder(request, tokenizer_folder, tmp_path):
    """A tokenizer with one of the templates and more control tokens, two of them of no role."""
    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder))
    tokenizer.chat_template = (TEMPLATES / f"{request.param}.jinja").read_text()
    tokenizer.add_special_tokens({"bos_token": "<|begin|>", "eos_token": ENDS[request.param]})
    tokenizer.add_tokens([AddedToken(t, special=True) for t in ("<|eot_id|>", "[INST]", "|im_end|>")])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False)])
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
