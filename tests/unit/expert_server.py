"""An OpenAI-compatible endpoint on this machine, which can misbehave in every way we know."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "sk-very-secret-0123456789"


class Server:
    """An OpenAI-compatible endpoint; ``script`` says how it treats the next requests, then all is well."""

    def __init__(self):
        self.script, self.bodies, self.keys, self.reply = [], [], [], lambda body: "fine"
        self.usage, self.answered = (1000, 500), []
        self.busy = self.most_at_once = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.bodies.append(body)
                    outer.keys.append(self.headers.get("Authorization"))
                    behave = outer.script.pop(0) if outer.script else "ok"
                    outer.busy += 1
                    outer.most_at_once = max(outer.most_at_once, outer.busy)
                try:
                    outer.behave(self, behave, body)
                finally:
                    with outer.lock:
                        outer.busy -= 1

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"

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
        if isinstance(behave, tuple):  # a status, and a body of its own
            send(behave[0], behave[1] if isinstance(behave[1], bytes) else json.dumps(behave[1]).encode())
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
