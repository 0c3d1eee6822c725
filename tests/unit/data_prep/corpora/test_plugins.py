"""A corpus of another package: found by its entry point, read, prepared; what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from data_prep.corpora import find_corpora
from rewards import labels

MODULE = '''
"""A toy corpus of a package of its own."""

from data_prep.corpora.dialogue import Dialogue, Utterance
from data_prep.corpora.found import SPLITS, one_file_a_split

LABELS = ("calm", "joy", "grumpy")
LAYOUT = "toy/{train,dev,test}.txt"


def find(_, root):
    return one_file_a_split({split: root / f"{split}.txt" for split in SPLITS}, read_split)


def read_split(path, split):
    lines = (line.split("|") for line in path.read_text().splitlines())
    turns = tuple(Utterance(str(i), who, text, label) for i, (who, label, text) in enumerate(lines))
    yield Dialogue("toy", split, f"{split}_0", turns)
'''
CODE = """
import sys
from data_prep.prepare import main
from data_prep.rows import read_rows
from rewards.iou import compute_score
sys.argv = ["prepare", "--raw-dir", sys.argv[1], "--out-dir", sys.argv[2], "--corpora", "toy"]
assert main() == 0
row = read_rows(sys.argv[4] + "/train.parquet")[1]
said = {"last_emotions": {"grumpy": 1.0}, "my_emotions": {"calm": 1.0}, "my_output": "Oh."}
answer = f"<think>Hm.</think>{said}"
print(compute_score(row["data_source"], answer, row["reward_model"]["ground_truth"])["score"])
"""


def test_a_package_brings_a_corpus(root, tmp_path):
    site, raw = tmp_path / "site", tmp_path / "raw/toy"
    about = site / "toy_corpus-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-corpus\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[self_emo.corpora]\ntoy = toy_corpus\n")
    (site / "toy_corpus.py").write_text(MODULE)
    raw.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (raw / f"{split}.txt").write_text("Ann|joy|I won!\nBob|grumpy|And I lost.\n")
    paths = {"PYTHONPATH": os.pathsep.join((str(site), str(root)))}
    done = subprocess.run(
        [sys.executable, "-c", CODE, raw.parent, tmp_path / "out"],
        cwd=tmp_path, env={**os.environ, **paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1.1"


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
