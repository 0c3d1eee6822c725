"""An OpenAI-compatible endpoint on this machine, which can misbehave in every way we know."""

from __future__ import annotations

import json
import threading
import time

from tests.unit.local_server import LocalServer

SECRET = "sk-very-secret-0123456789"


class Server(LocalServer):
    """An OpenAI-compatible endpoint; ``script`` says how it treats the next requests, then all is well."""

    def __init__(self):
        self.script, self.bodies, self.keys, self.reply = [], [], [], lambda body: "fine"
        self.usage, self.answered = (1000, 500), []
        self.busy = self.most_at_once = 0
        self.lock = threading.Lock()
        super().__init__()

    @property
    def url(self) -> str:
        return f"{super().url}/v1"

    def answer(self, handler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.bodies.append(body)
            self.keys.append(handler.headers.get("Authorization"))
            behave = self.script.pop(0) if self.script else "ok"
            self.busy += 1
            self.most_at_once = max(self.most_at_once, self.busy)
        try:
            self.behave(handler, behave, body)
        finally:
            with self.lock:
                self.busy -= 1

    def behave(self, handler, behave, body) -> None:
        def send(status, content, kind="application/json", **headers):
            handler.send_response(status)
            handler.send_header("Content-Type", kind)
            handler.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(content)

        answer = {
            "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": self.reply(body)}}],
            "usage": {"prompt_tokens": self.usage[0], "completion_tokens": self.usage[1], "total_tokens": 0},
        }  # fmt: skip
        good = json.dumps(answer).encode()
        if isinstance(behave, tuple):  # a status, a body of its own, and headers
            content = behave[1] if isinstance(behave[1], bytes) else json.dumps(behave[1]).encode()
            send(behave[0], content, **(behave[2] if len(behave) > 2 else {}))
        elif isinstance(behave, dict):  # 200, with other fields of the one choice
            answer["choices"][0] |= behave
            send(200, json.dumps(answer).encode())
        elif behave == "ok":
            send(200, good)
            self.answered.append(body["messages"][0]["content"])
        elif behave == "html":
            send(200, b"<html><body>Welcome to nginx</body></html>", "text/html")
        elif behave == "truncated":
            send(200, good[: len(good) // 2])
        elif behave == "schema":
            send(200, b'{"answer": "fine"}')
        elif behave == "cut":
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(good)))
            handler.end_headers()
            handler.wfile.write(good[:10])
            handler.wfile.flush()
            handler.connection.close()
        elif behave == "slow":
            time.sleep(0.6)
            send(200, good)
        elif isinstance(behave, int):
            extra = {"Retry_After": "0"} if behave == 429 else {}
            send(behave, json.dumps({"error": {"message": f"no: {SECRET}"}}).encode(), **extra)
