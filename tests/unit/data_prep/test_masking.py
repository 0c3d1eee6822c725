"""Credentials are known by their names and addresses, and nothing else is touched."""

from __future__ import annotations

import pytest

from data_prep.masking import MASK, is_secret, masked, masked_url, masked_words, without_outside


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "MY_SECRETS", "api_key", "apikey",
     "wandb_token", "token", "access_token", "client_secret", "password", "private_key"],
)  # fmt: skip
def test_what_is_a_credential(name):
    assert is_secret(name) and masked({"env": {name: "planted"}}) == {"env": {name: MASK}}


@pytest.mark.parametrize(
    "name",
    ["prompt_key", "reward_fn_key", "image_key", "key", "max_tokens", "tokenizer", "tokenizer_path",
     "ppo_max_token_len_per_gpu", "OMP_NUM_THREADS", "VLLM_HOST_IP", "TOKENIZERS"],
)  # fmt: skip
def test_what_is_none(name):
    value = 5 if name == "TOKENIZERS" else "prompt"
    assert masked({name: value}) == {name: value}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:pw@host:1/v1?key=x&a=b", "https://***@host:1/v1?***"),
        ("see http://host/v1, and ftp://u@h/x", "see http://host/v1, and ftp://***@h/x"),
        ("https://host/v1", "https://host/v1"),
        ("pkg://rewards.iou", "pkg://rewards.iou"),
        ("what? nothing: a@b", "what? nothing: a@b"),
    ],
)
def test_addresses_have_no_credentials(text, shown):
    assert masked_url(text) == shown and masked([text]) == [shown]


def test_words_of_a_command():
    command = "python -m x env.HF_TOKEN=a 'b.api_key=c' data.prompt_key=prompt n=1"
    shown = "python -m x env.HF_TOKEN=*** 'b.api_key=***' data.prompt_key=prompt n=1"
    assert masked_words(command) == shown


def test_references_to_the_settings_themselves_stay_and_others_go():
    given = {"a": "${b.c}", "d": ["${oc.select:b.c,null}", "${oc.env:HOME}", "x${oc.env:A,1}"], "e": 1}
    given |= {"f": "${oc.select:b.c,${oc.env:HOME}}", "g": "${oc.decode:1}", "h": "${ oc.env : HOME}"}
    assert without_outside(given) == {
        "a": "${b.c}", "d": ["${oc.select:b.c,null}", MASK, MASK], "e": 1, "f": MASK, "g": MASK, "h": MASK
    }  # fmt: skip
    assert masked({"env": {"HF_TOKEN": "${oc.env:HF_TOKEN}"}}) == {"env": {"HF_TOKEN": "${oc.env:HF_TOKEN}"}}
