"""Stands in for `python`: hands its arguments, environment and open files to a fork server and waits.

Run as a plain script, without site-packages, so that it starts in some 20 ms: see `recipe.on_verl.warm`.
"""

import json
import os
import signal
import socket
import sys


def main() -> int:
    """Have `sys.argv[2:]` run by the server at `sys.argv[1]`; the exit status is the fork's."""
    fds = [int(name) for name in os.listdir("/proc/self/fd")]
    fds = sorted(
        fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}") and (fd < 3 or os.get_inheritable(fd))
    )
    server = socket.socket(socket.AF_UNIX)
    server.connect(sys.argv[1])
    child = int.from_bytes(server.recv(8, socket.MSG_WAITALL), "big")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda n, _: os.kill(child, n))
    request = {"arguments": sys.argv[2:], "environment": dict(os.environ), "folder": os.getcwd(), "fds": fds}
    text = json.dumps(request).encode("utf-8", "surrogateescape")
    server.sendall(len(text).to_bytes(8, "big") + text)
    socket.send_fds(server, [b"."], fds)
    for fd in fds[3:]:
        os.close(fd)  # else whoever waits for their end would wait for this process, too
    ended = server.recv(8, socket.MSG_WAITALL)
    if len(ended) < 8:
        return 1
    status = int.from_bytes(ended, "big", signed=True)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main())
