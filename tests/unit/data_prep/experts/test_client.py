"""The experts' client against a real HTTP server on this machine that misbehaves in every way we know."""

from __future__ import annotations

import json
import traceback

import pytest

from data_prep.experts.client import Endpoint, ExpertError, ask_all
from tests.unit.expert_requests import error, requests, settings
from tests.unit.expert_server import SECRET


@pytest.mark.parametrize("trouble", [429, 500, 503, "slow", "cut", "truncated", "schema", "html"])
def test_what_goes_wrong_on_the_way_is_asked_again(server, tmp_path, trouble):
    server.script = [trouble, trouble]
    answers = ask_all(requests(1), settings(server), tmp_path, "test")
    assert answers.texts == {"r0": ("one", "fine")} and len(server.bodies) == 3
    assert (answers.asked, answers.rejects) == (1, [])
    # 1,000 tokens to read at 2 a million, 500 written at 4 a million.
    assert answers.cost == pytest.approx(0.002 + 0.002)


def test_what_was_on_disk_counts_among_what_had_to_be_bought(server, tmp_path):
    ask_all(requests(2), settings(server), tmp_path / "cache", "test")
    answers = ask_all(requests(3), settings(server), tmp_path / "cache", "test")
    assert answers.cost == pytest.approx(0.004) and answers.price == pytest.approx(3 * 0.004)
    answers.write(tmp_path / "made", {})
    written = json.loads((tmp_path / "made.usage.json").read_text())
    assert written.pop("price") == pytest.approx(0.012)
    assert written == {"asked": 1, "cached": 2, "held": 0, "prompt_tokens": 3000, "answer_tokens": 1500}


def test_tokens_that_nobody_counted_are_guessed_from_letters(server, tmp_path):
    """An endpoint may leave them out, and so does an answer of an older cache."""
    server.usage = (0, 0)
    answers = ask_all(requests(1), settings(server), tmp_path, "test")
    (path,) = tmp_path.glob("*/*.json")
    path.write_text(json.dumps({"text": "fine"}))
    for found in (answers, ask_all(requests(1), settings(server), tmp_path, "test")):
        # "question 0" to read and "fine" written, 3.5 letters a token.
        assert (found.prompt_tokens, found.answer_tokens) == pytest.approx((10 / 3.5, 4 / 3.5))
        assert found.price == pytest.approx((10 / 3.5 * 2 + 4 / 3.5 * 4) / 1e6)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (500, "still answers status 500 after 3 retries"),
        (429, "still answers status 429"),
        ("cut", "cannot be reached"),
        ("slow", "cannot be reached (APITimeoutError"),
        ("truncated", "answers with no JSON instead"),
        ("schema", "answers with JSON of another form ({'answer': 'fine'}) instead"),
        ((200, {"code": 1, "msg": f"bad key {SECRET}"}), "another form (bad key [the key]) instead"),
        ((200, b""), "answers with "),
        ((200, {"choices": [{"text": "fine"}]}), "answers with JSON of another form"),
        ((200, {"choices": {"0": 1}}), "answers with JSON of another form"),
        ("html", "answers with a web page instead of a chat completion; is base_url"),
        (401, "refuses the key in EXPERT_API_KEY"),
        (404, "knows no model 'm'"),
    ],
)
def test_what_stays_wrong_is_a_clear_error_without_the_key(server, tmp_path, trouble, said):
    server.script = [trouble] * 100
    with pytest.raises(ExpertError) as caught:
        ask_all(requests(2), settings(server), tmp_path, "test")
    assert said in str(caught.value) and server.url in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_stopped_run_goes_on_without_asking_again(server, tmp_path):
    server.script = ["ok"] * 5 + [401] * 100
    with pytest.raises(ExpertError):
        ask_all(requests(12), settings(server, concurrency=1), tmp_path, "test")
    server.script = []
    assert len(server.answered) == 5
    answers = ask_all(requests(12), settings(server), tmp_path, "test")
    assert (answers.cached, answers.asked, len(answers.texts)) == (5, 7, 12)
    assert sorted(server.answered) == sorted(f"question {i}" for i in range(12))  # each answered once
    again = ask_all(requests(12), settings(server), tmp_path, "test")
    assert (again.cached, again.asked, again.texts) == (12, 0, answers.texts)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(402, "insufficient balance"), "wants to be paid (status 402: insufficient balance)"),
        (error(403, "content blocked"), "denies it (status 403: content blocked)"),
        (error(404, "model m is retired"), "model m is retired"),
        (
            error(401, f"bad key {SECRET}"),
            "refuses the key in EXPERT_API_KEY (status 401: bad key [the key])",
        ),
        (
            (200, {"error": {"message": "overloaded", "code": "529"}}),
            "after 1 retries (status 529: overloaded)",
        ),
        ((429, {"detail": [{"msg": "quota spent"}]}), "after 1 retries (status 429: quota spent)"),
        (
            (200, {"error": {"message": "overloaded", "code": 503}}),
            "after 1 retries (status 503: overloaded)",
        ),
        ((200, {"error": {"message": "no credit", "code": 402}}), "wants to be paid (status 402: no credit)"),
        (error(401, f"{'x' * 290} {SECRET}"), "x [the key]...)"),
        (error(404, "gone\x1b[2J\u202e" + "x" * 900), "status 404: gone[2Jxxx"),
    ],
)
def test_what_ends_the_asking_is_told_in_the_endpoint_s_words(server, tmp_path, answer, said):
    server.script = [answer] * 10
    with pytest.raises(ExpertError) as caught:
        ask_all(requests(1), settings(server, retries=1), tmp_path, "test")
    assert said in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 600
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("wait", ["3600", "Fri, 27 Nov 2026 07:28:00 GMT"])
def test_how_long_an_endpoint_wants_to_be_left_alone_is_told(server, tmp_path, wait):
    server.script = [(*error(429, "quota spent"), {"Retry_After": wait})] * 10
    with pytest.raises(ExpertError) as caught:
        ask_all(requests(1), settings(server, retries=1), tmp_path, "test")
    said = str(caught.value)
    assert "status 429: quota spent" in said and f"until {wait}" in said and "run the same command" in said


def test_an_endpoint_that_only_refuses_is_not_asked_a_thousand_times(server, tmp_path):
    server.script = [error(400, "unknown field")] * 1000
    with pytest.raises(ExpertError, match=r"refused the first 5 requests, .*status 400: unknown field"):
        ask_all(requests(1000), settings(server, concurrency=1), tmp_path, "test")
    assert len(server.bodies) <= 6  # the next may be on its way


def test_an_endpoint_is_told_what_it_calls_the_limit_and_no_temperature(server, tmp_path):
    endpoint = Endpoint("one", server.url, "m", "EXPERT_API_KEY", limit_name="max_completion_tokens")
    ask_all(requests(1), settings(server, endpoints=(endpoint,), temperature=None), tmp_path, "test")
    (body,) = server.bodies
    assert body["max_completion_tokens"] == 100 and not {"max_tokens", "temperature"} & body.keys()


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_cost_cap_stops_before_it_is_passed(server, tmp_path, concurrency):
    server.usage = (3, 500)  # 0.002 each
    capped = settings(server, max_cost=0.01, concurrency=concurrency, max_tokens=500)
    with pytest.raises(ExpertError, match=r"over expert.max_cost=0.01 .* every answer so far is kept"):
        ask_all(requests(20), capped, tmp_path, "test")
    # A fifth could have passed the cap by what it had to read; of several at once some may be called off.
    assert len(server.bodies) == 4 if concurrency == 1 else 1 <= len(server.bodies) <= 4


def test_the_cost_cap_counts_what_earlier_commands_spent(server, tmp_path):
    server.usage = (3, 500)

    def ask(**changes):
        how = settings(server, concurrency=1, max_tokens=500, **changes)
        return ask_all(requests(8), how, tmp_path, "test")

    for _ in range(2):  # the same command again buys nothing more
        with pytest.raises(ExpertError, match="expert.max_cost=0.01"):
            ask(max_cost=0.01)
        assert len(server.bodies) == 4
    with pytest.raises(ExpertError, match=r"max_cost=0.005 \(0.01 spent, 0.01 of it by earlier commands"):
        ask(max_cost=0.005)
    double = Endpoint("one", server.url, "m", "EXPERT_API_KEY", prompt_price=4.0, answer_price=8.0)
    with pytest.raises(ExpertError, match=r"max_cost=0.016 \(0.02 spent"):  # at today's prices
        ask(max_cost=0.016, endpoints=(double,))
    assert len(server.bodies) == 4
    answers = ask(max_cost=0.02)
    assert (answers.cached, answers.asked, len(answers.texts)) == (4, 4, 8)


@pytest.mark.parametrize("kept", ['{"text": "fi', "", "[" * 100_000, '{"text": 3}', "\0\0"])
def test_half_a_file_in_the_cache_is_asked_again(server, tmp_path, kept):
    ask_all(requests(1), settings(server), tmp_path, "test")
    (path,) = tmp_path.rglob("*.json")
    path.write_text(kept)
    assert ask_all(requests(1), settings(server), tmp_path, "test").texts == {"r0": ("one", "fine")}
    assert len(server.bodies) == 2


@pytest.mark.parametrize("count", ['"12"', "NaN", "-5", "Infinity", "null", "[1]"])
def test_a_count_in_the_cache_that_is_none_is_guessed(server, tmp_path, count):
    ask_all(requests(1), settings(server), tmp_path, "test")
    (path,) = tmp_path.rglob("*.json")
    path.write_text(f'{{"text": "fine", "prompt_tokens": {count}, "answer_tokens": {count}}}')
    answers = ask_all(requests(1), settings(server, max_cost=1.0), tmp_path, "test")
    assert answers.cached == 1 and 0 < answers.price < 1e-3


def test_at_most_so_many_requests_at_once(server, tmp_path):
    server.script = ["slow"] * 4
    ask_all(requests(4), settings(server, concurrency=2, timeout=5.0), tmp_path, "test")
    assert server.most_at_once == 2


def test_endpoints_share_the_requests_and_the_key_stays_in_its_header(server, tmp_path, capsys):
    both = tuple(Endpoint(name, server.url, name, "EXPERT_API_KEY") for name in ("a", "b"))
    answers = ask_all(requests(40), settings(server, endpoints=both), tmp_path / "cache", "test")
    used = [endpoint for endpoint, _ in answers.texts.values()]
    assert 10 < used.count("a") < 30
    assert set(server.keys) == {f"Bearer {SECRET}"}
    answers.write(tmp_path / "out", {"x": "y"})
    captured = capsys.readouterr()
    texts = [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
    assert len(texts) == 43 and not any(SECRET in text for text in (*texts, captured.out, captured.err))
    assert "40 requests to a, b, 0 answered before" in captured.err
