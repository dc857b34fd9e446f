"""Runs all tests side by side: they mostly wait. Its exit status is 0 only if each has run and passed.

DFLOCKD=target/release/dflockd python3 clients/python/tests/run.py [PART OF A NAME]
"""

import faulthandler
import logging
import os
import sys
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import theatre

SIDE_BY_SIDE = 20


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def mark(test, name):
    return getattr(getattr(test, test._testMethodName, None), name, False)


def run(test):
    start, result = time.monotonic(), unittest.TestResult()
    threading.current_thread().name = test.id()
    test.run(result)
    problems = [text for _, text in result.failures + result.errors + result.skipped]
    if result.testsRun != 1 or result.unexpectedSuccesses or result.expectedFailures:
        problems.append("it did not run as a test that passes")
    took_s = time.monotonic() - start
    print(f"{'FAILED' if problems else 'ok':7}{took_s:6.1f} s  {test.id()}", flush=True)
    for text in problems:
        print(text, flush=True)
    return not problems


def main():
    if not os.path.exists(os.environ.get("DFLOCKD", "")):
        sys.exit("DFLOCKD: want the path of the server, for example target/release/dflockd")
    logging.getLogger("distributed_lock_client").propagate = False
    logging.getLogger("distributed_lock_client").addHandler(logging.NullHandler())
    # In its debug mode it logs whatever a busy machine makes slow.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    faulthandler.dump_traceback_later(400, exit=True)
    loader = unittest.TestLoader()
    tests = list(tests_of(loader.discover(str(theatre.HERE), top_level_dir=str(theatre.HERE))))
    tests = [test for test in tests if all(part in test.id() for part in sys.argv[1:])]
    tests.sort(key=lambda test: not mark(test, "is_heavy"))
    start = time.monotonic()
    try:
        with ThreadPoolExecutor(SIDE_BY_SIDE) as many, ThreadPoolExecutor(1) as one:
            runs = [(one if mark(test, "is_busy") else many).submit(run, test) for test in tests]
        passed = [each.result() for each in runs]
    finally:
        theatre.end_of_stage()
    version = ".".join(map(str, sys.version_info[:3]))
    took_s = time.monotonic() - start
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed in {took_s:.1f} s, Python {version}")
    sys.exit(not passed or not all(passed))


if __name__ == "__main__":
    main()
