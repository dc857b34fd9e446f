"""The description of the REST face, src/wire/http/openapi.json, against the real binary:

    python tests/rest/api.py target/release/dflockd

It needs `schemathesis` and `openapi-spec-validator`, for example in a venv. First the description by itself: it is
valid, and so are its examples. Then a life of a lock, and each answer in it is as described. Last, schemathesis makes up
requests from the description, right and wrong ones. Invariant: an answer that is not described fails, whatever it says.
"""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
from urllib.parse import quote

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from server import HOST, PATIENCE_S, Server, prove

HERE = pathlib.Path(__file__).parent
FILE = HERE.parent.parent / "src/wire/http/openapi.json"
DESCRIPTION = json.loads(FILE.read_bytes())
TOKEN, ADMIN = "t0ken", "adm1n"


def look_up(node):
    """What a reference means."""
    while "$ref" in node:
        path, node = node["$ref"].removeprefix("#/").split("/"), DESCRIPTION
        for part in path:
            node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def problems(value, schema):
    """What is wrong with a value, in words."""
    # References in the schema are those of the whole description.
    whole = {**schema, "components": DESCRIPTION["components"]}
    validator = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def is_valid():
    validate(DESCRIPTION)


def has_examples_that_are_valid():
    seen = 0

    def look(node, path):
        nonlocal seen
        if isinstance(node, list):
            return [look(item, f"{path}/{at}") for at, item in enumerate(node)]
        if not isinstance(node, dict):
            return None
        examples = [item["value"] for item in node.get("examples", {}).values()] if "schema" in node else []
        examples += [node["example"]] if "schema" in node and "example" in node else []
        for example in examples:
            seen += 1
            assert (wrong := problems(example, node["schema"])) == [], (path, wrong)
        for key, item in node.items():
            look(item, f"{path}/{key}")

    look(DESCRIPTION, "")
    assert seen > 40, seen
    # Every body has one, and a wrong one would be seen.
    for path, item in DESCRIPTION["paths"].items():
        for method, operation in item.items():
            for answer in [operation.get("requestBody", {}), *operation["responses"].values()] if method != "parameters" else []:
                for kind in look_up(answer).get("content", {}).values():
                    assert kind["examples"], (path, method)
    assert problems({"acquired": True}, {"$ref": "#/components/schemas/LockResponse"})


class Face:
    """Asks the server, and holds each answer against the description."""

    def __init__(self, server):
        self.server = server
        self.described = set()

    def ask(self, method, template, body=None, name="user:123", query="", token=TOKEN, expect=200, **headers):
        path = template.replace("{lockName}", quote(name, safe=""))
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        status, got, data = self.server.ask(method, path + query, body, **headers)
        assert status == expect, (method, path, status, data)
        self.check(method, template, status, got, data)
        return json.loads(data) if "json" in got.get("Content-Type", "") and data else data

    def check(self, method, template, status, headers, data):
        operation = DESCRIPTION["paths"][template][method.lower()]
        code = str(status) if str(status) in operation["responses"] else "default"
        self.described.add((template, method, code))
        answer = look_up(operation["responses"][code])
        for name, header in answer.get("headers", {}).items():
            assert name in headers or not header.get("required"), (method, template, status, name)
        assert headers["X-Request-Id"] and headers["Cache-Control"] and headers["Date"], dict(headers)
        content = answer.get("content")
        if not content or method == "HEAD":
            assert data == b"", data
            return
        kind = headers["Content-Type"].split(";")[0]
        assert kind in content, (method, template, status, kind)
        value = json.loads(data) if "json" in kind else data.decode()
        assert (wrong := problems(value, content[kind]["schema"])) == [], (method, template, status, value, wrong)
        if kind == "application/problem+json":
            assert value["status"] == status and value["type"] == f"urn:dflockd:problem:{value['code']}", value
            assert value["instance"] == headers["X-Request-Id"], value


ACQUIRE, RELEASE, RENEW, STATUS = ("/locks/{lockName}/" + verb for verb in ["acquire", "release", "renew", "status"])
LOCK, LOCKS, STATS = "/locks/{lockName}", "/locks", "/locks/stats"


def is_what_the_server_sends(server):
    status, headers, body = server.ask("GET", "/openapi.json")
    assert (status, body, headers["Content-Type"]) == (200, FILE.read_bytes(), "application/json"), headers
    tag = headers["ETag"]
    status, headers, body = server.ask("GET", "/openapi.json", If_None_Match=tag)
    assert (status, body, headers["ETag"]) == (304, b"", tag)
    status, headers, body = server.ask("HEAD", "/openapi.json")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(FILE.stat().st_size))


def has_the_methods_that_the_server_has(server):
    for path, item in DESCRIPTION["paths"].items():
        status, headers, _ = server.ask("OPTIONS", path.replace("{lockName}", "a"))
        assert status == 204, (path, status)
        methods = {method.upper() for method in item if method != "parameters"}
        assert set(headers["Allow"].split(", ")) == methods, (path, headers["Allow"], methods)


def tells_the_life_of_a_lock(server):
    face = Face(server)
    free = face.ask("GET", STATUS)
    assert not free["locked"]
    request = {"clientId": "client-1", "timeout": 30, "autoRenew": True, "metadata": {"a": [1, None, "x"]}}
    grant = face.ask("POST", ACQUIRE, request)
    assert grant["acquired"] and "autoRenewUntil" in grant, grant
    refused = face.ask("POST", ACQUIRE, {"clientId": "client-2", "waitTimeout": 0.1, "requestId": "r" * 16, "keepPlace": 5})
    assert not refused["acquired"] and refused["reason"] == "timeout" and refused["placeKept"] > 0, refused
    # A client that waits, and then would be in a deadlock with the other.
    other = face.ask("POST", ACQUIRE, {"clientId": "client-2"}, name="b")
    waiter = threading.Thread(target=face.ask, args=("POST", ACQUIRE, {"clientId": "client-1", "waitTimeout": 20}), kwargs={"name": "b"})
    waiter.start()
    while face.ask("GET", STATUS, name="b")["waiters"] == 0:
        pass
    knot = face.ask("POST", ACQUIRE, {"clientId": "client-2", "waitTimeout": 10}, expect=409)
    assert knot["code"] == "deadlock" and len(knot["cycle"]) == 2, knot
    held = face.ask("GET", STATUS, name="b")
    assert held["locked"] and held["queue"][0]["clientId"] == "client-1", held
    assert "queue" not in face.ask("GET", STATUS, name="b", query="?queue=false")
    page = face.ask("GET", LOCKS, query="?limit=1")
    assert page["count"] == 1 and page["next"] is not None, page
    rest = face.ask("GET", LOCKS, query=f"?limit=1000&after={page['next']}")
    assert {lock["lockName"] for lock in page["locks"] + rest["locks"]} == {"user:123", "b"}, rest
    face.ask("GET", LOCKS, query="?prefix=nobody&space=semaphore")
    face.ask("POST", RELEASE, {"clientId": "client-2", "lockId": other["lockId"]}, name="b")
    waiter.join(PATIENCE_S)
    renewed = face.ask("POST", RENEW, {"renewalToken": grant["renewalToken"], "timeout": 60})
    assert renewed["lockId"] == grant["lockId"] and renewed["ttl"] > 59, renewed
    face.ask("POST", RELEASE, {"clientId": "client-2", "requestId": "r" * 16})
    face.ask("POST", RELEASE, {"clientId": "wrong", "lockId": grant["lockId"]}, expect=403)
    face.ask("POST", RELEASE, {"clientId": "client-1"}, expect=422)
    face.ask("DELETE", LOCK, expect=403)
    broken = face.ask("DELETE", LOCK, token=ADMIN, query=f"?lockId={grant['lockId']}")
    assert broken["locks"] == [{"lockId": grant["lockId"], "clientId": "client-1"}], broken
    face.ask("DELETE", LOCK, token=ADMIN, expect=404)
    face.ask("POST", RELEASE, {"renewalToken": grant["renewalToken"]}, expect=409)
    face.ask("POST", RENEW, {"renewalToken": grant["renewalToken"]}, expect=409)
    face.ask("POST", ACQUIRE, {"clientId": "client-1", "limit": 2}, name="pool")
    face.ask("POST", ACQUIRE, {"clientId": "client-1", "limit": 3}, name="pool", expect=409)
    pool = face.ask("GET", STATUS, name="pool", query="?space=semaphore")
    assert pool["limit"] == 2 and len(pool["holders"]) == 1, pool
    face.ask("DELETE", LOCK, name="pool", token=ADMIN, query="?space=semaphore")
    stats = face.ask("GET", STATS)
    assert stats["totalForced"] == 2 and stats["deadlocksDetected"] == 1, stats


def tells_what_is_wrong_with_a_request(server):
    face = Face(server)
    wrong = face.ask("POST", ACQUIRE, {"timeout": 1e9, "waitTimeout": -1, "limit": 1.5, "metadata": []}, expect=422)
    assert [error["field"] for error in wrong["errors"]] == ["timeout", "waitTimeout", "metadata", "limit"], wrong
    face.ask("POST", ACQUIRE, {}, token=None, expect=401)
    face.ask("POST", ACQUIRE, {}, token="wrong", expect=401)
    face.ask("GET", STATUS, name="..", expect=400)
    face.ask("GET", LOCKS, query="?limit=0", expect=422)
    face.ask("POST", RENEW, {}, expect=422)
    face.ask("GET", "/health", token=None, Origin="http://elsewhere.example", expect=403)
    status, headers, data = server.ask("POST", "/locks/a/acquire", {}, Content_Type="text/plain", Authorization=f"Bearer {TOKEN}")
    assert status == 415
    face.check("POST", ACQUIRE, status, headers, data)
    connection = http.client.HTTPConnection(HOST, server.http_port, timeout=PATIENCE_S)
    for body, status in [("{", 400), ('{"limit":1,"limit":2}', 400), (" " * 70_000, 413)]:
        connection.request("POST", "/locks/a/acquire", body, {"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        assert answer.status == status, (body[:30], answer.status)
        face.check("POST", ACQUIRE, answer.status, answer.headers, answer.read())
    connection.close()


def tells_of_the_server(server):
    face = Face(server)
    assert face.ask("GET", "/health", token=None)["version"] == DESCRIPTION["info"]["version"]
    assert face.ask("GET", "/ready", token=None) == {"status": "ready", "protection": "none"}
    assert b"distributed_locks_active" in face.ask("GET", "/metrics")
    assert face.ask("GET", "/", token=None).startswith(b"<!doctype html>")
    for path in ["/health", "/ready", "/metrics", "/", "/openapi.json", "/locks", STATS, STATUS]:
        face.ask("HEAD", path)


def tells_when_it_is_full_or_stops(binary):
    with Server(binary, "--auth-token", TOKEN, "--max-locks", "1", "--max-waiters", "1") as server:
        face = Face(server)
        face.ask("POST", ACQUIRE, {"clientId": "a"})
        assert face.ask("POST", ACQUIRE, {}, name="b", expect=503)["code"] == "max-locks"
        waiter = server.line("auth", "_", TOKEN, "l", "user:123", "30")
        while face.ask("GET", STATUS)["waiters"] == 0:
            pass
        assert face.ask("POST", ACQUIRE, {"waitTimeout": 1}, expect=503)["code"] == "max-waiters"
        server.process.terminate()
        # Of a request that was sent before the signal was heard, the answer is an ordinary one.
        while (ready := server.ask("GET", "/ready"))[0] == 200:
            pass
        face.check("GET", "/ready", *ready)
        assert json.loads(ready[2])["code"] == "draining"
        assert face.ask("POST", ACQUIRE, {}, expect=503)["code"] == "draining"
        waiter.close()


def stands_what_schemathesis_makes_up(server):
    with tempfile.TemporaryDirectory() as notes:
        report = make_up(server, notes)
    assert report.returncode == 0, report.stdout
    print(report.stdout[report.stdout.rfind("SUMMARY") :].strip())
    assert server.process.poll() is None, server.log
    metrics = server.ask("GET", "/metrics", Authorization=f"Bearer {TOKEN}")[2].decode()
    failed = [line for line in metrics.splitlines() if 'code="500"' in line]
    assert "dflockd_http_requests_total" in metrics and all(line.endswith(" 0") for line in failed), failed


def make_up(server, notes):
    tool = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml"]
    what = ["run", FILE, "--url", server.url, "--header", f"Authorization: Bearer {ADMIN}", "--no-color"]
    return subprocess.run(
        tool + what,
        env={**os.environ, "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "requests_made_up"},
        cwd=notes,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main(binary):
    prove(is_valid)
    prove(has_examples_that_are_valid)
    with Server(binary, "--auth-token", TOKEN, "--admin-token", ADMIN) as server:
        for claim in [
            is_what_the_server_sends,
            has_the_methods_that_the_server_has,
            tells_the_life_of_a_lock,
            tells_what_is_wrong_with_a_request,
            tells_of_the_server,
        ]:
            prove(claim, server)
        prove(stands_what_schemathesis_makes_up, server, patience_s=5 * PATIENCE_S)
    prove(tells_when_it_is_full_or_stops, binary)


if __name__ == "__main__":
    main(sys.argv[1])
