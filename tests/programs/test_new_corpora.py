"""A corpus that the recipe does not know, as a file and a line, or as a package: prepared like any other."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pyarrow.parquet as pq

from tests.programs.toy_corpus import MODULE, write_toy

CODE = """
import sys
from data_prep.prepare import main
from data_prep.rows import read_rows
from rewards.iou import compute_score
assert main() == 0
row = read_rows(sys.argv[4] + "/train.parquet")[1]
said = {"last_emotions": {"grumpy": 1.0}, "my_emotions": {"calm": 1.0}, "my_output": "Oh."}
answer = f"<think>Hm.</think>{said}"
print(compute_score(row["data_source"], answer, row["reward_model"]["ground_truth"])["score"])
"""


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


def test_a_package_brings_a_corpus(tmp_path, subprocess_env):
    site = tmp_path / "site"
    about = site / "toy_corpus-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-corpus\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[self_emo.corpora]\ntoy = toy_corpus\n")
    (site / "toy_corpus.py").write_text(MODULE)
    write_toy(tmp_path / "raw/toy")
    arguments = ["--raw-dir", tmp_path / "raw", "--out-dir", tmp_path / "out", "--corpora", "toy"]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=site, env=subprocess_env(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1.1"
