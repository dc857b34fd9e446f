"""What the tests stand on: the stage, and one face for both clients. The asyncio client has its loop in a thread, so
that the same test can ask both.
"""

import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = HERE.parent
STAGE = HERE.parent.parent / "tests" / "stage.py"
sys.path.insert(0, str(PACKAGE))

from distributed_lock_client import AsyncDistributedLockClient, DistributedLockClient  # noqa: E402

PATIENCE_S = 60


def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def until(condition, within_s=PATIENCE_S):
    """Waits until the condition holds, and gives what it said."""
    end = now() + within_s
    while not (value := condition()):
        if now() > end:
            raise AssertionError(f"not within {within_s} s")
        time.sleep(0.03)
    return value


def at_best(most_s, call):
    """Fails if it takes longer each time, five times and for half a minute: a machine that stands still makes it
    longer, and never shorter. `call` gives how long it took, or None if that is to be measured here."""
    all_s, end = [], now() + 30
    while len(all_s) < 5 or now() < end:
        start = now()
        took_s = call()
        all_s.append(now() - start if took_s is None else took_s)
        if all_s[-1] < most_s:
            return
    raise AssertionError(f"at best {most_s} s was asked for, and it took {all_s}")


def busy(test):
    """It does not wait but works, so there is one of it at a time."""
    test.is_busy = True
    return test


def python_of_the_stage():
    """It needs Python 3.10."""
    if sys.version_info >= (3, 10):
        return sys.executable
    for name in ["python3.13", "python3.12", "python3.11", "python3.10", "/usr/bin/python3", "python3"]:
        test = "import sys; sys.exit(sys.version_info < (3, 10))"
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", test], stderr=subprocess.DEVNULL).returncode == 0:
            return path
    raise RuntimeError("the stage needs Python 3.10 or later on the PATH")


class Stage:
    """The stage of this process."""

    def __init__(self):
        command = [python_of_the_stage(), str(STAGE), os.environ["DFLOCKD"]]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = urllib.parse.urlsplit(self.process.stdout.readline().strip()).netloc
        self.local = threading.local()

    def ask(self, method, path, **order):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection(self.address, timeout=60)
        self.local.connection.request(method, path, json.dumps(order) if method == "POST" else None)
        answer = self.local.connection.getresponse()
        data = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(data["error"])
        return data

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


stage_lock = threading.Lock()
the_stage = None


def stage():
    global the_stage
    with stage_lock:
        if the_stage is None:
            the_stage = Stage()
    return the_stage


def end_of_stage():
    if the_stage:
        the_stage.close()


class Server:
    """One server on the stage."""

    def __init__(self, options=(), keeps=False, certificate=None):
        told = stage().ask("POST", "/servers", options=list(options), keeps=keeps, certificate=certificate)
        self.name, self.url, self.direct, self.port = told["name"], told["url"], told["direct"], told["port"]

    def ask(self, method, verb="", **order):
        return stage().ask(method, f"/servers/{self.name}{verb}", **order)

    def end(self):
        if self.name:
            self.ask("DELETE")
        self.name = None

    def order(self, do, match="", **more):
        self.ask("POST", "/orders", do=do, match=match, **more)

    def forget_orders(self):
        self.ask("DELETE", "/orders")

    def signal(self, name):
        self.ask("POST", "/signal", signal=name)

    def restart(self):
        self.ask("POST", "/restart")

    def refuse(self, seconds):
        """In the background."""
        thread = threading.Thread(target=lambda: self.ask("POST", "/refuse", seconds=seconds))
        thread.start()
        return thread

    def requests(self, verb=""):
        return [each for each in self.ask("GET", "/requests") if each["path"].partition("?")[0].endswith(verb)]

    def status(self, name, **query):
        """As the server says itself, without the proxy."""
        at = urllib.parse.urlsplit(self.direct)
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=10)
        query = "?" + urllib.parse.urlencode(query) if query else ""
        connection.request("GET", f"/locks/{urllib.parse.quote(name, safe=':')}/status{query}")
        status = json.loads(connection.getresponse().read())
        connection.close()
        return status


class Lost:
    """The event of an asyncio lock, for a thread."""

    def __init__(self, face, lock):
        self.face, self.lock = face, lock

    def is_set(self):
        return self.lock.lost.is_set()

    def wait(self, seconds):
        async def wait():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.lock.lost.wait(), seconds)
            return self.lock.lost.is_set()

        return self.face.do(wait())


class FaceLock:
    def __init__(self, face, lock):
        self.face, self.lock, self.lost = face, lock, Lost(face, lock)

    def __getattr__(self, name):
        return getattr(self.lock, name)

    def __repr__(self):
        return repr(self.lock)

    def release(self):
        return self.face.do(self.lock.release())

    def renew(self, timeout=None):
        return self.face.do(self.lock.renew(timeout))


class Face:
    """The asyncio client with the methods of the other one."""

    def __init__(self, *arguments, **options):
        self.is_root = "of" not in options
        if self.is_root:
            self.loop = asyncio.new_event_loop()
            self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
            self.thread.start()
            self.client = AsyncDistributedLockClient(*arguments, **options)
        else:
            self.loop, self.client = options["of"].loop, arguments[0]

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def actor(self, client_id):
        return Face(self.client.actor(client_id), of=self)

    def acquire(self, *arguments, **options):
        return FaceLock(self, self.do(self.client.acquire(*arguments, **options)))

    def try_acquire(self, *arguments, **options):
        lock = self.do(self.client.try_acquire(*arguments, **options))
        return lock and FaceLock(self, lock)

    @contextlib.contextmanager
    def lock(self, *arguments, **options):
        scope = self.client.lock(*arguments, **options)
        lock = self.do(scope.__aenter__())
        try:
            yield FaceLock(self, lock)
        except BaseException as error:
            if not self.do(scope.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self.do(scope.__aexit__(None, None, None))

    def locks(self, **options):
        async def all_of():
            return [lock async for lock in self.client.locks(**options)]

        return self.do(all_of())

    def __getattr__(self, name):
        method = getattr(self.client, name)
        return lambda *arguments, **options: self.do(method(*arguments, **options))

    def close(self):
        if self.loop.is_closed():
            return
        self.do(self.client.close())
        if self.is_root:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


class Play(unittest.TestCase):
    """A test with servers of its own."""

    face = staticmethod(DistributedLockClient)

    def server(self, *options, **more):
        server = Server(options, **more)
        self.addCleanup(server.end)
        return server

    def client(self, server, **options):
        client = self.face(server if isinstance(server, str) else server.url, **options)
        self.addCleanup(client.close)
        return client

    def both(self):
        server = self.server()
        return server, self.client(server)

    def beside(self, call):
        """Runs it in a thread of its own. The function that comes back waits for its result."""
        results = []

        def run():
            try:
                results.append((call(), None))
            except BaseException as error:
                results.append((None, error))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def result():
            thread.join(PATIENCE_S)
            self.assertTrue(results, "it does not end")
            value, error = results[0]
            if error:
                raise error
            return value

        return result
