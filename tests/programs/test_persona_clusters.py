"""Personas are clustered in the environment that has the embedding model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.persona_clusters import NOISE

ANALYSIS = Path(__file__).resolve().parents[2] / ".venv-analysis/bin/python"

PLANTED = """
import json
from data_prep.persona_clusters import cluster_people, Person
kinds = {
    "sea": ("boat", "sail", "harbour", "anchor", "wave", "captain", "ship", "deck"),
    "kitchen": ("soup", "bread", "oven", "butter", "salad", "recipe", "pasta", "cake"),
    "law": ("judge", "court", "trial", "lawyer", "verdict", "witness", "jury", "crime"),
}
people = [
    Person("meld", f"{kind}{i}", "Ann", "", f"Keeps talking about the {word} and the {words[(i + j) % 8]}.")
    for kind, words in kinds.items() for i, word in enumerate(words) for j in (1, 2)
]
people.append(Person("meld", "odd", "Ann", "", "Solves quadratic equations in the desert at night."))
runs = [cluster_people(people, 6) for _ in range(2)]
assert runs[0].labels == runs[1].labels and (runs[0].points == runs[1].points).all()
print(json.dumps([[p.dialogue_id, c] for p, c in zip(people, runs[0].labels)]))
"""


ELSEWHERE = """
import importlib.metadata, os, re, sys
plain = lambda name: re.sub("[-_.]+", "-", name).lower()
locked = {plain(line.split("==")[0]) for line in open("requirements/analysis.lock") if "==" in line}
owners = importlib.metadata.packages_distributions()
class Missing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        of = {plain(owner) for owner in owners.get(top, ())}
        if of and not of & locked and not os.path.isdir(top):  # else it is ours
            raise ModuleNotFoundError(f"{name} is not in analysis.lock")
sys.meta_path.insert(0, Missing())
import recipe.pages.clusters
"""


def test_the_page_needs_nothing_that_its_environment_has_not(subprocess_env, root):
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], env=subprocess_env(), cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not ANALYSIS.exists(), reason="no .venv-analysis; make clusters builds it")
def test_planted_groups_are_found_and_the_odd_sentence_is_noise(subprocess_env):
    done = subprocess.run(
        [ANALYSIS, "-c", PLANTED], env=subprocess_env(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    labels = dict(json.loads(done.stdout.splitlines()[-1]))
    assert labels.pop("odd") == NOISE
    members = {
        kind: {c for d, c in labels.items() if d.startswith(kind)} for kind in ("sea", "kitchen", "law")
    }
    found = [c for kind in members.values() for c in kind - {NOISE}]
    assert sorted(found) == [0, 1, 2]  # one cluster a kind, none shared
    assert sum(c == NOISE for c in labels.values()) <= 6
