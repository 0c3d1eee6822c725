"""Every import rule of `.importlinter` holds, and is seen to be broken where a violation is planted."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: rule -> violations: the file that gets a line at its end, and the line.
PLANTED = {
    "maths-without-stack": [
        ("rewards/iou.py", "import verl"),
        ("advantage/self_grpo.py", "import ray"),
        ("rewards/parse.py", "from vllm import LLM"),
        ("advantage/self_grpo.py", "import recipe.buffer"),
    ],
    "rewards-first": [("rewards/labels.py", "import advantage.self_grpo")],
    "data-from-rewards": [
        ("data_prep/corpora/meld.py", "from recipe.run.files import read_json"),
        ("data_prep/card.py", "from advantage import self_grpo"),
    ],
    "wings-below": [
        ("recipe/run/usage.py", "from recipe.pages import figures"),
        ("recipe/models/weights.py", "from recipe.steps import sft"),
        ("recipe/evaluation/results.py", "from recipe.publishing import mark"),
        ("recipe/evaluation/measures.py", "import recipe.flywheel"),  # which imports both
    ],
    "run-without-evaluation": [
        ("recipe/run/run.py", "from recipe.evaluation.results import read_evaluation")
    ],
    "on-verl-in-stages": [
        ("recipe/steps/rl.py", "from recipe.on_verl.trainer import SelfEmoTaskRunner"),
        ("recipe/run/preflight.py", "def late():\n    import recipe.on_verl.estimator"),
    ],
    "integrations-from-maths": [("integrations/trl/self_grpo.py", "import recipe.buffer")],
    "integrations-alone": [
        ("bench/trl_steps.py", "from integrations.trl.self_grpo import SelfGRPOTrainer"),
        ("recipe/annotate.py", "def late():\n    import integrations.prompts"),
    ],
    "settings": [("conf/__init__.py", "from rewards.labels import LABELS")],
}


def check(tree: Path, rule: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run import-linter as `make lint` does, on the packages of another folder."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()"]
    command += ["--no-cache", "--no-logo", *(["--contract", rule] if rule else [])]
    return subprocess.run(command, cwd=tree, env={}, capture_output=True, text=True)


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of all our code."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for name in parser["importlinter"]["root_packages"].split():
        for path in (ROOT / name).rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return tmp_path


def test_the_rules_hold(tree):
    done = check(tree)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_a_planted_violation():
    rules = re.findall(r"^\[importlinter:contract:(.+)\]$", (ROOT / ".importlinter").read_text(), re.M)
    assert sorted(rules) == sorted(PLANTED)


@pytest.mark.parametrize(
    ("rule", "file", "line"), [(rule, *planted) for rule, all_ in PLANTED.items() for planted in all_]
)
def test_a_violation_is_named(tree, rule, file, line):
    with (tree / file).open("a") as module:
        module.write(f"\n{line}\n")
    done = check(tree, rule)
    assert done.returncode == 1, done.stdout + done.stderr
    assert file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") in done.stdout
