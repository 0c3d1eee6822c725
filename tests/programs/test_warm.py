import os
import signal
import subprocess
import sys
import time

import pytest

from recipe.on_verl.warm import VARIABLE


@pytest.fixture
def program(tmp_path):
    """Runs code below `forking(["json", "wave"])` in an interpreter of its own, which has no threads."""

    def run(body: str, *arguments: str) -> subprocess.CompletedProcess:
        text = (
            "import os, signal, subprocess, sys, time\n"
            "from recipe.on_verl.warm import forking\n"
            "with forking(['json', 'wave']) as python:\n"
        )
        path = tmp_path / "program.py"
        path.write_text(text + "".join(f"    {line}\n" for line in body.splitlines()))
        root = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
        environment = os.environ | {"PYTHONPATH": root}
        return subprocess.run(
            [sys.executable, path, *arguments], capture_output=True, text=True, timeout=30, env=environment
        )

    return run


def test_a_fork_has_the_modules_and_gets_arguments_environment_folder_and_files(program, tmp_path):
    script = tmp_path / "a script.py"
    script.write_text(
        "import os, sys\n"
        "print(sys.argv[1:], 'wave' in sys.modules, os.environ['WORD'], 'OTHER' in os.environ, os.getcwd(), "
        "sys.stdin.read(), __name__)\n"
        "print('complaint', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    body = (
        "os.environ['OTHER'] = 'kept'\n"
        "environment = {k: v for k, v in os.environ.items() if k != 'OTHER'} | {'WORD': 'é x'}\n"
        "command = [python, '-u', sys.argv[1], 'a b', '$c']\n"
        "done = subprocess.run(\n"
        "    command, env=environment, cwd='/', input='typed', capture_output=True, text=True\n"
        ")\n"
        "print(done.returncode, done.stdout, done.stderr)\n"
    )
    done = program(body, str(script))
    seen = "7 ['a b', '$c'] True é x False / typed __main__\n complaint\n\n"
    assert done.stdout == seen, done.stderr


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("import sys; sys.exit('why')", 1),
        ("1 / 0", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_it_ends_as_python_would(program, code, status):
    done = program(
        "print(subprocess.run([python, '-c', sys.argv[1]], stderr=subprocess.DEVNULL).returncode)", code
    )
    assert done.stdout.split() == [str(status)], done.stderr


_SLEEPER = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
_START = "child = subprocess.Popen([python, '-c', sys.argv[1]], stdout=subprocess.PIPE, text=True)\n"


def test_a_signal_reaches_the_fork(program):
    done = program(_START + "child.stdout.readline(); child.terminate(); print(child.wait())", _SLEEPER)
    assert done.stdout.split() == [str(-signal.SIGTERM)], done.stderr


def test_a_fork_ends_with_who_asked_for_it_while_the_server_goes_on(program):
    wait = "[time.sleep(0.1) for _ in range(50) if os.path.exists(there)]; print(os.path.exists(there))"
    body = _START + "there = f'/proc/{child.stdout.readline().strip()}'; print(os.path.exists(there))\n"
    done = program(body + f"child.kill(); child.wait(); {wait}", _SLEEPER)
    assert done.stdout.split() == ["True", "False"], done.stderr


@pytest.mark.parametrize("end", ["pass", "os._exit(0)"])
def test_no_fork_outlives_the_server(program, end):
    done = program(_START + f"print(child.stdout.readline(), flush=True); {end}", _SLEEPER)
    pid = int(done.stdout)
    for _ in range(50):
        if not os.path.exists(f"/proc/{pid}"):
            break
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}"), done.stderr


def test_multiprocessing_spawns_through_it(program):
    code = (
        "import multiprocessing, os, sys\n"
        f"multiprocessing.set_executable(os.environ['{VARIABLE}'])\n"
        "def work(queue):\n"
        "    queue.put('wave' in sys.modules)\n"
        "if __name__ == '__main__':\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    queue = spawn.Queue()\n"
        "    process = spawn.Process(target=work, args=(queue,))\n"
        "    process.start()\n"
        "    print(queue.get(timeout=20))\n"
        "    process.join()\n"
        "    print(process.exitcode)\n"
    )
    body = (
        "import pathlib\n"
        "path = pathlib.Path(sys.argv[0]).with_name('spawning.py')\n"
        "path.write_text(sys.argv[1])\n"
        "print(subprocess.run([sys.executable, path], capture_output=True, text=True).stdout)"
    )
    assert program(body, code).stdout.split() == ["True", "0"]


def test_forks_draw_different_ids_though_an_actor_class_was_imported(tmp_path):
    """Ray's generator is C++'s own: seeded before the fork, it would give all forks the same ids."""
    (tmp_path / "an_actor.py").write_text("import ray\n@ray.remote\nclass Actor: pass\n")
    code = (
        "import subprocess\n"
        "from recipe.on_verl.warm import forking\n"
        "draw = 'from ray._raylet import ObjectRef; print(ObjectRef.from_random().hex())'\n"
        "with forking(['an_actor']) as python:\n"
        "    for _ in range(3): subprocess.run([python, '-c', draw], check=True)\n"
    )
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": f"{root}:{tmp_path}"},
    )  # fmt: skip
    drawn = done.stdout.split()
    assert len(drawn) == len(set(drawn)) == 3, done


def test_ray_must_not_be_there_before(program):
    done = subprocess.run(
        [sys.executable, "-c", "import ray\nfrom recipe.on_verl.warm import forking\nwith forking([]): pass"],
        capture_output=True,
        text=True,
    )
    assert "Ray was imported before" in done.stderr
