"""Processes that start warm: forked from one that has imported torch, veRL and vLLM already.

On two cores a stage's time before its first step is mostly imports: Ray starts each actor, and vLLM its
engine, as a new interpreter that reads the same 8,000 modules. `forking` gives an executable that takes
Python's own arguments and has them run in a fork of this process. Only where no accelerator is in use: a
CUDA context does not survive a fork.

A run has one such process for all of its stages (`recipe.run.warm_start`), and a stage, which is a fork
of it, one of its own for its workers: they end with the stage, and know its environment.
"""

from __future__ import annotations

import atexit
import importlib
import io
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import traceback
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

#: Where a process finds the executable; vLLM's server starts its engine with it.
VARIABLE = "SELF_EMO_WARM_PYTHON"
_CLIENT = Path(__file__).with_name("warm_client.py")
#: What Ray's processes read from their environment once, when Ray is imported: the driver's job, which is a
#: local cluster's first; that an agent ends with the pipe to its node, whose child it is not here; and
#: (RAY_RAYLET_PID) the process without which a worker ends, which is here the driver.
_OF_RAY = {"RAY_JOB_ID": "01000000", "RAY_enable_pipe_based_agent_to_parent_health_check": "1"}
_forked = False  # this process is a fork of a server, so the modules are there
_HIGH = 512  # descriptors that were received wait above, until those below are free


@contextmanager
def forking(modules: Sequence[str], last: int = signal.SIGKILL) -> Iterator[Path]:
    """Import ``modules``, then serve forks of this process for the length of the block.

    To be entered while this process has a single thread. Whatever was started ends with the process that
    asked for it; the server ends with the block, and with this process. In a fork of such a server its
    modules are there already.

    Args:
        modules: what the forks need.
        last: the signal that a fork gets when who asked for it, or the server, is gone.

    Yields:
        The executable, to be used in place of `sys.executable`.
    """
    if not _forked:
        if "ray" in sys.modules:
            raise RuntimeError("Ray was imported before its workers' environment was there")
        os.environ |= _OF_RAY | {"RAY_RAYLET_PID": str(os.getpid())}
        _leave_rays_generator_unseeded()
        for name in modules:
            importlib.import_module(name)
        for name in (*_OF_RAY, "RAY_RAYLET_PID"):
            del os.environ[name]
    # Not a TemporaryDirectory: the forks run this process's exit handlers, and would remove it.
    folder = Path(tempfile.mkdtemp(prefix="self-emo-"))
    path, executable = folder / "socket", folder / "python"
    command = [sys.executable, "-IS", str(_CLIENT), str(path)]
    executable.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    executable.chmod(0o700)
    here, there = socket.socketpair()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(64)
    server = os.fork()
    if not server:
        here.close()
        _serve(listening, there, last)
    there.close()
    listening.close()
    os.environ[VARIABLE] = str(executable)
    try:
        yield executable
    finally:
        del os.environ[VARIABLE]
        here.close()
        os.waitpid(server, 0)
        shutil.rmtree(folder)


def _leave_rays_generator_unseeded() -> None:
    """Give classes that become actors an id from the system, in place of Ray's generator of random numbers.

    It lives in C++ and is seeded when first asked, which such a class does when it is imported. All forks
    would then draw the same ids: two workers of a node that start at once put one object into its store, one
    of them crashes, and the driver waits for it for ever.
    """
    from ray import actor

    original = actor.ActorClassID

    class FromSystem:
        @staticmethod
        def from_random() -> Any:
            return original(os.urandom(original.size()))

    actor.ActorClassID = FromSystem


def _serve(listening: socket.socket, owner: socket.socket, last: int) -> None:
    """Fork for whoever asks, until the owner is gone; never returns to its caller."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    wake, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    for source in (listening, owner, wake):
        poll.register(source, select.POLLIN)
    clients: dict[int, tuple[int, socket.socket]] = {}  # by descriptor: the child and who waits for it
    while True:
        for fd, _ in poll.poll():
            if fd == owner.fileno():
                for child, _ in clients.values():
                    os.kill(child, last)
                os._exit(0)
            elif fd == wake.fileno():
                wake.recv(4096)
                _reap(clients, poll)
            elif fd == listening.fileno():
                asked, _ = listening.accept()
                child = os.fork()
                if not child:
                    _become(asked)
                asked.sendall(child.to_bytes(8, "big"))
                clients[asked.fileno()] = child, asked
                poll.register(asked, 0)  # what it sends is for the fork; its end is reported all the same
            elif fd in clients:  # nobody waits for this child any more
                os.kill(clients[fd][0], last)
                poll.unregister(fd)


def _reap(clients: dict[int, tuple[int, socket.socket]], poll: select.poll) -> None:
    """Tell the clients of ended children how they ended."""
    for fd, (child, asked) in list(clients.items()):
        pid, status = os.waitpid(child, os.WNOHANG)
        if not pid:
            continue
        del clients[fd]
        with suppress(KeyError):
            poll.unregister(fd)
        with suppress(OSError):  # it may be gone
            asked.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
        asked.close()


def _become(asked: socket.socket) -> None:
    """In the fork: take the client's place, run what it was asked to run, and end."""
    global _forked
    _forked = True
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    status = 1
    try:
        size = int.from_bytes(_receive(asked, 8), "big")
        request = json.loads(_receive(asked, size))
        _, received, _, _ = socket.recv_fds(asked, 1, len(request["fds"]))
        high = [os.dup2(fd, _HIGH + i, inheritable=False) for i, fd in enumerate(received)]
        asked.detach()
        os.closerange(0, _HIGH)
        for fd, target in zip(high, request["fds"], strict=True):
            os.dup2(fd, target)
            os.close(fd)
        # Only what differs: setproctitle, which Ray uses, loses an environment that was made anew.
        wanted = request["environment"]
        for key in set(os.environ) - set(wanted):
            del os.environ[key]
        os.environ.update({k: v for k, v in wanted.items() if os.environ.get(k) != v})
        tempfile.tempdir = None  # to be found anew in this environment
        os.chdir(request["folder"])
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), line_buffering=True) for fd in (1, 2)
        )
        status = _run(request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _receive(asked: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = asked.recv(size - len(found))
        if not part:
            raise EOFError("the client is gone")
        found += part
    return found


def _run(arguments: list[str]) -> int:
    """What `python <arguments>` would do, of the forms that are used; the exit status.

    The code is Ray's, multiprocessing's or a run's own command line: the socket that it comes through lies in
    a folder that only this user can enter.
    """
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # as in a new interpreter; the standard library sees to its own
    if "ray" in sys.modules:
        sys.modules["ray"]._raylet.Config.initialize("")  # it has read the environment before it was this one
    while arguments[0].startswith("-") and arguments[0] not in ("-c", "-m"):
        arguments = arguments[1:]
    try:
        if arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            main = types.ModuleType("__main__")
            sys.modules["__main__"] = main
            exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
        elif arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


def main() -> None:
    """`python -m recipe.on_verl.warm <module> ...`: name the executable in a line, serve until stdin ends."""
    line = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed by imports
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # also in the midst of imports
    with forking(sys.argv[1:], last=signal.SIGTERM) as executable:
        print(executable, file=line, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    from recipe.on_verl import warm

    warm.main()  # of the module that forks will find under its name
