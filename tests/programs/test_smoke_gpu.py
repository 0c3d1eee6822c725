"""`make smoke-gpu` ends its run in the middle and resumes it."""

from __future__ import annotations

import signal
import subprocess
import sys

_A_RUN = """
import os, sys, time
os.makedirs(os.path.dirname({reached!r}), exist_ok=True)
if "run.resume=true" in sys.argv:
    sys.exit(0)
open({reached!r}, "w").write("1")
try:
    time.sleep(60)
except KeyboardInterrupt:
    open({ended!r}, "w").write("by Ctrl-C")
"""


def test_in_the_background_too_the_run_is_ended_in_the_middle_and_resumed(tmp_path, root, subprocess_env):
    folder = tmp_path / "smoke"
    reached = folder / "iter_1/rl.work/checkpoints/latest_checkpointed_iteration.txt"
    run = tmp_path / "run.py"
    run.write_text(_A_RUN.format(reached=str(reached), ended=str(tmp_path / "ended")))
    train = (
        "import sys, pathlib; from recipe import smoke_gpu; "
        f"smoke_gpu.command = lambda *_: [sys.executable, {str(run)!r}]; "
        f"smoke_gpu.train([], pathlib.Path({str(folder)!r}))"
    )
    subprocess.run(
        [sys.executable, "-c", train],
        cwd=root,
        env=subprocess_env(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell's `&` has it
        check=True,
        timeout=50,
    )
    assert (tmp_path / "ended").read_text() == "by Ctrl-C"
