"""Puts load on a dflockd server with the Python client, and says what came of it: figures of acquire and release, and
whether two clients ever had one lock at once. A process per core runs its share of the clients, each in a thread.

    python load-test/load_test.py --concurrent 50 --operations 1000

Exit status: 0 if all went well, 1 if an operation failed or did not run or two holders overlapped, 2 if there is no
server or an argument cannot be meant.
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import pathlib
import queue
import random
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients" / "python"))

from distributed_lock_client import DistributedLockClient, LockError, LockTimeoutError  # noqa: E402

UNCONFIRMED = "a release was not confirmed"
BEGIN_S = 60  # The processes begin together; one that dies before is not waited for.


def options(arguments):
    parser = argparse.ArgumentParser(description="Load for a dflockd server that was started with --http-port.")
    parser.add_argument("--url", default="http://localhost:5000", help="[default %(default)s]")
    parser.add_argument(
        "--concurrent", type=whole, default=50, metavar="N", help="clients at once [default %(default)s]"
    )
    parser.add_argument(
        "--operations",
        type=whole,
        default=1000,
        metavar="N",
        help="acquires with their releases, of all clients together [default %(default)s]",
    )
    parser.add_argument(
        "--keys", type=whole, default=50, metavar="N", help="locks that they compete for [default %(default)s]"
    )
    parser.add_argument(
        "--hold-ms",
        type=span("milliseconds"),
        default=0,
        metavar="MS",
        help="how long each lock is held [default %(default)s]",
    )
    parser.add_argument(
        "--timeout", type=lease, default=30, metavar="S", help="the lease, in seconds [default %(default)s]"
    )
    parser.add_argument(
        "--wait",
        type=span("seconds"),
        default=30,
        metavar="S",
        help="the longest wait, in seconds [default %(default)s]",
    )
    parser.add_argument("--token-file", metavar="FILE", help="holds the token of the server")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    return parser.parse_args(arguments)


def whole(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"want a whole number from 1, not {text}")
    return number


def lease(text):
    with contextlib.suppress(ValueError):
        if 0.1 <= float(text) <= 300:
            return float(text)
    raise argparse.ArgumentTypeError(f"want seconds, 0.1 to 300, not {text}")


def span(unit):
    def read(text):
        with contextlib.suppress(ValueError):
            if 0 <= float(text) < math.inf:
                return float(text)
        raise argparse.ArgumentTypeError(f"want {unit} from 0, not {text}")

    return read


def client_of(args):
    token = pathlib.Path(args.token_file).read_text().strip() if args.token_file else None
    return DistributedLockClient(args.url, token=token)


def work(args, clients, operations, gate, results):
    """One process: `clients` threads share `operations`."""
    left, guard = iter(range(operations)), threading.Lock()
    holds, timed_out, failures = [], [], []
    requests = Counted(args)

    def use():
        client, dice = requests.client, random.Random()
        while True:
            with guard:
                if next(left, None) is None:
                    return
            key = dice.randrange(args.keys)
            try:
                start = time.perf_counter()
                lock = client.acquire(f"load-{key}", args.timeout, wait_timeout=args.wait)
                held = time.monotonic()
                took = time.perf_counter() - start
                try:
                    if args.hold_ms:
                        time.sleep(args.hold_ms / 1000)
                finally:
                    ends = time.monotonic()
                    start = time.perf_counter()
                    is_released = lock.release()
                holds.append((key, lock.fence, held, ends, took, time.perf_counter() - start))
                if not is_released:
                    failures.append(UNCONFIRMED)
            except LockTimeoutError:
                timed_out.append(key)
            except LockError as error:
                failures.append(str(error))
            except Exception as error:  # A thread that ended here would leave operations that nobody counts.
                failures.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=use) for _ in range(clients)]
    gate.wait(BEGIN_S)
    start, cpu = time.monotonic(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((holds, len(timed_out), failures, requests.count, start, time.monotonic(), time.process_time() - cpu))


class Counted:
    """One client for the threads of a process, whose requests are counted."""

    def __init__(self, args):
        self.count = 0
        self.client = client_of(args)
        exchange, guard = self.client._pool.exchange, threading.Lock()

        async def counted(request):
            with guard:
                self.count += 1
            return await exchange(request)

        self.client._pool.exchange = counted


def judged(holds):
    """How often two had one lock at once, and how often a later grant had a lower fence. The clock is one for all."""
    overlaps = falls = 0
    by_key = {}
    for key, fence, held, ends, _, _ in holds:
        by_key.setdefault(key, []).append((held, ends, fence))
    for grants in by_key.values():
        grants.sort()
        for (_, ends, fence), (held, _, later) in zip(grants, grants[1:]):
            overlaps += held < ends
            falls += later <= fence
    return overlaps, falls


def figures(seconds):
    """Mean, median and the like, in milliseconds."""
    times = sorted(each * 1000 for each in seconds) or [0.0]
    parts = {"mean": statistics.fmean(times), "p50": 0.5, "p95": 0.95, "p99": 0.99, "max": times[-1]}
    return {
        name: value if name in ("mean", "max") else times[min(len(times) - 1, int(len(times) * value))]
        for name, value in parts.items()
    }


def told_by(workers, results):
    """What each process says at its end; None if one has died, and then none lives on."""
    told = []
    while len(told) < len(workers):
        # Before the look at the queue: who ended well has said it by then.
        ends = [worker.exitcode for worker in workers]
        try:
            told.append(results.get(timeout=1))
        except queue.Empty:
            if any(ends) or None not in ends:
                for worker in workers:
                    worker.kill()
                return None
    for worker in workers:
        worker.join()
    return told


def main(arguments=None):
    args = options(arguments)
    try:
        client = client_of(args)
        client.health()
        client.close()
    except (LockError, OSError, ValueError) as error:
        print(f"load_test.py: {error}", file=sys.stderr)
        return 2
    cores = os.cpu_count() or 1
    processes = min(cores, args.concurrent)
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(processes), context.Queue()
    share = [
        [total // processes + (number < total % processes) for total in (args.concurrent, args.operations)]
        for number in range(processes)
    ]
    workers = [
        context.Process(target=work, args=(args, clients, operations, gate, results)) for clients, operations in share
    ]
    for worker in workers:
        worker.start()
    told = told_by(workers, results)
    if told is None:
        print("load_test.py: a process has died", file=sys.stderr)
        return 1
    holds = [hold for each in told for hold in each[0]]
    timed_out, failures = sum(each[1] for each in told), [text for each in told for text in each[2]]
    ok = len(holds) - failures.count(UNCONFIRMED)
    took_s = max(each[5] for each in told) - min(each[4] for each in told)
    overlaps, falls = judged(holds)
    report = {
        "target": args.url,
        "clients": args.concurrent,
        "operations": args.operations,
        "keys": args.keys,
        "ok": ok,
        "timed_out": timed_out,
        "failed": len(failures),
        "seconds": took_s,
        "operations_per_s": ok / took_s,
        "requests_per_s": sum(each[3] for each in told) / took_s,
        "cores_used": sum(each[6] for each in told) / took_s,
        "cores": cores,
        "acquire_ms": figures(hold[4] for hold in holds),
        "release_ms": figures(hold[5] for hold in holds),
        "overlaps": overlaps,
        "fences_rise": falls == 0,
    }
    print(json.dumps(report) if args.json else text_of(report))
    for text in sorted(set(failures))[:5]:
        print(f"load_test.py: {failures.count(text)} times: {text}", file=sys.stderr)
    is_whole = ok + timed_out + len(failures) == args.operations
    return 1 if failures or overlaps or falls or not is_whole else 0


def text_of(report):
    rates = f"{report['operations_per_s']:.0f} operations/s, {report['requests_per_s']:.0f} requests/s"
    used = f"clients used {report['cores_used']:.1f} of {report['cores']} cores"
    counts = f"{report['ok']} ok, {report['timed_out']} timed out, {report['failed']} failed"
    clients = f"{report['clients']} clients"
    lines = [
        f"target      {report['target']}",
        f"load        {clients}, {report['operations']} operations (acquire + release), {report['keys']} keys",
        f"result      {counts} in {report['seconds']:.2f} s",
        f"throughput  {rates}; {used}",
    ]
    for name in ("acquire", "release"):
        lines.append(f"{name} ms  " + "  ".join(f"{part} {value:.2f}" for part, value in report[name + "_ms"].items()))
    fences = "fences rise" if report["fences_rise"] else "fences FALL"
    lines.append(f"exclusion   {report['overlaps']} overlaps, {fences}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
