"""A local Ray that hangs does not hang its stage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def test_a_local_cluster_that_never_comes_up_ends_the_driver():
    """Even where the driver waits in C++ and holds Python's lock: so it waits for crashed workers."""
    code = (
        "import ctypes, ray\n"
        "from omegaconf import OmegaConf\n"
        "from recipe.on_verl import ray_session\n"
        "ray_session._LIMIT = 1\n"
        "ray_session.get_ppo_ray_runtime_env = lambda config: {'env_vars': {}}\n"
        "ray.init = lambda **_: ctypes.PyDLL(None).sleep(60)\n"
        "with ray_session.connected(OmegaConf.create({'cluster': {}})): pass\n"
    )
    own = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", code], env=own, timeout=300)
    assert done.returncode == -signal.SIGALRM
