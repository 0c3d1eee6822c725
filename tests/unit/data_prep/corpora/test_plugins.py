"""A corpus of another package: found by its entry point; what is refused."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from data_prep.corpora import find_corpora
from rewards import labels


@pytest.fixture
def plug_in(monkeypatch):
    """Pretends that packages have these modules, name -> module."""

    def pretend(**modules):
        found = []
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, f"made_up_{name}", module)
            found.append(EntryPoint(name, f"made_up_{name}", labels.GROUP))
        monkeypatch.setattr(labels, "entry_points", lambda group: found if group == labels.GROUP else [])
        labels.plugin_corpora.cache_clear()

    yield pretend
    labels.plugin_corpora.cache_clear()


def module(**parts):
    return SimpleNamespace(**{"LABELS": ["a", "b"], "LAYOUT": "x/", "find": lambda raw, root: None, **parts})


def test_labels_of_packages_come_last_and_are_not_defaults(plug_in, tmp_path):
    plug_in(toy=module())
    assert list(labels.known_corpora()) == ["meld", "iemocap", "emorynlp", "dailydialog", "toy"]
    assert labels.corpus_labels("toy") == ("a", "b")
    (tmp_path / "toy").mkdir()
    with pytest.raises(ValueError, match="found no meld"):
        find_corpora(tmp_path)
    assert list(find_corpora(tmp_path, ["toy"])) == ["toy"]


@pytest.mark.parametrize(
    ("name", "made", "problem"),
    [
        ("meld", module(), "there is a corpus of that name already"),
        ("Toy", module(), "small letters"),
        ("toy", module(LABELS="ab"), "no list of texts"),
        ("toy", module(LABELS=["a", 1]), "no list of texts"),
        ("toy", module(LABELS=["a", "A"]), "name one twice"),
        ("toy", module(LABELS=["a"]), "fewer than two"),
        ("toy", SimpleNamespace(LABELS=["a", "b"]), "it has no LAYOUT and no find"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(plug_in, name, made, problem):
    plug_in(**{name: made})
    with pytest.raises(ValueError, match=f"corpus '{name}' .*{problem}.*; mend the package or uninstall it"):
        labels.known_corpora()


def test_a_package_that_is_not_there_is_told_in_a_line(plug_in, monkeypatch):
    plug_in(toy=module())
    monkeypatch.delitem(sys.modules, "made_up_toy")
    with pytest.raises(ValueError, match="ModuleNotFoundError: No module named 'made_up_toy'; mend"):
        labels.known_corpora()
