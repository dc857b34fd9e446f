"""What a scoped lock costs beside bare requests: `with client.lock(...)` against an acquire and a release over
http.client, and the same for asyncio against bare streams, each on a connection that is kept. Both alternate.

    python3 clients/python/tests/price.py http://localhost:5000 [ROUNDS]
"""

import asyncio
import http.client
import io
import json
import statistics
import sys
import time
import urllib.parse

import theatre

from distributed_lock_client import AsyncDistributedLockClient, DistributedLockClient

assert theatre.PACKAGE
PAIRS = 20


def report(name, scoped, bare):
    scoped_us, bare_us = (statistics.median(times) / PAIRS * 1e6 for times in (scoped, bare))
    print(f"{name:8} scoped {scoped_us:7.1f} us  bare {bare_us:7.1f} us  ratio {scoped_us / bare_us:.3f}", flush=True)


def with_threads(url, rounds):
    client, at = DistributedLockClient(url), urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname, at.port)
    connection.connect()
    headers = {"Content-Type": "application/json"}

    def ask(verb, fields):
        connection.request("POST", f"/locks/bare/{verb}", json.dumps(fields), headers)
        return json.loads(connection.getresponse().read())

    def bare():
        for _ in range(PAIRS):
            grant = ask("acquire", {"clientId": "bare", "timeout": 30})
            ask("release", {"renewalToken": grant["renewalToken"]})

    def scoped():
        for _ in range(PAIRS):
            with client.lock("scoped", 30):
                pass

    times = {scoped: [], bare: []}
    for number in range(rounds + 5):
        for each in (scoped, bare):
            start = time.perf_counter()
            each()
            if number >= 5:
                times[each].append(time.perf_counter() - start)
    client.close()
    report("threads", times[scoped], times[bare])


async def with_asyncio(url, rounds):
    at = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)

    async def ask(verb, fields):
        body = json.dumps(fields)
        head = f"POST /locks/bare/{verb} HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        fields = http.client.parse_headers(io.BytesIO(head.partition(b"\r\n")[2]))
        return json.loads(await reader.readexactly(int(fields["Content-Length"])))

    async def bare():
        for _ in range(PAIRS):
            grant = await ask("acquire", {"clientId": "bare", "timeout": 30})
            await ask("release", {"renewalToken": grant["renewalToken"]})

    async with AsyncDistributedLockClient(url) as client:

        async def scoped():
            for _ in range(PAIRS):
                async with client.lock("scoped", 30):
                    pass

        times = {scoped: [], bare: []}
        for number in range(rounds + 5):
            for each in (scoped, bare):
                start = time.perf_counter()
                await each()
                if number >= 5:
                    times[each].append(time.perf_counter() - start)
    writer.close()
    report("asyncio", times[scoped], times[bare])


def main():
    url, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200
    with_threads(url, rounds)
    asyncio.run(with_asyncio(url, rounds))


if __name__ == "__main__":
    main()
