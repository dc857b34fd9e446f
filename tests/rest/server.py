"""The real binary with the REST face, for the tests beside this file, a connection of the line protocol, and a played
etcd. Invariant: no wait is without a deadline, and the first claim that is not true ends the program with status 1.
"""

import base64
import http.client
import http.server
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

HOST = "127.0.0.1"
PATIENCE_S = 60


class Server:
    """The binary, until the end of the block."""

    def __init__(self, binary, *options, port=0, http_port=0):
        ports = ["--port", str(port), "--http-port", str(http_port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DFLOCKD_")}
        self.process = subprocess.Popen([binary, *ports, *options], stderr=subprocess.PIPE, text=True, env=environment)
        lines = queue.Queue()
        threading.Thread(target=read_all, args=(self.process.stderr, lines), daemon=True).start()
        self.log = []
        while (line := lines.get(timeout=PATIENCE_S)) is not None:
            self.log.append(line)
            if match := re.search(r" dflockd listening-http addr=.*:(\d+)$", line):
                self.http_port = int(match[1])
                self.url = f"http://{HOST}:{self.http_port}"
                # The ports of locks come later, when it leads.
                if any(" dflockd standby " in line for line in self.log):
                    return
            if match := re.search(r" dflockd listening-distlockd addr=.*:(\d+)$", line):
                self.distlockd_port = int(match[1])
            if match := re.search(r" dflockd listening addr=.*:(\d+)$", line):
                self.port = int(match[1])
                return
        raise AssertionError(f"it does not start: {self.log}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def ask(self, method, path, body=None, **headers):
        """Status, headers and body of one answer."""
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=PATIENCE_S)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        result = answer.status, answer.headers, answer.read()
        connection.close()
        return result

    def distlockd(self, command, name):
        """Takes (1) or releases (2) a lock over distlockd's protocol. Such a lock outlives the connection."""
        with socket.create_connection((HOST, self.distlockd_port), PATIENCE_S) as connection:
            lengths = len(name).to_bytes(2, "big") + (6).to_bytes(2, "big")
            connection.sendall(bytes([command]) + lengths + name + b"client")
            assert connection.recv(1) == b"\0"

    def line(self, *lines, name=None):
        return Line(self.port, *lines, name=name)


class Line:
    """A connection of the line protocol, which says these lines at once."""

    def __init__(self, port, *lines, name=None):
        self.socket = socket.create_connection((HOST, port), PATIENCE_S)
        self.address = "%s:%d" % self.socket.getsockname()
        self.answers = self.socket.makefile("rb")
        if name:
            assert self.ask("id", "_", name) == b"ok"
        if lines:
            self.say(*lines)

    def say(self, *lines):
        encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
        self.socket.sendall(b"".join(line + b"\n" for line in encoded))

    def hear(self):
        return self.answers.readline().rstrip(b"\n")

    def ask(self, *lines):
        self.say(*lines)
        return self.hear()

    def close(self):
        self.answers.close()
        self.socket.close()


class Etcd:
    """An etcd in which another server leads, until it is told to leave. Every write is carried out, and none is kept."""

    def __init__(self, node, address):
        ids = {"cluster": "0" * 32, "life": "1" * 32}
        self.head = {"version": 1, **ids, "node": node, "address": address, "number": 1, "largest": 0, "leads": True, "left": False}
        self.revision = 1
        self.server = http.server.ThreadingHTTPServer((HOST, 0), Gateway)
        self.server.etcd = self
        self.url = f"http://{HOST}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()

    def leave(self):
        self.head["left"] = True

    def answer(self, path, ask):
        # The head of a leader changes all the time.
        self.revision += 1
        answer = {"header": {"revision": str(self.revision)}}
        if path == "/v3/kv/txn":
            answer["succeeded"] = True
        # A range of the log has an end, and the log is empty.
        elif path == "/v3/kv/range" and "range_end" not in ask:
            head = base64.b64encode(json.dumps(self.head).encode()).decode()
            answer["kvs"] = [{"mod_revision": str(self.revision), "value": head}]
        return answer


class Gateway(http.server.BaseHTTPRequestHandler):
    """The JSON gateway of that etcd."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps(self.server.etcd.answer(self.path, ask)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def read_all(stream, lines):
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)


def prove(claim, *arguments, patience_s=PATIENCE_S):
    """Runs a claim, which is a function with a name that says it."""
    text = claim.__name__.replace("_", " ")

    def late(*_):
        raise AssertionError(f"not done after {patience_s} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(patience_s)
    begin = time.monotonic()
    try:
        claim(*arguments)
    except Exception:
        print(f"FAILED: {text}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    signal.alarm(0)
    print(f"ok: {text} ({time.monotonic() - begin:.1f} s)", flush=True)
