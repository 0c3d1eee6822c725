"""Models of the hub through `huggingface_hub` itself, against a stand-in at HF_ENDPOINT."""

from __future__ import annotations

import huggingface_hub.constants
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from recipe.models import hub, named
from recipe.models.weights import ModelError
from tests.unit.hub_server import REVISION, Hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Qwen3 of a few thousand weights in several files."""
    torch.manual_seed(1)
    config = Qwen3Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, tie_word_embeddings=False,
    )  # fmt: skip
    target = tmp_path_factory.mktemp("model")
    AutoModelForCausalLM.from_config(config).save_pretrained(target, max_shard_size="40KB")
    (target / "README.md").write_text("a card, which nothing needs")
    assert len(list(target.glob("*.safetensors"))) > 2
    return target


@pytest.fixture
def server(folder, tmp_path, monkeypatch):
    server = Hub(folder)
    constants = huggingface_hub.constants
    for module in (constants, huggingface_hub.file_download, huggingface_hub.hf_api):
        monkeypatch.setattr(module, "ENDPOINT", server.url, raising=False)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    for name in ("HF_HUB_CACHE", "HF_XET_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    yield server
    server.close()


def test_a_model_is_fetched_once_and_its_revision_told(server, folder, capsys):
    assert named.resolve("owner/model") == "owner/model"
    found = hub.fetch("owner/model")
    assert found.revision == REVISION and found.folder.name == REVISION
    told = capsys.readouterr().out
    assert f"fetching owner/model, revision {REVISION[:12]}: " in told
    files = {path.name for path in found.folder.iterdir()}
    assert files == {path.name for path in folder.iterdir()} - {"README.md"}
    model, whole = (AutoModelForCausalLM.from_pretrained(f) for f in (found.folder, folder))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(), strict=True))
    sent = len(server.sent)
    assert hub.fetch("owner/model") == found
    assert len(server.sent) == sent and capsys.readouterr().out == ""


def test_into_a_folder_that_other_machines_see_too(server, folder, tmp_path):
    found = hub.fetch("owner/model", tmp_path / "run/base/model")
    assert found.folder == tmp_path / "run/base/model" and found.revision == REVISION
    assert not any(path.is_symlink() for path in found.folder.glob("*.safetensors"))


def test_without_the_hub_what_was_fetched_before_is_used(server, capsys):
    found = hub.fetch("owner/model")
    server.close()
    assert hub.fetch("owner/model") == found
    assert f"is as it was fetched before, revision {REVISION[:12]}" in capsys.readouterr().out


def test_a_cut_connection_is_continued(server, folder):
    weights = sorted(path.name for path in folder.glob("*.safetensors"))
    server.cut = {weights[0]}
    found = hub.fetch("owner/model")
    assert (found.folder / weights[0]).read_bytes() == (folder / weights[0]).read_bytes()
    assert server.sent.count(weights[0]) == 2


def test_a_file_of_another_content_is_refused_and_not_kept(server, folder):
    name = sorted(path.name for path in folder.glob("*.safetensors"))[1]
    right = server.files[name]
    server.changed = {name: right[:-1] + bytes([right[-1] ^ 1])}
    with pytest.raises(ModelError, match=f"{name} came with SHA-256 .* run the same command again"):
        hub.fetch("owner/model")
    server.changed = {}
    assert (hub.fetch("owner/model").folder / name).read_bytes() == right


def test_what_cannot_be_had_is_told_in_a_line(server):
    for ask in (hub.check, hub.fetch):
        with pytest.raises(ModelError, match="no such model .* check the spelling, or log in") as missing:
            ask("owner/nothing")
    server.gated = True
    for ask in (hub.check, hub.fetch):
        with pytest.raises(
            ModelError, match=r"gated: accept its terms at \S+/owner/model, then log in"
        ) as gated:
            ask("owner/model")
    server.close()
    with pytest.raises(ModelError, match="could not be read from the model hub .* Check the network") as away:
        hub.fetch("owner/model")
    assert not any("\n" in str(caught.value) for caught in (missing, gated, away))


def test_weights_that_cannot_be_used_or_do_not_fit(server, monkeypatch):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(ModelError, match="the disk of .* has 0.0 free; .* HF_HOME"):
        hub.fetch("owner/model")
    server.files = {name: content for name, content in server.files.items() if "safetensors" not in name}
    with pytest.raises(ModelError, match=r"no \*.safetensors on the hub"):
        hub.fetch("owner/model")
    assert server.sent == []
