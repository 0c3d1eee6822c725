"""The house keeps its order: tests mirror the tree, packages say what they hold, private names stay so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("recipe", "rewards", "advantage", "data_prep", "conf", "launch", "bench", "integrations")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
_STARTED = re.compile(r'sys\.executable, "-m"')


def private_names(text: str) -> Iterator[str]:
    """Private names of others in a module: imported, or taken from anything but ``self`` and ``cls``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            found = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            found = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            found = [] if own else [node.attr]
        else:
            continue
        yield from (name for name in found if name.startswith("_") and not name.endswith("__"))


def test_every_test_stands_where_its_source_stands():
    unit = ROOT / "tests/unit"
    tests = sorted(path.relative_to(unit) for path in unit.rglob("test_*.py"))
    strangers = [
        str(path) for path in tests if path.parent != Path() and not any((ROOT / path.parent).glob("*.py"))
    ]
    assert len(tests) > 20
    assert strangers == [], "no source folder of that name"
    modules: dict[str, list[Path]] = {}
    for path in SOURCES:
        modules.setdefault(path.stem, []).append(path.parent.relative_to(ROOT))
    elsewhere = {
        str(path): [str(folder) for folder in folders]
        for path in tests
        if (folders := modules.get(path.stem.removeprefix("test_"))) and path.parent not in folders
    }
    assert elsewhere == {}, "named after a module, in another folder than it"


STEPS = [path for path in SOURCES if path.parent.name == "steps" and path.name != "__init__.py"]


@pytest.mark.parametrize("path", STEPS, ids=lambda p: p.stem)
def test_a_step_says_what_it_reads_and_leaves_and_which_lines_it_is(path):
    said = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
    assert "Reads: " in said and "Leaves: " in said and re.search(r"Algorithm 1|\(line", said)


def test_no_unit_test_starts_a_command():
    """Each takes seconds."""
    starts = {
        folder: [path.name for path in (ROOT / folder).rglob("*.py") if _STARTED.search(path.read_text())]
        for folder in ("tests/unit", "tests/programs")
    }
    assert starts.pop("tests/unit") == []
    assert starts.pop("tests/programs"), "the words are no longer those that start one"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name == "__init__.py"], ids=lambda p: p.parent.name)
def test_every_package_says_what_it_holds(path):
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path.relative_to(ROOT)} has no docstring"


def test_every_folder_with_code_is_a_package():
    assert {path.parent for path in SOURCES} == {p.parent for p in SOURCES if p.name == "__init__.py"}


def test_nobody_uses_private_names_of_others():
    # What runs inside veRL may have to reach into Ray and vLLM: its shims say so, and name their versions.
    checked = [path for path in SOURCES if not path.is_relative_to(ROOT / "recipe/on_verl")]
    found = {
        str(p.relative_to(ROOT)): names for p in checked if (names := list(private_names(p.read_text())))
    }
    assert any(path.parent.name == "pages" for path in checked)
    assert found == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("from recipe.run.plan import _memory", ["_memory"]),
        ("from recipe.run import _plan as plan", ["_plan"]),
        ("import recipe.run._plan", ["_plan"]),
        ("from recipe.run import plan\nplan._memory()", ["_memory"]),
        ("class A:\n    def f(self):\n        return self._x, A.__name__", []),
    ],
)
def test_private_names_are_seen(text, names):
    assert list(private_names(text)) == names
