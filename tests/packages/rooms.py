"""What the tests of the packages share: namespaces of their own, a server in a room, and two clients.

Invariant: nothing is done outside the namespaces, so the ports may be the real ones, and what is left ends with them.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading

PATIENCE_S = 30


def alone(*options):
    """Goes on in namespaces of its own, with a loopback interface and nothing else, as root."""
    if os.environ.get("ALONE") != "yes":
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *options]
        os.environ["ALONE"] = "yes"
        os.execvp(command[0], [*command, sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Server:
    """A process that has logged that it listens. Its log goes to standard output."""

    def __init__(self, command, env):
        self.process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        self.watch = threading.Timer(PATIENCE_S, self.process.kill)
        self.watch.start()
        for line in self.process.stderr:
            print("   ", line, end="", flush=True)
            if " dflockd listening addr=" in line:
                return
        sys.exit(f"no ready line from {command}")

    def ended(self):
        """The exit status, once it has ended by itself. A server that had to be killed has a negative one."""
        for line in self.process.stderr:
            print("   ", line, end="", flush=True)
        status = self.process.wait()
        self.watch.cancel()
        return status


def ask(connection, *lines):
    connection.sendall("".join(f"{line}\n" for line in lines).encode())
    return connection.makefile().readline().split()


def serves_lines(port):
    """A lock over lines, which another client is not granted until it is released."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as holder:
        status, token, lease = ask(holder, "l", "deploy", "0 300")
        assert (status, lease) == ("ok", "300"), (status, lease)
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as other:
            assert ask(other, "l", "deploy", "0") == ["timeout"]
            assert ask(holder, "r", "deploy", token) == ["ok"]
            assert ask(other, "l", "deploy", "0")[0] == "ok"


def serves(line_port, http_port):
    """The same between a client of lines and one of HTTP."""

    def post(action, body):
        web = http.client.HTTPConnection("127.0.0.1", http_port, timeout=PATIENCE_S)
        web.request("POST", f"/locks/deploy/{action}", json.dumps(body))
        answer = web.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text)
        return json.loads(text)

    with socket.create_connection(("127.0.0.1", line_port), PATIENCE_S) as connection:
        status, token, lease = ask(connection, "l", "deploy", "0 300")
        assert (status, lease) == ("ok", "300"), (status, lease)
        assert post("acquire", {})["acquired"] is False
        assert ask(connection, "r", "deploy", token) == ["ok"]
        granted = post("acquire", {"clientId": "ann"})
        assert granted["acquired"] is True, granted
        assert ask(connection, "l", "deploy", "0") == ["timeout"]
        assert post("release", {"renewalToken": granted["renewalToken"]})["released"] is True
