"""One exchange, on a played connection: what is read from it, and which connections are kept."""

import io
import itertools
import socket
import threading
import time
import unittest

import theatre  # noqa: F401
from test_engine import Clock

from distributed_lock_client._http import Pool, Request, parsed, servers_of
from distributed_lock_client._sync import run


class Answers(unittest.TestCase):
    """What is read from a connection."""

    def test_an_answer_is_whole_or_none_at_each_cut(self):
        body = b'{"acquired":true}'
        plain = b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n" + body
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + body[:5] + b"\r\nc;x=y\r\n" + body[5:]
        chunked += b"\r\n0\r\nTrailer: x\r\n\r\n"
        for whole in [plain, chunked, b"HTTP/1.1 100 Continue\r\n\r\n" + plain]:
            for at in range(len(whole)):
                for is_ended in [False, True]:
                    self.assertIsNone(parsed(whole[:at], is_ended), whole[:at])
            self.assertEqual(parsed(whole, False), (200, body, True))
        self.assertEqual(parsed(plain + b"HTTP", False), (200, body, False))

    def test_without_a_length_it_ends_with_the_connection(self):
        self.assertIsNone(parsed(b"HTTP/1.0 502 Bad\r\n\r\n<html>", False))
        self.assertEqual(parsed(b"HTTP/1.0 502 Bad\r\n\r\n<html>", True), (502, b"<html>", False))

    def test_no_content_has_no_length(self):
        self.assertEqual(parsed(b"HTTP/1.1 204 No Content\r\n\r\n", False), (204, b"", True))

    def test_a_connection_may_be_used_again(self):
        head = b"HTTP/1.%b 200 OK\r\n%bContent-Length: 0\r\n\r\n"
        self.assertEqual(parsed(head % (b"1", b""), False), (200, b"", True))
        self.assertEqual(parsed(head % (b"0", b""), False), (200, b"", False))
        self.assertEqual(parsed(head % (b"1", b"connection: Close\r\n"), False), (200, b"", False))
        self.assertEqual(parsed(head % (b"1", b"Connection: keep-alive, close\r\n"), False), (200, b"", False))

    def test_nonsense_is_known_early(self):
        for data in [
            b"SSH-2.0-OpenSSH_9",
            b"HTTP/2 200\r\n",
            b"\x15\x03\x01\x00\x02\x02",
            b"HTTP/1.1 abc\r\n\r\n",
            b"\r\n",
        ]:
            self.assertRaises(ValueError, parsed, data, False)

    def test_interim_answers_are_few_and_change_no_protocol(self):
        interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        self.assertEqual(parsed(interim * 20 + whole, False), (200, b"{}", True))
        self.assertRaises(ValueError, parsed, interim * 21, False)
        self.assertRaises(ValueError, parsed, b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, False)
        self.assertRaises(ValueError, parsed, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", False)

    def test_a_head_has_at_most_64_kib(self):
        head = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000
        self.assertIsNone(parsed(head[:60_000], False))
        self.assertRaises(ValueError, parsed, head, False)

    def test_a_large_answer_in_small_parts_costs_little(self):
        body = b" " * (8 << 20)
        for head, end in [
            (b"Content-Length: 8388608", b""),
            (b"Transfer-Encoding: chunked", b"\r\n0\r\n\r\n"),
            (b"X: y", b""),
        ]:
            size = b"800000\r\n" if end else b""
            parts = io.BytesIO(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + size + body + end)
            start = time.thread_time()
            answer = self.answer_in_parts(lambda parts=parts: (parts.read(4096), 0.0))
            self.assertEqual((answer.status, answer.body == body), (200, True))
            self.assertLess(time.thread_time() - start, 2)

    def test_bytes_that_keep_coming_do_not_move_the_end(self):
        for first in [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]:
            parts = itertools.chain([first], itertools.repeat(b"x"))
            answer = self.answer_in_parts(lambda parts=parts: (next(parts), 1.0))
            self.assertEqual((answer.code, self.clock.time), ("no-answer", 1005.0))

    def test_silence_does_not_end_an_answer(self):
        parts = iter([(b"HTTP/1.1 200 OK\r\n\r\n{", 1.0), (b"", 4.0)])
        self.assertEqual(self.answer_in_parts(lambda: next(parts)).code, "no-answer")

    def answer_in_parts(self, part):
        """What a request of 5 s gets: `part` says what comes next, and how long it takes."""
        clock = self.clock = Clock()

        class Link:
            async def write(self, data, within_s):
                pass

            async def read(self, within_s):
                data, took_s = part()
                clock.time += took_s
                return data

            def close(self):
                pass

        async def connect(server, within_s):
            return Link()

        request = Request(0, "GET", "/")
        request.until = 1005.0
        return run(Pool(servers_of("http://a", None, None), connect, clock.now).exchange(request))


class Pools(unittest.TestCase):
    """Which connections are kept."""

    class Link:
        def __init__(self):
            self.is_closed = False
            self.socket, self.peer = socket.socketpair()

        def fileno(self):
            return self.socket.fileno()

        def close(self):
            self.is_closed = True
            self.socket.close()
            self.peer.close()

        __del__ = close

    def test_one_that_has_ended_is_not_used_again(self):
        pool = Pool(servers_of("http://a", None, None), None, Clock().now)
        links = [self.Link() for _ in range(4)]
        for link in links:
            pool.keep(0, link)
        links[1].peer.close()
        links[2].peer.send(b"HTTP/1.1 408 Request Timeout\r\n")
        links[3].close()
        self.assertEqual([pool.take(0), pool.take(0)], [links[0], None])
        self.assertEqual([link.is_closed for link in links], [False, True, True, True])

    def test_the_newest_is_used_again_and_the_old_are_closed(self):
        clock = Clock()
        pool = Pool(servers_of("http://a,http://b", None, None), None, clock.now)
        links = [self.Link() for _ in range(4)]
        pool.keep(0, links[0])
        clock.time += 50
        pool.keep(0, links[1])
        pool.keep(1, links[2])
        clock.time += 20
        pool.keep(0, links[3])
        self.assertEqual([link.is_closed for link in links], [True, False, False, False])
        self.assertEqual([pool.take(0), pool.take(0), pool.take(0)], [links[3], links[1], None])
        clock.time += 50
        self.assertIsNone(pool.take(1))
        self.assertTrue(links[2].is_closed)

    def test_threads_take_and_keep_at_once(self):
        pool, problems = Pool(servers_of("http://a,http://b", None, None), None, Clock().now), []

        def use():
            try:
                for number in range(2000):
                    link = pool.take(number % 2) or self.Link()
                    pool.keep(number % 2, link)
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])
