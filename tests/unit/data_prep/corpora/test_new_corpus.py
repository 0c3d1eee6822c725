"""Adding a corpus is one new file and one line: done to a copy of the tree, then prepared like any other."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from data_prep.corpora import DataError, find_corpora
from tests.unit.toy_corpus import MODULE, write_toy


def test_a_new_corpus_is_a_file_and_a_line(root, tmp_path):
    for name in ("data_prep", "rewards", "conf"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "data_prep/corpora/toy.py").write_text(MODULE)
    labels = tmp_path / "rewards/labels.py"
    first = '    "meld": ('
    assert first in labels.read_text()
    line = '    "toy": ("calm", "joy", "grumpy"),\n'
    labels.write_text(labels.read_text().replace(first, line + first))
    write_toy(tmp_path / "raw/Toy")  # however the folder is capitalised
    code = (
        "import sys; from data_prep.prepare import main\n"
        "from data_prep.experts.offline import respond; from rewards.parse import parse_output\n"
        "from rewards.labels import corpus_labels\n"
        "assert main() == 0\n"
        "said = respond([{'speaker': 'Ann', 'text': 'I got the job.'}], {'name': 'Bob'}, 'toy')\n"
        "print(parse_output(said, corpus_labels('toy')).last_emotions)"
    )
    command = [sys.executable, "-c", code, "--raw-dir", "raw", "--out-dir", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "out/train.parquet").to_pylist()
    assert [row["data_source"] for row in rows] == ["toy", "toy"]
    assert rows[1]["reward_model"]["ground_truth"]["grumpy"] == 1.0
    assert rows[0]["extra_info"]["labels"] == ["calm", "joy", "grumpy"]
    assert done.stdout.splitlines()[-1].startswith("{'joy': 0.7")


def test_two_folders_of_one_corpus_are_told(tmp_path):
    for name in ("meld", "MELD"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="MELD and meld are the same corpus"):
        find_corpora(tmp_path)
