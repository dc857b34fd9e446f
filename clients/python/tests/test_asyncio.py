"""What only the asyncio client does: tasks that are cancelled, and bodies that a lost lock cancels."""

import asyncio
import random
import statistics
import sys

from theatre import PATIENCE_S, Play, busy, now, until

from distributed_lock_client import AsyncDistributedLockClient, LockLostError, LockTimeoutError


async def soon(condition, within_s=PATIENCE_S):
    end = now() + within_s
    while not await asyncio.get_running_loop().run_in_executor(None, condition):
        if now() > end:
            raise AssertionError(f"not within {within_s} s")
        await asyncio.sleep(0.03)


class Asyncio(Play):
    def play(self, scene, *options):
        """Plays a scene with a server and a client."""
        server = self.server(*options)

        async def main():
            async with AsyncDistributedLockClient(server.url) as client:
                return await asyncio.wait_for(scene(server, client), 120)

        return asyncio.run(main())

    def test_08_a_lost_lock_cancels_its_body(self):
        async def scene(server, client):
            told = []
            with self.assertRaises(LockLostError):
                # The margin of this lease is 1 s, so a machine that stands still may be that late.
                async with client.lock("k", 10, auto_renew=True, wait_timeout=20, on_lost=lambda: told.append(now())):
                    server.signal("STOP")
                    await asyncio.sleep(30)
            took.append(now() - server.requests("acquire")[0]["at"])
            server.signal("CONT")
            await soon(lambda: told)
            if sys.version_info >= (3, 11):
                self.assertEqual(asyncio.current_task().cancelling(), 0)
            await asyncio.sleep(0)

        took = []
        while not took or (min(took) >= 10 and len(took) < 5):
            self.play(scene)
        self.assertLess(min(took), 10)

    def test_10_a_body_that_cleans_up_may_do_so(self):
        async def scene(server, client):
            steps = []
            with self.assertRaises(LockLostError):
                async with client.lock("k", 3, auto_renew=True, wait_timeout=20):
                    try:
                        await client.force_release("k")
                        await asyncio.sleep(30)
                    finally:
                        await asyncio.sleep(0.1)
                        steps.append("clean")
            self.assertEqual(steps, ["clean"])

        self.play(scene)

    def test_10_an_error_of_the_body_stays(self):
        async def scene(server, client):
            with self.assertRaises(ZeroDivisionError):
                async with client.lock("k", 3, auto_renew=True, wait_timeout=20):
                    try:
                        await client.force_release("k")
                        await asyncio.sleep(30)
                    except asyncio.CancelledError:
                        raise ZeroDivisionError from None
            # Also if the cancellation and the end of the body meet.
            with self.assertRaises(ZeroDivisionError):
                async with client.lock("k", 30) as lock:
                    lock._lose()
                    until(lambda: lock._is_lost)
                    raise ZeroDivisionError
            await asyncio.sleep(0.01)
            with self.assertRaises(LockLostError):
                async with client.lock("other", 30) as lock:
                    lock._lose()
            await asyncio.sleep(0.01)

        self.play(scene)

    def test_10_no_body_runs_without_its_lock(self):
        async def scene(server, client):
            lock = await client.acquire("k")
            lock._lose()
            await asyncio.sleep(0)
            with self.assertRaises(LockLostError):
                async with lock:
                    self.fail("the body runs")

        self.play(scene)

    def test_10_a_cancellation_of_others_stays(self):
        async def scene(server, client):
            begun = asyncio.Event()

            async def body():
                async with client.lock("k", 30):
                    begun.set()
                    await asyncio.sleep(30)

            task = asyncio.ensure_future(body())
            await begun.wait()
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertFalse(server.status("k")["locked"])
            if sys.version_info >= (3, 11):
                locks = []

                async def lost_body():
                    async with client.lock("k", 30) as lock:
                        locks.append(lock)
                        await asyncio.sleep(30)

                task = asyncio.ensure_future(lost_body())
                await soon(lambda: locks)
                locks[0]._lose()
                await asyncio.sleep(0)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task

        self.play(scene)

    def test_13_a_cancelled_task_leaves_no_waiter(self):
        async def scene(server, client):
            async with client.lock("k", 60):
                for hides in [False, True]:
                    if hides:
                        server.order("hide", "acquire", times=None)
                    takes = []
                    while not takes or (min(takes) > 1 and len(takes) < 5):
                        task = asyncio.ensure_future(client.acquire("k", wait_timeout=None))
                        await soon(lambda: server.status("k")["waiters"] == 1)
                        task.cancel()
                        start = now()
                        with self.assertRaises(asyncio.CancelledError):
                            await task
                        await soon(lambda: server.status("k")["waiters"] == 0)
                        takes.append(now() - start)
                    self.assertLess(min(takes), 1)
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.acquire("k", wait_timeout=None), 0.1)
                await soon(lambda: server.status("k")["waiters"] == 0)

        self.play(scene)

    @busy
    def test_14_cancellations_around_the_grant_strand_nothing(self):
        async def scene(server, client):
            dice, ends, takes = random.Random(14), [0, 0], []
            for _ in range(9):
                start = now()
                lock = await client.acquire("k", 60)
                takes.append(now() - start)
                await lock.release()
            while sum(ends) < 100 or min(ends) <= 5:
                self.assertLess(sum(ends), 1000)
                task = asyncio.ensure_future(client.acquire("k", 60, wait_timeout=30, auto_renew=True))
                await asyncio.sleep(dice.uniform(0, 2 * statistics.median(takes)))
                task.cancel()
                try:
                    lock = await task
                    ends[1] += 1
                    self.assertTrue(await lock.release())
                except asyncio.CancelledError:
                    ends[0] += 1
            await soon(lambda: not server.status("k")["locked"] and not server.status("k")["waiters"], 4)

        self.play(scene)

    def test_15_a_cancelled_release_goes_on(self):
        async def scene(server, client):
            lock = await client.acquire("k", 60)
            server.order("delay", "release", seconds=1)
            task = asyncio.ensure_future(lock.release())
            await soon(lambda: server.requests("release"))
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            await soon(lambda: not server.status("k")["locked"])

        self.play(scene)

    def test_15_two_releases_at_once_send_one_request(self):
        async def scene(server, client):
            lock = await client.acquire("k", 60)
            self.assertEqual(await asyncio.gather(lock.release(), lock.release()), [True, True])
            self.assertEqual(len(server.requests("release")), 1)

        self.play(scene)

    def test_a_client_may_be_used_in_one_loop_after_the_other(self):
        server = self.server()
        client = AsyncDistributedLockClient(server.url)

        async def first():
            return await client.acquire("k", 60, auto_renew=True)

        async def second(lock):
            with self.assertRaises(LockTimeoutError):
                await client.acquire("k")
            self.assertTrue(lock.lost.is_set())
            with self.assertRaises(LockLostError):
                lock.check()
            async with client.lock("other", 60):
                pass
            await client.close()

        asyncio.run(second(asyncio.run(first())))
        self.assertTrue(server.status("k")["locked"])

    def test_whatever_comes_first_in_another_loop_begins_anew(self):
        server = self.server()
        client = AsyncDistributedLockClient(server.url)
        lock = asyncio.run(client.acquire("k", 60))

        async def locks():
            return [each async for each in client.locks()]

        async def renew():
            with self.assertRaises(LockLostError):
                await lock.renew()

        for call in [client.health, lambda: client.status("k"), locks, renew, lock.release, client.stats]:
            asyncio.run(call())
        self.assertEqual(len(asyncio.run(client.force_release("k"))), 1)
        asyncio.run(client.close())

    def test_a_coroutine_may_be_told_of_the_loss(self):
        async def scene(server, client):
            told = asyncio.Event()

            async def tell():
                told.set()

            await client.acquire("k", 1, on_lost=tell)
            await asyncio.wait_for(told.wait(), 20)

        self.play(scene)

    def test_many_locks_are_kept_at_once(self):
        async def scene(server, client):
            locks = await asyncio.gather(*(client.acquire(f"k{number}", 6, auto_renew=True) for number in range(30)))
            await asyncio.sleep(8)
            for lock in locks:
                lock.check()

        self.play(scene)
