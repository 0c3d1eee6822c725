"""Personas are clustered in the environment that has the embedding model."""

from __future__ import annotations

import json
import subprocess
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
