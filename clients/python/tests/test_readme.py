"""The README's code runs as it stands there; only the address of the server is another one."""

import os
import re
import ssl
import subprocess
import sys

import theatre
from theatre import Play, until

from distributed_lock_client._errors import KINDS

ADDRESS = "http://localhost:5000"
README = (theatre.PACKAGE / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SNIPPET = """from distributed_lock_client import DistributedLockClient

client = DistributedLockClient("http://localhost:5000")

# Acquire lock
with client.lock("user:123", timeout=30) as lock:
    # Critical section
    print(f"Lock acquired: {lock.lock_id}")
    # Lock automatically released
"""


class Readme(Play):
    def block(self, part):
        (block,) = [block for block in BLOCKS if part in block]
        return block

    def start(self, block, server):
        environment = {**os.environ, "PYTHONPATH": str(theatre.PACKAGE)}
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", block.replace(ADDRESS, server.url)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def output(self, block, server):
        out, errors = self.start(block, server).communicate(timeout=30)
        self.assertEqual(errors, "")
        return out

    def test_01_the_snippet_of_the_beginning_runs(self):
        self.assertEqual(BLOCKS[0], SNIPPET)
        server = self.server()
        self.assertRegex(self.output(BLOCKS[0], server), r"^Lock acquired: lock-[0-9a-f]{16}\n$")
        self.assertEqual([each["status"] for each in server.requests()], [200, 200])
        self.assertFalse(server.status("user:123")["locked"])

    def test_01_the_patterns_of_the_beginning_run(self):
        from distributed_lock_client import LockTimeoutError

        server, client = self.both()
        done = []
        names = {
            "client": client,
            "user_id": 123,
            "process_user": done.append,
            "get_db_connection": lambda: done.append("connection"),
            "run_leader_tasks": lambda: done.append("leader"),
            "run_follower_tasks": lambda: done.append("follower"),
            "LockTimeoutError": LockTimeoutError,
        }
        patterns = """
with client.lock(f"user:{user_id}"):
    process_user(user_id)
with client.lock("db-pool", wait_timeout=5):
    connection = get_db_connection()
try:
    with client.lock("leader", timeout=60, auto_renew=True):
        # This instance is the leader
        run_leader_tasks()
except LockTimeoutError:
    # Another instance is the leader
    run_follower_tasks()
"""
        exec(patterns, names)
        with self.client(server).lock("leader"):
            exec(patterns, names)
        self.assertEqual(done, [123, "connection", "leader", 123, "connection", "follower"])

    def test_01_with_asyncio(self):
        out = self.output(self.block("asyncio.run"), self.server())
        self.assertRegex(out, r"^Lock acquired: lock-[0-9a-f]{16}\n$")

    def test_a_leader_is_followed_at_once(self):
        server = self.server()
        leaders = [self.start(self.block("I lead"), server)]
        first = leaders[0].stdout.readline()
        self.assertRegex(first, r"^I lead, and my fence is [0-9a-f]{16}\n$")
        leaders.append(self.start(self.block("I lead"), server))
        until(lambda: server.status("leader")["waiters"] == 1)
        leaders[0].send_signal(2)
        second = leaders[1].stdout.readline()
        self.assertRegex(second, r"^I lead, and my fence is [0-9a-f]{16}\n$")
        self.assertGreater(second, first)

    def test_waiting_and_semaphores(self):
        out = self.output(self.block("try_acquire"), self.server())
        self.assertIn("the report is mine\nwithin ten seconds\n", out)
        self.assertIn("'metadata': {'job': 'nightly'}", out)

    def test_actors(self):
        out = self.output(self.block("actor("), self.server())
        self.assertIn("{'clientId': 'worker-7', 'waitsFor': 'a'}", out)

    def test_token_tls_and_shards(self):
        files = theatre.stage().ask("GET", "/certificates")
        names = {}
        exec(self.block("authority.pem").replace("authority.pem", files["ca"]), names)
        self.assertEqual(len(names["shards"]._pool.servers), 2)
        self.assertIsInstance(names["client"]._pool.servers[0].context, ssl.SSLContext)

    def test_it_names_all_codes_of_the_client(self):
        said = re.findall("^\\| `([a-z-]+)` \\| .*\\. \\|$", README, re.MULTILINE)
        self.assertEqual(said, list(KINDS)[:5])

    def test_every_block_is_run(self):
        self.assertEqual(len(BLOCKS), 6)
        self.assertEqual(
            len({self.block(part) for part in ['user:123", timeout=30) as', "I lead", "try_acquire", "actor("]}), 4
        )
