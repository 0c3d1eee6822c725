"""The stand-ins' server keeps quiet about clients that have gone, and about nothing else."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from tests.unit.local_server import LocalServer


class Late(LocalServer):
    """Answers when the client has gone, or breaks."""

    def __init__(self) -> None:
        self.gone, self.done, self.broken = threading.Event(), threading.Event(), False
        super().__init__()
        shut_down = self.http.shutdown_request
        self.http.shutdown_request = lambda request: (shut_down(request), self.done.set())

    def answer(self, handler) -> None:
        self.gone.wait()
        if self.broken:
            raise KeyError("a stand-in that is wrong")
        for _ in range(50):
            handler.wfile.write(b"x" * 2**20)


@pytest.mark.parametrize("broken", [False, True])
def test_a_client_that_has_gone_is_no_fault(capsys, broken):
    with Late() as server:
        server.broken = broken
        client = socket.create_connection(("127.0.0.1", server.http.server_port))
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        client.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )  # a reset, no farewell
        client.close()
        server.gone.set()
        assert server.done.wait(30)
    assert ("a stand-in that is wrong" in capsys.readouterr().err) == broken
