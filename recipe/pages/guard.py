"""What a page on this machine lets in: requests of its own, of a size that a conversation has."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

#: Bytes of a request's body; no model here reads as much.
MOST_BYTES = 4_000_000
_OWN = re.compile(r"http://(127\.0\.0\.1|localhost)(:\d+)?")

Message = MutableMapping[str, Any]


class Guard:
    """An ASGI middleware: 403 to pages of other sites, 413 to a body that is too large.

    Args:
        app: what is guarded.
    """

    def __init__(self, app: Any):
        self.app = app

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[..., Awaitable[None]]
    ) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get(b"origin")
        if origin is not None and not _OWN.fullmatch(origin):
            return await _refuse(send, 403, "only pages of this machine may ask")
        body, more = b"", True
        while more:  # read here: a length may be missing, or a lie
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body, more = body + message.get("body", b""), message.get("more_body", False)
            if len(body) > MOST_BYTES:
                return await _refuse(send, 413, f"a request has at most {MOST_BYTES:,} bytes")
        handed = False

        async def whole() -> Message:
            nonlocal handed
            if handed:
                return await receive()
            handed = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self.app(scope, whole, send)


async def _refuse(send: Callable[..., Awaitable[None]], status: int, words: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": words.encode()})
