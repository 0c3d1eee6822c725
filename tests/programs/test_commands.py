"""Every command answers a slip in one line, before it loads anything heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: What takes half a second and more to load.
HEAVY = {"torch", "transformers", "vllm", "verl", "ray", "openai", "scipy", "sklearn", "fastapi"}
NO_RUN = "error: runs/typo: no run"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("recipe.main PROFIL=cpu", "error: "),
        ("recipe.main -m run.seed=1,2", "error: a sweep is a loop"),
        ("recipe.score RUN=typo", NO_RUN),
        ("recipe.score", "error: name one: make eval MODEL="),
        ("recipe.annotate --run typo --in {tmp}/in.csv --out {tmp}/out", NO_RUN),
        ("recipe.pages.report typo", NO_RUN),
        ("recipe.pages.report", "error: name a run"),
        ("recipe.pages.compare typo other", NO_RUN),
        ("recipe.pages.compare", "error: name at least two runs"),
        ("recipe.pages.lineage typo", NO_RUN),
        ("recipe.pages.chat --run typo", NO_RUN),
        ("recipe.pages.chat", "error: name one or two checkpoints"),
        ("recipe.evaluation.judge typo cold retrained", NO_RUN),
        ("recipe.verify typo", NO_RUN),
        ("recipe.publish typo", NO_RUN),
        ("recipe.ablate SEEDS=one", "error: SEEDS=one: give whole numbers"),
        ("data_prep.prepare --raw-dir {tmp}/no --out-dir {tmp}/out", "error: {tmp}/no: no such folder"),
        ("data_prep.leakage --raw-dir {tmp}/no", "error: {tmp}/no: no such folder"),
        ("bench typo", NO_RUN),
    ],
)
def test_a_slip_is_told_in_one_line_and_nothing_heavy_is_loaded(command, said, tmp_path):
    (tmp_path / "in.csv").write_text("text\nI won!\n")
    words = command.format(tmp=tmp_path).split()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *words], cwd=ROOT, capture_output=True, text=True
    )
    lines = done.stderr.splitlines()
    loaded = {
        found[1] for line in lines if (found := re.match(r"import time:[\d |]+\| +([\w]+)(\.|$)", line))
    }
    told = [line for line in lines if not line.startswith("import time:")]
    assert done.returncode == 1 and not done.stdout
    assert len(told) == 1 and told[0].startswith(said.format(tmp=tmp_path)), told
    assert "numpy" in loaded or "yaml" in loaded or "argparse" in loaded  # the pattern reads the list
    assert loaded & HEAVY == set()


def test_an_unknown_override_on_the_command_line(tmp_path, subprocess_env):
    done = subprocess.run(
        [sys.executable, "-m", "recipe.main", "nonsense.key=1", f"run.root={tmp_path / 'runs'}"],
        cwd=tmp_path,
        env=subprocess_env(PROFILE="cpu", VERL_PLATFORM=None),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith("error: there is no setting nonsense.key;")
    assert list(tmp_path.iterdir()) == []
