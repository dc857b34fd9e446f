"""The published Python client of dflockd, version 2.1.0, over TLS against the real binary:

    python tests/published/tls.py target/release/dflockd

It has to be importable, for example in a venv with `pip install --ignore-requires-python dflockd-client==2.1.0`: it asks
for Python 3.12, and runs on 3.11 as well. openssl(1) makes the certificates. Not here: what the client says without TLS,
which is the same. Invariant: no wait is without a deadline, and the first claim that is not true is named and ends it
with status 1.
"""

import asyncio
import contextlib
import os
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import dflockd_client
from dflockd_client import (
    AsyncDistributedLock,
    DflockdError,
    SyncDistributedLock,
    SyncDistributedSemaphore,
    fence_from_token,
)

HOST = "127.0.0.1"
# For each wait that must end.
PATIENCE_S = 60
# The client renews when half of a lease has passed.
LEASE_S = 2

CERTIFICATE = f"""
openssl ecparam -name prime256v1 -genkey -noout -out key.pem
openssl req -x509 -key key.pem -days 2 -subj /CN={HOST} -addext subjectAltName=IP:{HOST} -out cert.pem
"""


@contextlib.contextmanager
def server(binary, folder, *options):
    """Where the binary listens, until the end of the block."""
    command = [binary, "--port=0", f"--tls-cert={folder}/cert.pem", f"--tls-key={folder}/key.pem", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DFLOCKD_")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    # A server that says nothing does not hold this up for ever.
    watchdog = threading.Timer(PATIENCE_S, process.kill)
    watchdog.start()
    try:
        for line in process.stderr:
            if match := re.search(r" dflockd listening addr=.*:(\d+) tls=true$", line):
                break
        else:
            raise AssertionError("it does not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        watchdog.cancel()
        yield [(HOST, int(match[1]))]
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def holds_and_renews(lock, other):
    with lock("a", lease_ttl_s=LEASE_S) as held:
        assert fence_from_token(held.token) > 0
        # Longer than the lease, which the client renews over TLS.
        time.sleep(LEASE_S + 1)
        assert not other("a", acquire_timeout_s=0).acquire()
    freed = other("a", acquire_timeout_s=0)
    assert freed.acquire()
    freed.release()


def waits_its_turn(lock, _):
    first = lock("b")
    assert first.acquire()
    second = lock("b", acquire_timeout_s=PATIENCE_S)
    assert second.enqueue() == "queued"
    threading.Timer(0.2, first.release).start()
    assert second.wait(timeout_s=PATIENCE_S)
    second.release()


def refuses(kind, make):
    try:
        make().acquire()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


async def holds_in_a_loop(servers, context):
    async with AsyncDistributedLock("c", servers=servers, ssl_context=context) as held:
        assert held.token
        other = AsyncDistributedLock("c", servers=servers, ssl_context=context, acquire_timeout_s=0)
        assert not await other.acquire()


def main(binary):
    assert dflockd_client.__version__ == "2.1.0", dflockd_client.__version__
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["sh", "-euc", CERTIFICATE], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        known = ssl.create_default_context(cafile=pathlib.Path(folder, "cert.pem"))
        old = ssl.create_default_context(cafile=pathlib.Path(folder, "cert.pem"))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with server(binary, folder) as servers:

            def over(context):
                return lambda key, **more: SyncDistributedLock(key, servers=servers, ssl_context=context, **more)

            for claim in [holds_and_renews, waits_its_turn]:
                claim(over(known), over(old))
                print(f"ok: {claim.__name__.replace('_', ' ')}", flush=True)
            with SyncDistributedSemaphore("s", limit=2, servers=servers, ssl_context=known) as slot:
                assert slot.token
            asyncio.run(asyncio.wait_for(holds_in_a_loop(servers, known), PATIENCE_S))
            print("ok: semaphores, and an event loop", flush=True)
            refuses(ssl.SSLCertVerificationError, lambda: over(ssl.create_default_context())("a"))
            # Without TLS it is told nothing that it could take for a grant.
            refuses(DflockdError, lambda: over(None)("a"))
            print("ok: neither an unknown authority nor a client without TLS", flush=True)
        with server(binary, folder, "--auth-token=secret") as servers:
            settings = {"servers": servers, "ssl_context": known}
            with SyncDistributedLock("a", auth_token="secret", **settings) as held:
                assert held.token
            refuses(PermissionError, lambda: SyncDistributedLock("a", auth_token="wrong", **settings))
            print("ok: the token behind TLS", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
