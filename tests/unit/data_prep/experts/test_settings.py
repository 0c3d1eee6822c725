"""Settings of experts that cannot work are told by the name of the setting or variable."""

from __future__ import annotations

import pytest

from data_prep.experts import client as experts
from data_prep.experts.client import ExpertError, Settings
from tests.unit.expert_server import SECRET

pytestmark = pytest.mark.usefixtures("quick")  # which sets the key


def test_settings_that_cannot_work(monkeypatch):
    config = {
        "kind": "endpoint",
        "endpoints": [{"name": "x", "base_url": "http://u", "model": "m", "key": "NO_SUCH_KEY"}],
    }
    with pytest.raises(ExpertError, match="NO_SUCH_KEY is not set"):
        Settings.of(config)
    with pytest.raises(ExpertError, match="expert.endpoints is empty"):
        Settings.of({"kind": "endpoint", "endpoints": []})
    for name in ("ARK_API_KEY", "DEEPSEEK_API_KEY", "EXPERT_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ExpertError, match="ARK_API_KEY, DEEPSEEK_API_KEY are not set"):
        experts.load_experts("mixed")
    with pytest.raises(
        ExpertError, match=r"for expert \(expert.endpoints\); set EXPERT_BASE_URL and EXPERT_MODEL"
    ):
        experts.load_experts("endpoint")
    with pytest.raises(ExpertError, match="there is no expert 'wise'; choose endpoint, mixed, offline"):
        experts.load_experts("wise")
    assert experts.load_experts("offline") is None
    monkeypatch.setenv("ARK_API_KEY", "a")
    monkeypatch.setenv("DEEPSEEK_API_KEY", "b")
    assert [e.name for e in experts.load_experts("mixed").endpoints] == ["seed-1.8", "deepseek-v3.2"]


GOOD = {"name": "x", "base_url": "http://h/v1", "model": "m", "key": "EXPERT_API_KEY"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"concurrency": 0}, "expert.concurrency=0 must be a whole number from 1 to 10000"),
        ({"concurrency": True}, "expert.concurrency=True must be"),
        ({"timeout": 0}, "expert.timeout=0 must be a number above 0"),
        ({"timeout": "soon"}, "expert.timeout='soon' must be a number"),
        ({"retries": -1}, "expert.retries=-1 must be"),
        ({"max_tokens": None}, "expert.max_tokens=null must be a whole number, at least 1"),
        ({"temperature": float("nan")}, "expert.temperature=nan must be a number from 0 to 2"),
        ({"temperature": 10**400}, "is no number to work with"),
        ({"max_cost": 10**400}, "is no number to work with"),
        ({"max_tokens": 10**400}, "is no number to work with"),
        ({"endpoints": [GOOD | {"base_url": "h/v1"}]}, "base_url must be an address that begins with http"),
        ({"endpoints": [GOOD | {"base_url": f"ftp://u:{SECRET}@h"}]}, "base_url must be an address"),
        ({"endpoints": [GOOD | {"base_url": "http://h/v1\n"}]}, "without white space"),
        ({"endpoints": [GOOD | {"base_url": "http://h/\uff56\uff11"}]}, "base_url must be an address"),
        *(
            ({"endpoints": [GOOD | {"base_url": url}]}, said)
            for url, said in {
                "http:///v1": "names no host",
                "http://:8000/v1": "names no host",
                f"http://{SECRET}@h:abc/v1": "its host or its port is wrong",
                "http://[::1/v1": "its host or its port is wrong",
                "http://h:99999/v1": "its host or its port is wrong",
                "http://h:0/v1": "its host or its port is wrong",
                "http://h\\v1": "has a backslash",
                "http://h/v1,http://g/v1": "must be one address",
                "http://h/v1?api-version=1": "must end with its path",
                "http://h/v1#top": "must end with its path",
                "http://h/v1/chat/completions": "(.../v1), without /chat/completions",
                "http://h/v1/responses/": "(.../v1), without /responses",
            }.items()
        ),
        ({"endpoints": [GOOD | {"model": True}]}, "expert.endpoints.0.model=True must be text"),
        ({"endpoints": [GOOD | {"model": "m\r"}]}, "has white space or line ends around it"),
        ({"endpoints": [GOOD | {"name": " "}]}, "expert.endpoints.0.name=' ' must be text"),
        ({"endpoints": [GOOD | {"name": "x" * 61}]}, "60 bytes at most"),
        ({"max_tokns": 5}, "there is no setting expert.max_tokns; expert.max_tokens is near"),
        ({"endpoints": [GOOD | {"prize": 1}]}, "there is no setting expert.endpoints.0.prize"),
        ({"endpoints": [GOOD | {"prompt_price": -1}]}, "expert.endpoints.0.prompt_price=-1 must be a number"),
        ({"endpoints": [GOOD | {"limit_name": "tokens"}]}, "max_tokens or max_completion_tokens"),
        ({"endpoints": [GOOD, GOOD]}, "the same name twice: x, x"),
        ({"endpoints": ["http://h/v1"]}, "expert.endpoints.0='http://h/v1' must be settings by name"),
        ({"endpoints": "http://h/v1"}, "expert.endpoints='http://h/v1' must be a list of settings by name"),
        ({"max_cost": 0.01}, "expert.max_cost=0.01 needs prices, and x has none"),
        ({"endpoints": [GOOD | {"key": SECRET}]}, "must be the name of the environment variable"),
    ],
)
def test_settings_of_experts_that_are_refused_in_words(change, said):
    with pytest.raises(ExpertError) as caught:
        Settings.of({"kind": "endpoint", "endpoints": [GOOD]} | change)
    assert said in str(caught.value) and SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "key", [f'"{SECRET}"', f"{SECRET}\n", f"{SECRET}\u2026", "Bearer x", " ", f"\ufeff{SECRET}"]
)
def test_a_key_that_can_be_none_is_refused_by_the_name_of_its_variable(monkeypatch, key):
    monkeypatch.setenv("EXPERT_API_KEY", key)
    with pytest.raises(ExpertError, match="the key in EXPERT_API_KEY has") as caught:
        Settings.of({"kind": "endpoint", "endpoints": [GOOD]})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("expert", "said"),
    [
        ("mixed", "ARK_API_KEY, DEEPSEEK_API_KEY are not set"),
        ("endpoint", "answers with a web page instead of a chat completion"),
    ],
)
def test_make_data_says_what_is_wrong_with_an_expert_and_writes_nothing(
    server, tmp_path, monkeypatch, capsys, expert, said
):
    from data_prep.prepare import main

    for name in ("ARK_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EXPERT_BASE_URL", server.url)
    monkeypatch.setenv("EXPERT_MODEL", "m")
    monkeypatch.setenv("SELF_EMO_CACHE", str(tmp_path / "cache"))
    server.script = ["html"] * 1000
    command = ["prepare", "--out-dir", str(tmp_path / "out"), "--corpora", "meld"]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 0
    (tmp_path / "out/personas.json").write_text("{}")  # of an earlier command
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr("sys.argv", [*command, "--expert", expert])
    assert main() == 1
    assert f"error: {'expert' if expert == 'endpoint' else 'the experts'}" in (err := capsys.readouterr().err)
    assert said in err and SECRET not in err
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
