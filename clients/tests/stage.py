"""The stage on which each client library is tested: real servers, a faulty proxy before each of them, and orders over HTTP.
It knows nothing of locks. Invariant: everything it starts has ended when its standard input has.

    python3 clients/tests/stage.py target/release/dflockd

The first line of its output is the address that takes orders. A body and an answer are JSON.

    POST   /servers             starts a server; {"options": [..], "keeps": false, "certificate": null} -> {"name", "url",
                                "direct", "port"}: `url` leads through the proxy, `direct` does not, `port` is the line
                                protocol's. With "keeps" its locks outlive a restart. "certificate" is "localhost" or
                                "elsewhere": then `direct` is https, and there is no proxy, so `url` is the same.
    DELETE /servers/NAME        ends it.
    POST   /servers/NAME/signal    {"signal": "STOP"}: CONT, KILL, TERM and others, too. Waits for the end after KILL.
    POST   /servers/NAME/restart   kills it if it runs, and starts it on the same ports.
    POST   /servers/NAME/refuse    {"seconds": 2}: for so long the proxy refuses connections and has none.
    POST   /servers/NAME/close-idle  closes connections that no request is on -> {"closed": 1}.
    GET    /servers/NAME/requests  what came to the proxy: [{"at", "method", "path", "body", "status", "connection"}]; `at`
                                in seconds of CLOCK_BOOTTIME, `status` null while there is no answer, or if it was lost.
    DELETE /servers/NAME/requests  forgets them.
    POST   /servers/NAME/orders    what the proxy does with the next requests that fit: {"do", "match", "after", "times"}.
                                `match` is a regular expression for "METHOD /path", by default every request; the first
                                `after` (0) of them are left alone, `times` (1) are met, null for all.
             {"do": "cut", "at": 10}      ends the connection after so many bytes of the answer
             {"do": "delay", "seconds": 1}  the answer comes so much later
             {"do": "hold", "seconds": 1}   the request comes to the server so much later
             {"do": "swallow"}              the server never has the request; no answer, no end, until orders are forgotten
             {"do": "say", "answer": ".."}  these bytes are the answer, the connection ends, the server never has the request
             {"do": "chunk"}                the answer comes in chunks of 7 bytes (RFC 9112, 7.1)
             {"do": "hide"}                 the server does not learn that the client hangs up meanwhile
    DELETE /servers/NAME/orders    forgets them.
    GET    /certificates        -> {"ca": FILE, "other_ca": FILE}: the authority of both certificates, and a stranger.
"""

import json
import os
import queue
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"
PATIENCE_S = 30
CHUNK = 7


class Message:
    """The bytes of one request or answer, which has a Content-Length or nothing behind its head."""

    def __init__(self, first_line, data):
        self.first_line = first_line
        self.data = data

    def body(self):
        return self.data.split(b"\r\n\r\n", 1)[1]

    def in_chunks(self):
        head, body = self.data.split(b"\r\n\r\n", 1)
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
        parts = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)] + [b""]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        return b"\r\n".join([*lines, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n" + chunks


def read_message(file):
    """The next message of a connection, None at its end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = file.readline()
        if not line:
            return None
        head += line
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    body = file.read(int(length[1])) if length else b""
    return Message(head.split(b"\r\n", 1)[0].decode(), head + body)


class Connection:
    """One connection of a client. The lock is held while the last of an answer is sent: whoever has read it finds the
    connection idle."""

    def __init__(self):
        self.is_busy = False
        self.lock = threading.Lock()


class Proxy:
    """Stands before one server and does as ordered with what passes."""

    def __init__(self, target):
        self.target = target
        self.lock = threading.Lock()
        self.orders = []
        self.requests = []
        self.forgotten = threading.Event()
        self.connections = {}
        self.count = 0
        self.holder, self.port = hold()
        self.listen()

    def listen(self):
        self.listener = socket.create_server((HOST, self.port), backlog=1024)
        self.accepting = threading.Thread(target=self.accept, args=(self.listener,), daemon=True)
        self.accepting.start()

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections[client] = Connection()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def refuse(self, seconds):
        """Closes the listener and every connection, and opens the port again after so long."""
        self.close_listener()
        with self.lock:
            for client in self.connections:
                end(client)
        time.sleep(seconds)
        self.listen()

    def close_listener(self):
        # A thread in accept(2) keeps the port; only a shutdown wakes it.
        end(self.listener)
        self.accepting.join()
        self.listener.close()

    def close_idle(self):
        with self.lock:
            connections = list(self.connections.items())
        closed = 0
        for client, connection in connections:
            with connection.lock:
                if not connection.is_busy:
                    end(client)
                    closed += 1
        return closed

    def forget_orders(self):
        with self.lock:
            self.orders.clear()
            self.forgotten.set()
            self.forgotten = threading.Event()

    def order_for(self, request):
        """The first order that fits and is not used up."""
        with self.lock:
            for order in self.orders:
                if not re.search(order.get("match", ""), request):
                    continue
                if order.get("after", 0) > 0:
                    order["after"] -= 1
                    continue
                times = order.get("times", 1)
                if times == 0:
                    continue
                order["times"] = None if times is None else times - 1
                return order, self.forgotten
            return {"do": "pass"}, self.forgotten

    def serve(self, client):
        """One connection of a client, which has a connection to the server of its own."""
        with self.lock:
            self.count += 1
            number = self.count
            connection = self.connections[client]
        server = None
        try:
            file = client.makefile("rb")
            while message := read_message(file):
                with connection.lock:
                    connection.is_busy = True
                server = server or self.connect()
                if not self.exchange(client, connection, server, message, number):
                    break
        except OSError:
            pass
        finally:
            with self.lock:
                del self.connections[client]
            for each in [client, server]:
                if each:
                    end(each)
                    each.close()

    def connect(self):
        server = socket.create_connection((HOST, self.target), PATIENCE_S)
        server.settimeout(None)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server

    def exchange(self, client, connection, server, message, number):
        """One request and its answer. Whether the connection goes on."""
        method, path, _ = message.first_line.split(" ", 2)
        entry = {"at": time.clock_gettime(time.CLOCK_BOOTTIME), "method": method, "path": path, "status": None}
        entry |= {"body": parsed(message.body()), "connection": number}
        with self.lock:
            self.requests.append(entry)
        order, forgotten = self.order_for(f"{method} {path}")
        do = order["do"]
        if do == "swallow":
            while not forgotten.wait(0.05) and not has_ended(client):
                pass
            return False
        if do == "say":
            client.sendall(order["answer"].encode())
            return False
        if do == "hold":
            forgotten.wait(order["seconds"])
        server.sendall(message.data)
        answer = self.answer(client, server, is_hidden=do in ("hide", "cut", "delay"))
        if answer is None:
            return False
        if do == "delay":
            forgotten.wait(order["seconds"])
        data = answer.in_chunks() if do == "chunk" else answer.data
        cut = order["at"] if do == "cut" else len(data)
        if cut >= len(data):
            entry["status"] = int(answer.first_line.split(" ")[1])
        with connection.lock:
            client.sendall(data[:cut])
            connection.is_busy = cut < len(data) or b"\r\nConnection: close" in data
        return not connection.is_busy

    def answer(self, client, server, is_hidden):
        """The server's answer. None if it hangs up, or if the client does and that is not hidden."""
        file = server.makefile("rb")
        readable([server] if is_hidden else [server, client])
        if not is_hidden and not readable([server], 0) and has_ended(client):
            return None
        return read_message(file)

    def close(self):
        self.close_listener()
        self.forget_orders()
        with self.lock:
            for client in self.connections:
                end(client)


def hold():
    """A free port, and a socket that keeps it whether or not somebody listens there, so that no other program gets it by
    chance, be it for a connection. While nobody listens, connections are refused."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((HOST, 0))
    return holder, holder.getsockname()[1]


def readable(connections, wait_ms=None):
    """Waits until one of them has something to read, or its end; whether there is one. select(2) would be at its end
    with the 1,024th file."""
    poll = select.poll()
    for each in connections:
        poll.register(each, select.POLLIN)
    return bool(poll.poll(wait_ms))


def has_ended(client):
    """Whether the peer has hung up."""
    try:
        return readable([client], 0) and not client.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def end(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def parsed(body):
    try:
        return json.loads(body)
    except ValueError:
        return None


class Server:
    """A real server, and the proxy before it."""

    def __init__(self, binary, folder, options, keeps, certificate):
        self.binary = binary
        self.options = list(options)
        self.folder = folder
        if keeps:
            self.options += ["--state-dir", folder]
        self.scheme = "https" if certificate else "http"
        if certificate:
            self.options += ["--tls-cert", certificate + ".pem", "--tls-key", certificate + ".key"]
        self.process = None
        self.holder, self.port = hold()
        self.http_holder, self.http_port = hold()
        self.start()
        self.proxy = None if certificate else Proxy(self.http_port)

    def start(self):
        ports = ["--port", str(self.port), "--http-port", str(self.http_port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DFLOCKD_")}
        self.process = subprocess.Popen(
            [self.binary, *ports, *self.options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        lines = queue.Queue()
        threading.Thread(target=read_all, args=(self.process.stderr, lines), daemon=True).start()
        log = []
        while (line := lines.get(timeout=PATIENCE_S)) is not None:
            log.append(line)
            if " dflockd listening addr=" in line:
                return
        raise RuntimeError(f"the server does not start: {log}")

    def told(self, name):
        direct = f"{self.scheme}://localhost:{self.http_port}"
        url = f"http://{HOST}:{self.proxy.port}" if self.proxy else direct
        return {"name": name, "url": url, "direct": direct, "port": self.port}

    def signal(self, name):
        self.process.send_signal(getattr(signal, "SIG" + name))
        if name == "KILL":
            self.process.wait()

    def restart(self):
        self.process.kill()
        self.process.wait()
        self.start()

    def close(self):
        if self.proxy:
            self.proxy.close()
        self.process.kill()
        self.process.wait()


def read_all(file, lines):
    """Reads until the end, so that the server never waits for a reader."""
    for line in file:
        lines.put(line.rstrip("\n"))
    lines.put(None)


class Stage:
    """All servers, by their names."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = folder
        self.servers = {}
        self.ended = []  # They keep their ports, where a test may still expect nobody.
        self.count = 0
        self.lock = threading.Lock()

    def start(self, order):
        with self.lock:
            self.count += 1
            name = f"s{self.count}"
        folder = os.path.join(self.folder, name)
        os.mkdir(folder)
        certificate = order.get("certificate")
        if certificate:
            certificate = os.path.join(self.certificates(), certificate)
        server = Server(self.binary, folder, order.get("options", []), order.get("keeps", False), certificate)
        self.servers[name] = server
        return server.told(name)

    def certificates(self):
        """The folder with the authorities and certificates, made when somebody first asks."""
        with self.lock:
            folder = os.path.join(self.folder, "certificates")
            if not os.path.exists(folder):
                os.mkdir(folder)
                # Without it OpenSSL's strict checks, which Python 3.13 has by default, take it for no authority.
                usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
                for authority in ["ca", "other_ca"]:
                    options = ["-subj", "/CN=" + authority, *usage, "-out", authority + ".pem"]
                    openssl(folder, "req", "-x509", *options, key=authority)
                for name in ["localhost", "elsewhere"]:
                    names = "DNS:localhost,IP:127.0.0.1" if name == "localhost" else "DNS:elsewhere.example"
                    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=" + names]
                    leaf = ["-addext", "basicConstraints=critical,CA:FALSE"]
                    openssl(folder, "req", "-x509", "-subj", "/CN=" + name, *signed, *leaf, "-out", name + ".pem", key=name)
        return folder

    def close(self):
        for server in self.servers.values():
            server.close()


def openssl(folder, *arguments, key):
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key + ".key"]
    subprocess.run(["openssl", *arguments, *new_key, "-days", "2"], cwd=folder, check=True, capture_output=True)


class Orders(BaseHTTPRequestHandler):
    """Takes one order after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # A head and a body are two writes; the second would wait 40 ms for a receipt.
    stage = None

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        self.carry_out("POST", json.loads(self.rfile.read(length) or b"{}"))

    def do_GET(self):
        self.carry_out("GET", {})

    def do_DELETE(self):
        self.carry_out("DELETE", {})

    def carry_out(self, method, order):
        try:
            status, answer = 200, self.answer(method, self.path.strip("/").split("/"), order)
        except Exception as error:  # A suite reads what went wrong here instead of a traceback over there.
            status, answer = 500, {"error": repr(error)}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, method, path, order):
        stage = self.stage
        match [method, *path]:
            case ["POST", "servers"]:
                return stage.start(order)
            case ["DELETE", "servers", name]:
                stage.servers[name].close()
                stage.ended.append(stage.servers.pop(name))
            case ["POST", "servers", name, "signal"]:
                stage.servers[name].signal(order["signal"])
            case ["POST", "servers", name, "restart"]:
                stage.servers[name].restart()
            case ["POST", "servers", name, "refuse"]:
                stage.servers[name].proxy.refuse(order["seconds"])
            case ["POST", "servers", name, "close-idle"]:
                return {"closed": stage.servers[name].proxy.close_idle()}
            case ["POST", "servers", name, "orders"]:
                proxy = stage.servers[name].proxy
                with proxy.lock:
                    proxy.orders.append(order)
            case ["DELETE", "servers", name, "orders"]:
                stage.servers[name].proxy.forget_orders()
            case ["GET", "servers", name, "requests"]:
                with stage.servers[name].proxy.lock:
                    return list(stage.servers[name].proxy.requests)
            case ["DELETE", "servers", name, "requests"]:
                with stage.servers[name].proxy.lock:
                    stage.servers[name].proxy.requests.clear()
            case ["GET", "certificates"]:
                folder = stage.certificates()
                return {"ca": os.path.join(folder, "ca.pem"), "other_ca": os.path.join(folder, "other_ca.pem")}
            case _:
                raise ValueError(f"no such order: {method} {self.path}")
        return {}

    def log_message(self, *_):
        pass


class ManyOrders(ThreadingHTTPServer):
    """Each test of a suite that runs them side by side has a connection, and all of them come at once."""

    daemon_threads = True
    request_queue_size = 128


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: stage.py DFLOCKD")
    folder = tempfile.mkdtemp(prefix="stage-")
    stage = Orders.stage = Stage(os.path.abspath(sys.argv[1]), folder)
    orders = ManyOrders((HOST, 0), Orders)
    threading.Thread(target=orders.serve_forever, daemon=True).start()
    try:
        print(f"http://{HOST}:{orders.server_address[1]}", flush=True)
        sys.stdin.read()
    finally:
        stage.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
