"""The published Python client of distlockd, version 1.0.3, against the real binary:

    python tests/published/client.py target/release/dflockd

It has to be importable, for example in a venv with `pip install distlockd==1.0.3`. What that package says about its
server is checked here, and what README.md promises to those who change to this one. Not here: frames that its client
never sends. Invariant: no wait is without a deadline, and the first claim that is not true is named and ends it with
status 1.
"""

import contextlib
import io
import logging
import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import distlockd
from distlockd.benchmark import BenchmarkRunner
from distlockd.client import Client
from distlockd.exceptions import ConnectionError, LockAcquisitionTimeout, LockReleaseError, ServerError

HOST = "127.0.0.1"
# For each claim; the longest takes some five seconds on a quiet machine, and waiting for a stale lock ten.
PATIENCE_S = 60


class Server:
    """The binary, until the end of the block."""

    processes = []

    def __init__(self, binary, *options, port=None):
        self.command = [binary, "--port", "0", *options]
        self.port = port

    def __enter__(self):
        ports = [self.port] if self.port else random.sample(range(20000, 32000), 20)
        for self.port in ports:
            if self.start():
                return self
        raise AssertionError(f"it does not start: {self.log}")

    def start(self):
        command = self.command + ["--distlockd-port", str(self.port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DFLOCKD_")}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.processes.append(self.process)
        lines = queue.Queue()
        threading.Thread(target=read_all, args=(self.process.stderr, lines), daemon=True).start()
        self.log = []
        while line := lines.get(timeout=PATIENCE_S):
            self.log.append(line)
            if match := re.search(r" dflockd listening addr=.*:(\d+)$", line):
                assert re.search(rf" dflockd listening-distlockd addr=.*:{self.port}$", self.log[-2]), self.log
                self.line_port = int(match[1])
                return True
        # Somebody else had the port.
        assert self.process.wait(PATIENCE_S) == 1, self.log
        return False

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def client(self, **settings):
        return Client(host=HOST, port=self.port, **settings)

    def line(self):
        return Line(self.line_port)


class Line:
    """A connection to the other port."""

    def __init__(self, port):
        self.socket = socket.create_connection((HOST, port), PATIENCE_S)
        self.answers = self.socket.makefile()

    def ask(self, *lines):
        self.socket.sendall("".join(line + "\n" for line in lines).encode())
        return self.answers.readline().split()[0]

    def close(self):
        self.answers.close()
        self.socket.close()


class Warnings(logging.Handler):
    """What the client complains of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())

    @contextlib.contextmanager
    def none(self):
        before = len(self.texts)
        yield
        assert self.texts[before:] == [], self.texts[before:]


def read_all(stream, lines):
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)


def raises(kind, call, *arguments, **settings):
    """The exception of this kind that it raises."""
    try:
        result = call(*arguments, **settings)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {result}")


def says_that_it_is_healthy(server):
    assert server.client().check_server_health() is True
    with socket.socket() as nobody:
        nobody.bind((HOST, 0))
        assert Client(host=HOST, port=nobody.getsockname()[1]).check_server_health() is False


def grants_and_takes_back(server):
    client = server.client()
    for name in ["k", "with a blank", "Schloß/🔒", "n" * 65535]:
        assert client.acquire(name, timeout=5.0) is True
        assert client.release(name) is True
        # No longer anybody's.
        raises(LockReleaseError, client.release, name)


def is_busy_until_the_client_loses_patience(server):
    holder, other = server.client(), server.client()
    assert holder.acquire("busy")
    began = time.monotonic()
    error = raises(LockAcquisitionTimeout, other.acquire, "busy", timeout=0.5)
    took = time.monotonic() - began
    assert 0.5 <= took < 5, took
    assert error.details["lock_name"] == "busy" and error.details["attempts"] >= 2, error.details
    assert holder.release("busy")
    assert other.acquire("busy", timeout=0.5) and other.release("busy")


def grants_its_holder_again(server):
    holder, other = server.client(), server.client()
    assert holder.acquire("again") and holder.acquire("again", timeout=0.5)
    raises(LockAcquisitionTimeout, other.acquire, "again", timeout=0.1)
    # Twice granted, and still one lock.
    assert holder.release("again")
    assert other.acquire("again", timeout=0.1) and other.release("again")


def does_not_release_what_is_anothers(server):
    holder, other = server.client(), server.client()
    # The other is known, too.
    assert holder.acquire("mine") and other.acquire("its")
    error = raises(LockReleaseError, other.release, "mine")
    assert "Invalid release" in str(error), error
    raises(LockAcquisitionTimeout, other.acquire, "mine", timeout=0.1)
    assert holder.release("mine") and other.release("its")


def holds_for_a_block(server):
    holder, other = server.client(), server.client()
    with holder.lock("block", timeout=1.0):
        raises(LockAcquisitionTimeout, other.acquire, "block", timeout=0.1)
    with other.lock("block", timeout=0.1):
        pass

    def fails():
        with holder.lock("block", timeout=1.0):
            raise KeyError("in the block")

    raises(KeyError, fails)
    assert other.acquire("block", timeout=0.1) and other.release("block")


def has_one_holder_at_a_time(server):
    inside, worst, done = [], [], []

    def work():
        client = server.client()
        for _ in range(5):
            with client.lock("turns", timeout=PATIENCE_S):
                inside.append(client)
                time.sleep(0.01)
                worst.append(len(inside))
                inside.remove(client)
            # Long enough for the others to come by.
            time.sleep(0.15)
        done.append(client)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_S)
    assert len(done) == 4 and len(worst) == 20 and max(worst) == 1, (len(done), worst)


def outlives_the_sockets_of_its_holder(server):
    holder, other = server.client(), server.client()
    assert holder.acquire("cut")
    (used,) = holder._pool.connections
    used.shutdown(socket.SHUT_RDWR)
    raises(LockAcquisitionTimeout, other.acquire, "cut", timeout=0.3)
    # By the pool's next socket: who holds is the client, not its connection.
    assert holder.release("cut")
    assert used not in holder._pool.connections


def is_found_again_after_a_restart(server):
    binary = server.command[0]
    with Server(binary) as first:
        client = first.client()
        assert client.acquire("k") and first.stop() == 0
        assert client.check_server_health() is False
        raises(ConnectionError, client.acquire, "k", timeout=0.1)
    with Server(binary, port=first.port) as second:
        # All state is in memory: it is nobody's, and its holder's release is none.
        raises(LockReleaseError, client.release, "k")
        assert client.acquire("k", timeout=5.0) and client.release("k")
        assert second.stop() == 0


def is_one_space_with_the_line_protocol(server):
    client, line = server.client(), server.line()
    assert client.acquire("shared")
    assert line.ask("l", "shared", "0") == "timeout"
    assert client.release("shared")
    assert line.ask("l", "shared", "0") == "ok"
    raises(LockAcquisitionTimeout, client.acquire, "shared", timeout=0.3)
    line.close()
    assert client.acquire("shared", timeout=5.0) and client.release("shared")


def tells_of_a_limit(server):
    with Server(server.command[0], "--max-locks", "1") as small:
        client = small.client()
        assert client.acquire("one")
        raises(ServerError, client.acquire, "two", timeout=0.1)
        assert client.release("one") and client.acquire("two", timeout=0.1)


def takes_back_while_it_stops(server):
    with Server(server.command[0]) as stopping:
        client, line = stopping.client(), stopping.line()
        assert line.ask("l", "held", "0") == "ok"
        assert client.acquire("k") and client.check_server_health()
        stopping.process.terminate()
        assert eventually(lambda: not client.check_server_health())
        raises(ServerError, client.acquire, "another", timeout=0.1)
        # From a new connection, too.
        client._pool.close_all()
        assert client.release("k")
        line.close()
        assert stopping.process.wait(PATIENCE_S) == 0


# What the project's own documents show, but for the port, and for what 1.0.3 has not: `from distlockd import Client`,
# and `Client(timeout=, retry=)`, which are `operation_timeout` and `retry_count` there.
SNIPPETS = """
    from distlockd.client import Client
    # Create a Basic client
    client = Client(host="localhost", port=PORT)
    # Create a Client with custom timeout and retry logic
    client = Client(host="localhost", port=PORT, operation_timeout=5.0, retry_count=3)
    # Check server health
    if client.check_server_health():
        print("Server is healthy!")

    # Manual lock acquisition and release
    if client.acquire("my-resource", timeout=5.0):
        try:
            print("Lock acquired successfully")
            # Do critical work here...
        finally:
            if client.release("my-resource"):
                print("Lock released successfully")

    # Using context manager for automatic lock release
    try:
        with client.lock("shared-resource", timeout=3.0):
            print("Lock acquired via context manager")
            # Do critical work here...
        # Lock is automatically released when the block exits
        print("Lock automatically released")
    except Exception as e:
        print(f"Failed to acquire lock: {e}")

    from distlockd.exceptions import LockAcquisitionTimeout, LockReleaseError, ConnectionError
    try:
        with client.lock("resource"):
            # Critical section
            pass
    except LockAcquisitionTimeout:
        print("Failed to acquire lock: timeout")
    except LockReleaseError as e:
        print(f"Error releasing lock: {e}")
    except ConnectionError as e:
        print(f"Connection error: {e}")
"""
SAID = """\
Server is healthy!
Lock acquired successfully
Lock released successfully
Lock acquired via context manager
Lock automatically released
"""


def does_what_its_documents_show(server):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(textwrap.dedent(SNIPPETS).replace("PORT", str(server.port)), {})
    assert said.getvalue() == SAID, said.getvalue()


def passes_its_own_benchmark(server):
    runner = BenchmarkRunner("distlockd", HOST, server.port, iterations=200, throughput_seconds=1)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            runner.run_all()
        except SystemExit as end:
            raise AssertionError(f"it ended itself with status {end.code}")
    found = {name: float(value) for name, value in re.findall(r"\| (.+?) \| ([\d.]+) \|", said.getvalue())}
    assert found["Concurrency Success Rate (%)"] == 100, said.getvalue()
    assert found["Throughput (ops/sec)"] > 0 and found["Latency Min (ms)"] > 0, said.getvalue()


def ends(server):
    assert server.stop() == 0


class Stale:
    """A lock whose holder says nothing more, and one who waits for it; another lock, whose holder takes it again. It
    takes as long as the other claims."""

    def __init__(self, server):
        self.holder, self.other = server.client(), server.client()
        self.began = time.monotonic()
        assert self.holder.acquire("stale") and self.holder.acquire("kept")
        self.took = None
        self.waiter = threading.Thread(target=self.wait, daemon=True)
        self.waiter.start()

    def wait(self):
        if self.other.acquire("stale", timeout=PATIENCE_S):
            self.took = time.monotonic() - self.began

    def may_take_it_again_in_time(self, _server):
        self.again = time.monotonic()
        assert self.holder.acquire("kept")

    def goes_to_the_next_after_ten_seconds(self, _server):
        self.waiter.join(PATIENCE_S)
        assert self.took is not None, "it went to nobody"
        assert 10 <= self.took < 15, self.took
        raises(LockReleaseError, self.holder.release, "stale")
        raises(LockAcquisitionTimeout, self.holder.acquire, "stale", timeout=0.1)
        assert self.other.release("stale")

    def keeps_what_it_took_again(self, _server):
        left = self.again + 10 - time.monotonic()
        assert left < 0 or self.holder.release("kept"), left


class Idle:
    """A socket that the pool keeps for longer than the server lets anybody be silent."""

    def __init__(self, server, warnings):
        self.client, self.warnings = server.client(), warnings
        assert self.client.check_server_health()
        (self.socket,) = self.client._pool.connections

    def is_as_good_as_new(self, _server):
        with self.warnings.none():
            assert self.client.acquire("idle") and self.client.release("idle")
        assert self.client._pool.connections == [self.socket]


def eventually(is_so):
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def where(error):
    """The last line of this file that it came by."""
    lines = [trace.tb_lineno for trace in traces(error) if trace.tb_frame.f_code.co_filename == __file__]
    return lines[-1]


def traces(error):
    trace = error.__traceback__
    while trace:
        yield trace
        trace = trace.tb_next


def prove(text, claim, *arguments):
    def fail(why):
        print(f"FAILED: {text}: {why!r}", file=sys.stderr, flush=True)
        for process in Server.processes:
            process.kill()
        # Not by an exception: the client takes most of them for a reason to ask again.
        os._exit(1)

    signal.signal(signal.SIGALRM, lambda *_: fail(f"not done after {PATIENCE_S} s"))
    signal.alarm(PATIENCE_S)
    try:
        result = claim(*arguments)
    except Exception as error:
        fail(f"line {where(error)}: {type(error).__name__}: {error}")
    signal.alarm(0)
    print(f"ok: {text}", flush=True)
    return result


def main(binary):
    assert distlockd.__version__ == "1.0.3", distlockd.__version__
    warnings = Warnings()
    # The client logs into the root, with a handler of its own, and would fill the screen.
    logging.getLogger().handlers = [warnings]
    logging.getLogger().setLevel(logging.WARNING)

    with Server(binary, "--read-timeout", "1") as server:
        stale = prove("grants what will be stale", Stale, server)
        idle = prove("lets a connection idle", Idle, server, warnings)
        for claim in [
            says_that_it_is_healthy,
            grants_and_takes_back,
            is_busy_until_the_client_loses_patience,
            grants_its_holder_again,
            does_not_release_what_is_anothers,
            holds_for_a_block,
            has_one_holder_at_a_time,
            outlives_the_sockets_of_its_holder,
            is_found_again_after_a_restart,
            is_one_space_with_the_line_protocol,
            tells_of_a_limit,
            takes_back_while_it_stops,
            does_what_its_documents_show,
            passes_its_own_benchmark,
            stale.may_take_it_again_in_time,
            stale.goes_to_the_next_after_ten_seconds,
            stale.keeps_what_it_took_again,
            idle.is_as_good_as_new,
            ends,
        ]:
            prove(claim.__name__.replace("_", " "), claim, server)


if __name__ == "__main__":
    main(sys.argv[1])
