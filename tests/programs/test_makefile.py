"""The Makefile: what a user types reaches the programs as it was typed, and `make help` lists it all."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

#: Everything that make or a shell could take for something else. `ran` must not come to be.
NASTY = """/my corpora/it's "the" $HOME $(touch ran) $(shell touch ran) `touch ran`; touch ran & #1 * \\x ~"""
PYTHON = os.path.realpath(sys.executable)
RECORD = f"""#!{PYTHON} -IS
import json, sys
with open("calls", "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
"""


@pytest.fixture
def make(root, tmp_path):
    """Runs a target of the Makefile; gives the arguments of every Python that it started.

    The programs are stand-ins that note their arguments. The environment is not built.
    """
    shutil.copy(root / "Makefile", tmp_path)
    (tmp_path / "launch").mkdir()
    for name in ("setup_env", "doctor", "lock", "other_pythons"):
        (tmp_path / f"launch/{name}.py").write_text(
            RECORD.replace("sys.argv[1:]", f"['{name}', *sys.argv[1:]]")
        )
    if (words := root / "launch/words.py").exists():
        shutil.copy(words, tmp_path / "launch")
    for venv in (".venv", ".venv-analysis"):
        python = tmp_path / venv / "bin/python"
        python.parent.mkdir(parents=True)
        for program in (python, python.with_name("lint-imports")):
            program.write_text(RECORD)
            program.chmod(0o755)
    (tmp_path / "bin").mkdir()  # a python3 that starts at once, as pyenv's does not
    (tmp_path / "bin/python3").symlink_to(PYTHON)
    # Nothing else: make may be running the tests, too, and has put its own values into the environment.
    bare = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}

    def run(*arguments: str, status: int = 0, **environment: str) -> list[list[str]]:
        (tmp_path / "calls").unlink(missing_ok=True)
        done = subprocess.run(
            ["make", "-s", *arguments],
            cwd=tmp_path,
            env=bare | environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        assert not (tmp_path / "ran").exists()
        lines = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        run.stderr = done.stderr
        return [call for call in map(json.loads, lines) if call[0] != "setup_env"]

    return run


def test_what_python_compiles_is_kept_whatever_the_shell_says(make, tmp_path):
    told = tmp_path / ".venv/bin/python"
    told.write_text(
        RECORD.replace("sys.argv[1:]", "['writes', not sys.dont_write_bytecode]").replace(" -IS", " -S")
    )
    assert make("train", PYTHONDONTWRITEBYTECODE="1") == [["writes", True]]


#: Target, the variables that it takes, and the arguments that its programs get; VALUE is what was typed.
VALUE = "<value>"
ONE_VALUE = [
    ("train", ["MODEL", "RAW_DIR", "NAME"], [
        ["-m", "recipe.main", f"MODEL={VALUE}", f"RAW_DIR={VALUE}", f"NAME={VALUE}"]]),
    ("plan", ["MODEL", "RAW_DIR", "NAME"], [
        ["-m", "recipe.run.plan", f"MODEL={VALUE}", f"RAW_DIR={VALUE}", f"NAME={VALUE}"]]),
    ("smoke-gpu", ["MODEL"], [["-m", "recipe.smoke_gpu", f"MODEL={VALUE}"]]),
    ("ablate", ["MODEL", "RAW_DIR", "NAME", "SEEDS"], [
        ["-m", "recipe.ablate", f"MODEL={VALUE}", f"RAW_DIR={VALUE}", f"NAME={VALUE}", f"SEEDS={VALUE}"]]),
    ("eval", ["MODEL", "RAW_DIR", "RUN", "ENDPOINT"], [
        ["-m", "recipe.score", f"MODEL={VALUE}", f"RAW_DIR={VALUE}", f"RUN={VALUE}", f"ENDPOINT={VALUE}"]]),
    ("annotate", ["IN", "OUT", "MODEL", "RUN", "LABELS", "FIELDS"], [
        ["-m", "recipe.annotate", "--in", VALUE, "--out", VALUE, "--model", VALUE, "--run", VALUE,
         "--labels", VALUE, "--fields", VALUE]]),
    ("leakage", ["RAW_DIR"], [["-m", "data_prep.leakage", "--raw-dir", VALUE]]),
    ("download", ["RAW_DIR"], [["-m", "data_prep.download", VALUE]]),
    ("data", ["RAW_DIR", "OUT_DIR", "EXPERT", "TOKENIZER", "MAX_PROMPT_LENGTH"], [
        ["-m", "data_prep.prepare", "--raw-dir", VALUE, "--expert", VALUE, "--tokenizer", VALUE,
         "--max-prompt-length", VALUE, "--out-dir", VALUE]]),
    ("data", ["MODEL", "RAW_DIR", "NAME"], [
        ["-m", "recipe.ahead", f"MODEL={VALUE}", f"RAW_DIR={VALUE}", f"NAME={VALUE}"]]),
    ("bench", ["RUN"], [["-m", "bench", VALUE]]),
    ("chat", ["MODEL", "PORT"], [["-m", "recipe.pages.chat", "--model", VALUE, "--port", VALUE]]),
    ("judge", ["RUN", "A", "B", "JUDGE", "ROWS"], [
        ["-m", "recipe.evaluation.judge", VALUE, VALUE, VALUE, "--judge", VALUE, "--rows", VALUE],
        ["-m", "recipe.pages.report", VALUE]]),
    ("lineage", ["RUN", "ROW"], [["-m", "recipe.pages.lineage", VALUE, VALUE]]),
    ("publish", ["RUN", "REPO", "DATASET"], [
        ["-m", "recipe.publish", VALUE, "--repo", VALUE, "--dataset", VALUE]]),
    ("report", ["RUN"], [["-m", "recipe.pages.report", VALUE]]),
    ("verify", ["RUN"], [["-m", "recipe.verify", VALUE]]),
    ("clusters", ["RUN", "MIN_SIZE"], [
        ["-m", "recipe.pages.clusters", "--run", VALUE, "--min-size", VALUE],
        ["-m", "recipe.pages.report", VALUE]]),
    ("clusters", ["DATA"], [["-m", "recipe.pages.clusters", "--data", VALUE]]),
    ("submit", ["RAY_ADDRESS", "RUN_ROOT", "MODEL", "RAW_DIR", "NAME"], [
        ["-m", "launch.submit", "submit", "--address", VALUE, "--run-root", VALUE, "--",
         f"MODEL={VALUE}", f"RAW_DIR={VALUE}", f"NAME={VALUE}"]]),
    ("attach", ["RAY_ADDRESS", "JOB"], [
        ["-m", "launch.submit", "attach", "--address", VALUE, "--job", VALUE]]),
    ("stop-job", ["RAY_ADDRESS", "JOB"], [
        ["-m", "launch.submit", "stop", "--address", VALUE, "--job", VALUE]]),
]  # fmt: skip


@pytest.mark.parametrize(("target", "names", "calls"), ONE_VALUE)
def test_a_value_reaches_the_program_as_it_was_typed(make, target, names, calls):
    expected = [[argument.replace(VALUE, NASTY) for argument in call] for call in calls]
    assert make(target, *(f"{name}={NASTY}" for name in names)) == expected


@pytest.mark.parametrize(("target", "names", "calls"), [case for case in ONE_VALUE if case[0] == "data"])
def test_it_does_so_from_the_environment_too(make, target, names, calls):
    expected = [[argument.replace(VALUE, NASTY) for argument in call] for call in calls]
    assert make(target, **dict.fromkeys(names, NASTY)) == expected


def test_a_value_may_begin_with_a_dash_and_go_on_in_another_line(make):
    value = f"--x{NASTY}\té|<\n{NASTY}"
    assert make("train", f"MODEL={value}", f"NAME={value}") == [
        ["-m", "recipe.main", f"MODEL={value}", f"NAME={value}"]
    ]
    assert make("leakage", f"RAW_DIR={value}") == [["-m", "data_prep.leakage", "--raw-dir", value]]


#: What is typed for a variable of several words, and the words.
WORDS = [
    ("a b=c", ["a", "b=c"]),
    ("evaluate.stages=[cold,rl] run.reuse=[\"a b\"]", ["evaluate.stages=[cold,rl]", "run.reuse=[a b]"]),
    ("""'run.reuse=["a b"]' x=\\"y\\" "it's" """, ['run.reuse=["a b"]', 'x="y"', "it's"]),
    ("a=$HOME b=${oc.env:HOME} c=`touch ran` d=$(touch ran); touch ran & #e *", [
        "a=$HOME", "b=${oc.env:HOME}", "c=`touch", "ran`", "d=$(touch", "ran);", "touch", "ran", "&", "#e",
        "*"]),
    ("+a={b:1,c:2} ~d e.f=null\n g=1", ["+a={b:1,c:2}", "~d", "e.f=null", "g=1"]),
]  # fmt: skip
SEVERAL = [
    ("train", "ARGS", ["-m", "recipe.main"]),
    ("plan", "ARGS", ["-m", "recipe.run.plan"]),
    ("smoke-gpu", "ARGS", ["-m", "recipe.smoke_gpu"]),
    ("eval", "ARGS", ["-m", "recipe.score"]),
    ("ablate", "ARGS", ["-m", "recipe.ablate"]),
    ("submit", "ARGS", ["-m", "launch.submit", "submit", "--address", "", "--run-root", "", "--"]),
    ("compare", "RUNS", ["-m", "recipe.pages.compare"]),
    ("chat", "RUN", ["-m", "recipe.pages.chat", "--run"]),
    ("test-unit", "PYTHONS", ["other_pythons"]),
]
#: Of which a test of its own says how they reach the program.
OF_THEIR_OWN = {("data", "CORPORA"), ("data", "ARGS"), ("annotate", "ARGS"), ("setup", "PROFILE"),
                ("lock", "PROFILE"), ("lock-check", "PROFILE")}  # fmt: skip
#: On or off: nothing of what is typed goes on.
SWITCHES = {"FORCE": "setup", "PUSH": "publish", "QUICK": "soak", "YES": "clean-runs"}


def test_every_value_that_help_names_is_tried(root):
    done = subprocess.run(["make", "-s", "help"], cwd=root, capture_output=True, text=True, check=True)
    lines = re.findall(r"(?m)^  make (\S+) (.*)$", done.stdout)
    named = {(target, name) for target, text in lines for name in re.findall(r"\b([A-Z_]{1,20})=", text)}
    tried = {(target, name) for target, names, _ in ONE_VALUE for name in names}
    tried |= {(target, name) for target, name, _ in SEVERAL}
    assert len(named) > 50
    assert named - tried - OF_THEIR_OWN - {(target, name) for name, target in SWITCHES.items()} == set()


@pytest.mark.parametrize(("target", "name", "call"), SEVERAL)
def test_several_words_are_read_as_by_a_shell_that_runs_nothing(make, target, name, call):
    typed = " ".join(typed for typed, _ in WORDS)
    assert make(target, f"{name}={typed}")[-1] == [*call, *(word for _, words in WORDS for word in words)]


def test_an_open_quote_is_named(make):
    assert make("train", "ARGS=run.name='a", status=2) == []
    assert "ARGS=run.name='a" in make.stderr and "No closing quotation" in make.stderr


def test_args_come_with_the_other_values(make):
    (call,) = make("train", "NAME=my run", "ARGS=run.seed=2 run.resume=true")
    assert call == ["-m", "recipe.main", "NAME=my run", "run.seed=2", "run.resume=true"]


def test_a_run_s_data_are_asked_for_in_the_run_s_words(make):
    asked = make("data", "MODEL=Qwen3-8B", "OUT_DIR=unused", "ARGS=expert=endpoint 'run.name=a b'")
    assert asked == [["-m", "recipe.ahead", "MODEL=Qwen3-8B", "expert=endpoint", "run.name=a b"]]


def test_corpora_come_behind_the_other_values(make):
    (call,) = make("data", f"OUT_DIR={NASTY}", "CORPORA=meld dailydialog")
    assert call == ["-m", "data_prep.prepare", "--out-dir", NASTY, "--corpora", "meld", "dailydialog"]


def test_annotate_hands_its_settings_on_behind_its_files(make):
    (call,) = make("annotate", "IN=my talk.txt", "OUT=out", "RUN=a:rl", 'ARGS=evaluate.samples=3 "a=b c"')
    assert call[2:] == ["--in", "my talk.txt", "--out", "out", "--run", "a:rl", "evaluate.samples=3", "a=b c"]
    assert make("annotate", "IN=a.csv", status=2) == [] and "OUT=... is missing" in make.stderr


@pytest.mark.parametrize("names", [["a", "runs/b"], ["a b", "it's"], ["a"], [NASTY, "b"]])
def test_make_report_takes_several_runs(make, names):
    """make itself knows the last RUN= alone."""
    assert make("report", *(f"RUN={name}" for name in names), "PORT=1") == [
        ["-m", "recipe.pages.report", *names]
    ]
    assert make("report", RUN="of the environment") == [["-m", "recipe.pages.report", "of the environment"]]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("leakage", "RAW_DIR"), ("download", "RAW_DIR"), ("data", "OUT_DIR"), ("bench", "RUN"),
        ("judge", "RUN"), ("lineage", "RUN"), ("report", "RUN"), ("clusters", "RUN"), ("verify", "RUN"),
        ("publish", "RUN"),
        ("annotate", "IN"),
    ],
)  # fmt: skip
def test_a_value_that_is_missing_is_named(make, target, name):
    assert make(target, status=2) == []
    assert f"{name}=..." in make.stderr and "missing" in make.stderr


@pytest.mark.parametrize(
    ("name", "typed", "on"),
    [
        ("FORCE", ["setup"], "--force"),
        ("PUSH", ["publish", "RUN=a"], "--push"),
        ("QUICK", ["soak"], "--short"),
    ],
)
def test_a_switch_is_on_with_1_and_nothing_else(make, tmp_path, name, typed, on):
    def started(value: str) -> str:
        make(*typed, f"{name}={value}")
        return (tmp_path / "calls").read_text()

    assert on in started("1")
    for value in ("0", "no", "", "$(shell touch ran) $(touch ran)"):
        assert on not in started(value)


def test_runs_are_deleted_after_a_yes_or_with_yes_1(make, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    for value in ("0", "no", "$(shell touch ran)"):  # nobody answers here
        make("clean-runs", f"YES={value}", status=2)
        assert runs.exists()
    make("clean-runs", "YES=1")
    assert not runs.exists()


def test_judge_has_two_checkpoints_when_none_is_named(make):
    assert make("judge", "RUN=a")[0] == ["-m", "recipe.evaluation.judge", "a", "cold", "retrained"]


# ---- setup ----


def test_setup_is_told_what_was_asked_for(make, tmp_path):
    def asked(*arguments: str, **environment: str) -> list[str]:
        make("setup", *arguments, **environment)
        (call,) = map(json.loads, (tmp_path / "calls").read_text().splitlines())
        return call[1:]

    assert asked() == []
    assert asked("PROFILE=gpu") == ["--profile", "gpu"] == asked(PROFILE="gpu")
    assert asked("FORCE=1") == ["--force"]
    assert asked("PYTHON=python3") == ["--exact-python"]


def test_make_test_runs_every_folder_of_tests(make, root):
    ran = [call[2] for call in make("test") if call[:2] == ["-m", "pytest"]]
    folders = {path.relative_to(root).parts[1] for path in (root / "tests").rglob("test_*.py")}
    assert sorted(ran) == sorted(["tests/unit/test_house.py", *(f"tests/{name}" for name in folders)])
    assert make("test-programs")[0][2] == "tests/programs"


def test_the_unit_tests_run_with_other_pythons_when_asked(make):
    own, *others = make("test-unit")
    assert own[:3] == ["-m", "pytest", "tests/unit"] and "--cov=recipe" in own and others == []
    assert own[5:7] == ["-m", "not settings"] and make("test-settings") == [[*own[:6], "settings"]]
    assert make("test-unit", "PYTHONS=3.11 3.12")[1:] == [["other_pythons", "3.11", "3.12"]]


@pytest.mark.parametrize(
    ("target", "word", "said"),
    [
        (
            "plan",
            "hardware=1gpu",
            "no hardware=... here: `make help` names what there is, and settings of a run go into",
        ),
        ("data", "CORPUS=meld", "no CORPUS=... here"),
        ("train", "ARG=flywheel.iterations=3", "no ARG=... here"),
        ("data", "ARGS=corpora=[meld]", "asked for with MODEL=...; CORPORA"),
        ("clean-runs", "RUN=mine", "clean-runs deletes all runs"),
    ],
)
def test_what_would_be_read_by_nobody_is_refused(root, target, word, said):
    done = subprocess.run(["make", "-n", target, word], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr


# ---- help ----


def test_help_lists_every_target_in_a_group(root):
    text = (root / "Makefile").read_text()
    done = subprocess.run(["make", "-s", "help"], cwd=root, capture_output=True, text=True, check=True)
    groups = re.findall(r"(?m)^(\S.*)$", done.stdout)
    assert groups == ["Start", "Data", "Judge the result", "Hand on", "Cluster", "Maintain"]
    listed = re.findall(r"(?m)^  make (\S+) ", done.stdout)
    phony = re.search(r"(?m)^\.PHONY: (.*)$", text)[1].split()
    assert sorted(listed) == sorted(phony) and listed[0] == "help"
    targets = re.findall(r"(?m)^([a-z][a-z-]*):(?!=)", text)
    assert set(targets) == set(phony)
