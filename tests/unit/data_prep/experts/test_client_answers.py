"""What an expert's answer may look like, and what becomes of one that cannot be used."""

from __future__ import annotations

import json

import pytest

from data_prep.experts.client import Endpoint, ExpertError, ask_all
from tests.unit.expert_requests import error, requests, settings

DICT = "{'last_emotions': {'joy': 1}, 'my_emotions': {'joy': 1}, 'my_output': 'Hi'}"


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning_content": "Bob sounds angry.", "content": DICT},
        {"reasoning": "Bob sounds angry.", "content": [{"type": "text", "text": DICT}]},
        {"content": [{"type": "thinking", "thinking": "Bob sounds angry."}, {"type": "text", "text": DICT}]},
        {"reasoning_content": "<think>Bob sounds angry.</think>", "content": f"\n\n{DICT}"},
        {"reasoning_content": "another", "content": f"<think>Bob sounds angry.</think>\n{DICT}"},
        {"reasoning_content": None, "content": ["<think>Bob sounds angry.</think>\n", DICT]},
        {"thinking": "Bob sounds angry.", "content": DICT},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Bob sounds angry."}], "content": DICT},
        {"thinking_blocks": [{"type": "thinking", "thinking": "Bob sounds angry."}], "content": DICT},
        {"reasoning_content": ["Bob sounds ", "angry."], "content": {"type": "text", "text": DICT}},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Bob sounds angry."}]},
                DICT,
            ]
        },
        {"content": [{"type": "reasoning", "summary": [{"text": "Bob sounds angry."}]}, {"text": DICT}]},
        {"content": [{"type": "reasoning_text", "text": "Bob sounds angry."}, {"text": DICT}]},
        {"content": [{"type": "Thought", "text": "Bob sounds angry."}, {"type": "text", "text": DICT}]},
        {"content": [{"thought": True, "text": "Bob sounds angry."}, {"text": DICT}]},
        {"reasoning": {"content": "Bob sounds angry."}, "content": [{"text": {"value": DICT}}]},
        {"content": f"Bob sounds angry.</think>\n{DICT}"},  # the chat template opened the block
        {"reasoning_content": "Bob sounds angry.", "content": f"</think>{DICT}"},
    ],
)
def test_all_of_an_answer_is_read(server, tmp_path, message):
    server.script = [{"message": {"role": "assistant", **message}}]
    answers = ask_all(requests(1), settings(server), tmp_path, "test")
    assert answers.texts == {"r0": ("one", f"<think>Bob sounds angry.</think>\n{DICT}")}


def test_a_second_tag_in_an_answer_whose_block_was_opened_elsewhere_stays(server, tmp_path):
    server.script = [{"message": {"content": f"a</think>b</think>{DICT}"}}]
    (text,) = ask_all(requests(1), settings(server), tmp_path, "test").texts.values()
    assert text[1] == f"<think>a</think>\nb</think>{DICT}"


@pytest.mark.parametrize("ended", ["length", "MAX_TOKENS", "max_output_tokens", "model_length"])
def test_an_answer_that_was_cut_is_asked_for_with_more_room_up_to_the_cap(server, tmp_path, ended):
    cut = {"message": {"content": None, "reasoning_content": "Hm, I"}, "finish_reason": ended}
    check = lambda text: None if text == "fine" else "it lacks a dictionary"  # noqa: E731
    server.script = [cut, cut]
    asked = settings(server, max_tokens_cap=1000)
    answers = ask_all(requests(1, check), asked, tmp_path / "a", "test")
    assert answers.texts == {"r0": ("one", "fine")}
    assert [body["max_tokens"] for body in server.bodies] == [100, 400, 1000]
    again = ask_all(requests(1, check), asked, tmp_path / "a", "test")
    assert (again.asked, again.texts) == (0, answers.texts)
    server.script = [cut] * 100
    (reject,) = ask_all(requests(1, check), asked, tmp_path / "b", "test").rejects
    assert reject["reason"] == "it was cut at expert.max_tokens_cap=1000, and it lacks a dictionary"
    server.script = [cut, (400, {"error": {"message": "longer than the model"}})]
    (reject,) = ask_all(requests(1, check), settings(server, reasks=0), tmp_path / "d", "test").rejects
    assert "cut at expert.max_tokens=100" in reject["reason"] and "longer than the model" in reject["reason"]
    server.script = [cut] * 100
    small = settings(server, max_tokens_cap=100, reasks=0)
    (reject,) = ask_all(requests(1, check), small, tmp_path / "c", "test").rejects
    assert "cut at expert.max_tokens=100" in reject["reason"]


def test_half_a_character_in_an_answer_can_be_kept(server, tmp_path):
    server.reply = lambda body: "fine \ud83d"
    (reject,) = ask_all(requests(1, lambda text: f"no {text}"), settings(server), tmp_path / "a", "t").rejects
    assert reject["answer"] == "fine \ufffd"


def test_half_a_character_in_a_complaint_can_be_sent(server, tmp_path):
    replies = iter(['{"\\ud83d": "x"}', "fine"])
    server.reply = lambda body: next(replies)
    check = lambda text: None if text == "fine" else f"it names {next(iter(json.loads(text)))}"  # noqa: E731
    answers = ask_all(requests(1, check), settings(server, retries=0), tmp_path, "test")
    assert answers.texts == {"r0": ("one", "fine")}
    assert "it names \ufffd. Answer again" in server.bodies[1]["messages"][-1]["content"]


@pytest.mark.parametrize("count", [10**400, 1e300, -5, True, "12", None, [1]])
def test_a_count_of_tokens_that_can_be_none_is_guessed(server, tmp_path, count):
    choices = [{"index": 0, "message": {"content": "fine"}}]
    server.script = [(200, {"choices": choices, "usage": {"prompt_tokens": count, "completion_tokens": 7}})]
    found = ask_all(requests(1), settings(server), tmp_path, "test")
    assert (found.prompt_tokens, found.answer_tokens) == pytest.approx((10 / 3.5, 7))


def test_a_refused_answer_is_asked_again_with_the_complaint_then_set_aside(server, tmp_path, capsys):
    replies = iter(["bad", "good"])
    server.reply = lambda body: next(replies)
    check = lambda text: None if text == "good" else "it is bad"  # noqa: E731
    answers = ask_all(requests(1, check), settings(server), tmp_path, "test")
    assert answers.texts == {"r0": ("one", "good")}
    roles = [(m["role"], m["content"]) for m in server.bodies[1]["messages"][1:]]
    assert roles[0] == ("assistant", "bad") and "it is bad" in roles[1][1]
    server.reply = lambda body: "still bad"
    answers = ask_all(requests(2, check), settings(server, reasks=1, temperature=0.1), tmp_path, "test")
    assert answers.texts == {} and answers.asked == 4
    assert "sent=4" in capsys.readouterr().err  # beside "2/2": something is seen while all are asked again
    assert answers.rejects[0] | {"name": ""} == {
        "name": "", "endpoint": "one", "reason": "it is bad", "answer": "still bad"
    }  # fmt: skip


def test_a_request_that_the_endpoint_refuses_is_set_aside(server, tmp_path):
    server.script = [400]
    answers = ask_all(requests(2), settings(server, concurrency=1), tmp_path, "test")
    assert len(answers.texts) == 1
    assert answers.rejects[0]["reason"] == "the endpoint refused the request (status 400: no: [the key])"


def test_what_an_endpoint_refused_after_a_complaint_names_both(server, tmp_path):
    server.script = ["ok", 400]
    server.reply = lambda body: "bad"
    answers = ask_all(requests(1, lambda text: "it is bad"), settings(server), tmp_path, "test")
    reason = answers.rejects[0]["reason"]
    assert reason == "it is bad; asked again: the endpoint refused the request (status 400: no: [the key])"
    with pytest.raises(ExpertError, match="test: none of 1 answers can be used; one ended with 'bad'"):
        answers.check_some("test")


def nested(depth: int) -> bytes:
    return b'{"error":' * depth + b'"x"' + b"}" * depth


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(400, "use 'max_completion_tokens' instead"), "set limit_name of expert.endpoints"),
        (
            error(400, "Unsupported parameter: 'max_tokens'"),
            "limit_name of expert.endpoints to max_completion",
        ),
        (error(400, "temperature must be 1"), "temperature must be 1); expert.temperature=null sends none"),
        (error(422, "too long"), "(status 422: too long)"),
        (error(413, "too much"), "(status 413: too much)"),
        (error(451, "by law"), "(status 451: by law)"),
        ((200, {"error": {"message": "odd", "code": 10**30}}), "odd"),
        ((200, nested(900)), "nested too deep"),
        ((200, {"error": "input rejected"}), "input rejected"),
        ((200, {"choices": []}), "it sent no choices"),
        ({"message": {"content": ""}, "finish_reason": "stop"}, "it sent no text"),
        ({"message": {"content": "a", "role": "x"}, "finish_reason": "content_filter"}, "content filter"),
        ({"message": {"content": "a"}, "finish_reason": "SAFETY"}, "content filter ended the answer"),
        ({"message": {"content": "a"}, "finish_reason": "content-filter"}, "content filter ended"),
        ({"message": {"content": None, "refusal": "I will not."}}, "I will not."),
        ({"message": {"content": [{"type": "refusal", "refusal": "I will not."}]}}, "I will not."),
        ({"message": {"content": None}, "finish_reason": "tool_calls"}, "no text (finish_reason=tool_calls)"),
        ((200, {"choices": None}), "it sent no choices"),
        (
            (200, {"choices": None, "base_resp": {"status_msg": "login"}}),
            "no choices ({'base_resp': {'status",
        ),
        ((200, {"choices": [None]}), "it sent no choices"),
        ({"message": None}, "it sent no text"),
    ],
)
def test_a_refusal_is_no_answer_and_is_asked_again_by_the_next_run(server, tmp_path, answer, said):
    server.script = ["ok", answer]
    first = ask_all(requests(2), settings(server, concurrency=1), tmp_path, "test")
    assert said in first.rejects[0]["reason"] and len(first.texts) == 1
    second = ask_all(requests(2), settings(server, concurrency=1), tmp_path, "test")
    assert (second.cached, second.asked, len(second.texts), second.rejects) == (1, 1, 2, [])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"message": {"content": "a"}, "finish_reason": "insufficient_system_resource"},
            "a fault ended the answer (finish_reason=insufficient_system_resource)",
        ),
        (
            {"message": {"content": "a"}, "finish_reason": "error", "error": {"message": "upstream broke"}},
            "upstream broke",
        ),
    ],
)
def test_an_answer_that_a_fault_broke_off_is_asked_for_again_at_once_and_then_set_aside(
    server, tmp_path, answer, said
):
    asking = settings(server, concurrency=1, retries=1)
    server.script = ["ok", answer]
    answers = ask_all(requests(2), asking, tmp_path / "a", "test")
    assert (len(answers.texts), answers.rejects, answers.faulted) == (2, [], [])
    server.script = ["ok", answer, answer]
    first = ask_all(requests(2), asking, tmp_path / "b", "test")
    assert said in first.rejects[0]["reason"] and len(first.texts) == 1
    assert first.faulted == [first.rejects[0]["name"]]
    second = ask_all(requests(2), asking, tmp_path / "b", "test")
    assert (second.cached, second.asked, len(second.texts), second.rejects) == (1, 1, 2, [])


@pytest.mark.parametrize(
    ("name", "words", "remedy"),
    [
        ("max_completion_tokens", "unknown field max_completion_tokens", "expert.endpoints to max_tokens"),
        ("max_completion_tokens", "use max_tokens", "expert.endpoints to max_tokens"),
        ("max_tokens", "max_tokens is too large: this model supports at most 4096", None),
    ],
)
def test_the_other_name_of_the_limit_is_advised_where_it_helps(server, tmp_path, name, words, remedy):
    endpoint = Endpoint("one", server.url, "m", "EXPERT_API_KEY", limit_name=name)
    server.script = [error(400, words)]
    (reject,) = ask_all(requests(1), settings(server, endpoints=(endpoint,)), tmp_path, "test").rejects
    assert reject["reason"].endswith(remedy or f"(status 400: {words})")


def test_a_refusal_that_an_older_version_kept_is_asked_again(server, tmp_path):
    ask_all(requests(1), settings(server), tmp_path, "test")
    (path,) = tmp_path.glob("*/*.json")
    for broken in ('{"refused": "the endpoint refused the request (status 400)"}', "", '{"text": nu', "[]"):
        path.write_text(broken)
        assert ask_all(requests(1), settings(server), tmp_path, "test").asked == 1


@pytest.mark.parametrize("empty", [{}, [], "", False, 0])
def test_an_answer_beside_an_empty_error_is_an_answer(server, tmp_path, empty):
    server.script = [(200, {"error": empty, "choices": [{"index": 0, "message": {"content": "fine"}}]})]
    assert ask_all(requests(1), settings(server), tmp_path, "test").texts == {"r0": ("one", "fine")}


def test_json_that_is_nested_too_deep_to_be_read_is_none(server, tmp_path):
    server.script = [(200, nested(20_000))] * 4
    with pytest.raises(ExpertError, match="answers with no JSON instead of a chat completion"):
        ask_all(requests(1), settings(server, retries=1), tmp_path, "test")
