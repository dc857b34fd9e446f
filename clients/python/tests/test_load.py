"""The load test runs, says what it should, and finds what is wrong."""

import importlib.util
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
import types

import theatre
from theatre import Play, until

LOAD_TEST = theatre.PACKAGE.parent.parent / "load-test" / "load_test.py"


def run(*arguments):
    return subprocess.run([sys.executable, str(LOAD_TEST), *arguments], capture_output=True, text=True, timeout=60)


def loaded():
    spec = importlib.util.spec_from_file_location("load_test", LOAD_TEST)
    load_test = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(load_test)
    return load_test


class LoadTest(Play):
    @theatre.busy
    def test_it_prints_its_figures(self):
        server = self.server()
        done = run("--url", server.direct, "--concurrent", "4", "--operations", "40", "--keys", "2")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        patterns = [
            r"target      http://localhost:\d+",
            r"load        4 clients, 40 operations \(acquire \+ release\), 2 keys",
            r"result      40 ok, 0 timed out, 0 failed in \d+\.\d\d s",
            r"throughput  \d+ operations/s, \d+ requests/s; clients used \d+\.\d of \d+ cores",
            *(
                rf"{name} ms  mean \d+\.\d\d  p50 \d+\.\d\d  p95 \d+\.\d\d  p99 \d+\.\d\d  max \d+\.\d\d"
                for name in ("acquire", "release")
            ),
            r"exclusion   0 overlaps, fences rise",
        ]
        lines = done.stdout.splitlines()
        self.assertEqual(len(lines), len(patterns))
        for line, pattern in zip(lines, patterns):
            self.assertRegex(line, f"^{pattern}$")

    @theatre.busy
    def test_it_speaks_json_and_counts_timeouts_and_failures(self):
        server, client = self.both()
        with client.lock("load-0", 60):
            options = ["--concurrent", "2", "--operations", "2", "--keys", "1", "--wait", "0.1", "--json"]
            done = run("--url", server.url, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual((report["ok"], report["timed_out"], report["failed"], report["overlaps"]), (0, 2, 0, 0))
        server.order("say", "/release", answer="HTTP/1.1 500 Bad\r\nContent-Length: 2\r\n\r\n{}", times=None)
        done = run("--url", server.url, "--concurrent", "1", "--operations", "1", "--json")
        report = json.loads(done.stdout)
        self.assertEqual((done.returncode, report["ok"], report["failed"]), (1, 0, 1))
        self.assertIn("a release was not confirmed", done.stderr)

    def test_it_says_if_there_is_no_server(self):
        done = run("--url", "http://127.0.0.1:9", "--operations", "1")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("no connection", done.stderr)

    def test_it_refuses_a_lease_that_no_server_gives(self):
        for timeout in ["0.05", "301", "nan", "x"]:
            done = run("--url", "http://127.0.0.1:9", "--timeout", timeout)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn("argument --timeout: want seconds, 0.1 to 300", done.stderr)

    def test_it_refuses_times_that_cannot_be_meant(self):
        for option, unit in [("--wait", "seconds"), ("--hold-ms", "milliseconds")]:
            for value in ["-1", "nan", "inf", "x"]:
                done = run("--url", "http://127.0.0.1:9", option, value)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn(f"argument {option}: want {unit} from 0, not {value}", done.stderr)

    def test_what_fails_in_any_way_is_counted_and_released(self):
        load_test, released = loaded(), []

        class Lock:
            def release(self):
                released.append(True)

        class Client:
            def acquire(self, *arguments, **options):
                if len(released) == 3:
                    raise ZeroDivisionError("of acquire")
                return Lock()

        class Counted:
            def __init__(self, args):
                self.client, self.count = Client(), 0

        def sleep(seconds):
            raise OverflowError("of the body")

        load_test.Counted = Counted
        load_test.time = types.SimpleNamespace(**{**vars(time), "sleep": sleep})
        results = queue.Queue()
        args = load_test.options(["--hold-ms", "1"])
        load_test.work(args, 1, 5, threading.Barrier(1), results)
        failures = results.get()[2]
        self.assertEqual(failures, ["OverflowError: of the body"] * 3 + ["ZeroDivisionError: of acquire"] * 2)
        self.assertEqual(len(released), 3)

    @theatre.busy
    def test_it_does_not_wait_for_a_process_that_died(self):
        server, client = self.both()
        client.acquire("load-0", 60)
        options = ["--concurrent", "2", "--operations", "2", "--keys", "1"]
        command = [sys.executable, str(LOAD_TEST), "--url", server.url, *options]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(load.kill)
        until(lambda: server.status("load-0")["waiters"])
        children = pathlib.Path(f"/proc/{load.pid}/task/{load.pid}/children").read_text().split()
        workers = [pid for pid in children if b"spawn_main" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(workers[0]), signal.SIGKILL)
        out, err = load.communicate(timeout=20)
        self.assertEqual((load.returncode, out), (1, ""))
        self.assertIn("a process has died", err)

    def test_its_judge_sees_overlaps_and_fences_that_fall(self):
        load_test = loaded()
        good = [(0, 1, 1.0, 2.0, 0, 0), (0, 2, 2.0, 3.0, 0, 0), (1, 3, 1.5, 2.5, 0, 0)]
        self.assertEqual(load_test.judged(good), (0, 0))
        self.assertEqual(load_test.judged([*good, (0, 4, 2.9, 3.1, 0, 0)]), (1, 0))
        self.assertEqual(load_test.judged([*good, (1, 3, 2.6, 3.1, 0, 0)]), (0, 1))
