"""SFT trains the very tokens that RL samples: prompt as for rollouts, response as text, loss on it alone."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoTokenizer

from recipe.on_verl.sft_dataset import ResponseDataset, encode

PROMPT = [{"role": "system", "content": "You are Ann."}, {"role": "user", "content": "Bob: hello there"}]
RESPONSE = "<think>Bob is joy.</think>\n{'last_emotions': {'joy': 1.0}, 'my_output': 'hello'}"
# As thinking models do: a past think block is dropped from an assistant's turn.
STRIPPING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{{ m['content'].split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if no_thinking is defined and no_thinking %}{{ '<think></think>' }}{% endif %}{% endif %}"
)


@pytest.fixture
def stripping(tokenizer_folder):
    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder))
    tokenizer.chat_template = STRIPPING
    return tokenizer


def write(path, *responses: str) -> str:
    table = [{"prompt": PROMPT, "response": response, "data_source": "meld"} for response in responses]
    pq.write_table(pa.Table.from_pylist(table), path)
    return str(path)


def config(limit: int = 500, **template):
    return OmegaConf.create({"max_length": limit, "apply_chat_template_kwargs": template or None})


def parts(tokenizer, item) -> tuple[str, str]:
    mask = item["loss_mask"].bool()
    return tokenizer.decode(item["input_ids"][~mask]), tokenizer.decode(item["input_ids"][mask])


RENDERED = (
    "<|im_start|>system\nYou are Ann.<|im_end|>\n<|im_start|>user\nBob: hello there<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@pytest.mark.parametrize("template", ["chatml", "stripping"])
def test_tokens_and_mask(tmp_path, request, tokenizer, template):
    used = tokenizer if template == "chatml" else request.getfixturevalue("stripping")
    data = ResponseDataset(write(tmp_path / "a.parquet", RESPONSE), used, config())
    (item,) = [data[i] for i in range(len(data))]
    assert set(item) == {"input_ids", "position_ids", "loss_mask"}
    n = len(item["input_ids"])
    assert all(value.shape == (n,) and value.dtype == torch.int64 for value in item.values())
    assert torch.equal(item["position_ids"], torch.arange(n))
    # Both templates give the same: the think block is learned although one of them would strip it.
    assert parts(used, item) == (RENDERED, RESPONSE + "<|im_end|>")
    assert item["input_ids"][-1] == used.eos_token_id and item["loss_mask"][-1] == 1
    start = int(item["loss_mask"].argmax())
    assert item["loss_mask"].tolist() == [0] * start + [1] * (n - start)


def test_the_tokens_are_those_of_a_rollout(tokenizer):
    ids, start = encode(tokenizer, PROMPT, RESPONSE, {})
    rollout_prompt = tokenizer.apply_chat_template(
        PROMPT, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert ids[:start] == rollout_prompt
    assert ids[start:-1] == tokenizer(RESPONSE, add_special_tokens=False)["input_ids"]
    think, close = (tokenizer.convert_tokens_to_ids(tag) for tag in ("<think>", "</think>"))
    assert ids.count(think) == ids.count(close) == 1 and ids[start] == think


def test_template_options_reach_the_prompt(tmp_path, stripping):
    path = write(tmp_path / "a.parquet", RESPONSE)
    prompt, response = parts(stripping, ResponseDataset(path, stripping, config(no_thinking=True))[0])
    assert (prompt, response) == (RENDERED + "<think></think>", RESPONSE + "<|im_end|>")


def test_several_files_and_a_limit_of_samples(tmp_path, tokenizer):
    files = [write(tmp_path / "a.parquet", "one", "two"), write(tmp_path / "b.parquet", "three")]

    def responses(**more):
        data = ResponseDataset(OmegaConf.create(files), tokenizer, config(), **more)
        return [parts(tokenizer, data[i])[1].removesuffix("<|im_end|>") for i in range(len(data))]

    assert responses() == responses(max_samples=-1) == ["one", "two", "three"]
    assert responses(max_samples=2) == ["one", "two"]


def test_over_long_rows_raise_and_the_limit_itself_fits(tmp_path, tokenizer):
    path = write(tmp_path / "a.parquet", "hello", RESPONSE)
    longest = len(encode(tokenizer, PROMPT, RESPONSE, {})[0])
    assert len(ResponseDataset(path, tokenizer, config(longest))) == 2
    with pytest.raises(ValueError, match=rf"a.parquet, row 1: {longest} tokens, .*max_length={longest - 1}"):
        ResponseDataset(path, tokenizer, config(longest - 1))
