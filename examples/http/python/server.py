"""A bot over HTTP, with nothing but Python's standard library. It does what
examples/tally does in Go:

    PARLEY_BOT_SECRET=… PORT=8070 python3 server.py
"""

import hashlib
import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["PARLEY_BOT_SECRET"].encode()
MAX_BODY = 64 * 1024  # what Parley posts at most
MAX_AGE = 300  # seconds; an older request may be a recorded one


def signed(headers, body):
    """Tells whether a request is Parley's, and of now."""
    stamp = headers.get("X-Parley-Timestamp", "")
    if not (stamp.isascii() and stamp.isdigit()) or abs(time.time() - int(stamp)) > MAX_AGE:
        return False
    want = "sha256=" + hmac.new(SECRET, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(want.encode(), headers.get("X-Parley-Signature", "").encode())


def say(text):
    return {"effect": "send", "value": {"text": text}}


def turn(state, kind, what):
    """Decides about one event: from the state and what has happened to the answer. It
    keeps nothing itself, so it may be asked twice about the same event."""
    if kind == "timer_fired":
        return {"effects": [say("ring " + what["name"].removeprefix("t"))]}
    command = what.get("payload") or (what.get("text") if kind == "message" else "") or ""
    word, k, n = (command.split() + ["", "", ""])[:3]
    effects = []
    if word == "remind" and k.isdecimal() and n.isdecimal():
        effects.append({"effect": "set_timer", "value": {"name": "t" + k, "in": int(n) * 1_000_000}})  # nanoseconds
    elif word == "forget" and k.isdecimal() and n.isdecimal():
        effects.append({"effect": "cancel_timer", "value": {"name": "t" + n}})
    elif word != "say" or not k.isdecimal():
        return {"effects": effects}
    commands = (state or {}).get("commands", 0) + 1
    effects.append(say(f"said {k} #{commands}"))
    return {"state": {"commands": commands}, "effects": effects}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # so that connections are kept
    wbufsize = -1  # so that an answer is one write

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        if size > MAX_BODY:
            self.close_connection = True
            return self.answer(413, b"")
        body = self.rfile.read(size)
        if not signed(self.headers, body):
            return self.answer(401, b"")
        asked = json.loads(body)
        self.answer(200, json.dumps(turn(asked["state"], asked["input"]["kind"], asked["input"]["input"])).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing of each request."""


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8070"))), Handler)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
