"""What promtool says of the metrics of the real binary:

    python3 tests/published/metrics.py target/release/dflockd promtool

promtool has a word to say about two names alone, which are older than the rule: a counter's name ends in `_total`.
Invariant: no wait is without a deadline, and a line that is not expected ends it with status 1.
"""

import http.client
import json
import subprocess
import sys
import threading

PATIENCE_S = 60
EXPECTED = [
    f'distributed_locks_{name} counter metrics should have "_total" suffix'
    for name in ("deadlocks_detected", "renewal_success")
]


def start(binary):
    """The server, and the address of its REST face."""
    options = ["--port", "0", "--http-port", "0", "--http-host", "127.0.0.1", "--metrics-public"]
    server = subprocess.Popen([binary, *options], stderr=subprocess.PIPE, text=True)
    watch = threading.Timer(PATIENCE_S, server.kill)
    watch.start()
    address = None
    for line in server.stderr:
        print(line, end="")
        if " listening-http addr=" in line:
            address = line.split("addr=")[1].split()[0]
        if " dflockd listening addr=" in line:
            return server, watch, address
    sys.exit("no ready line")


def ask(address, method, path, body=None):
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    connection.request(method, path, body and json.dumps(body))
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def main(binary, promtool):
    server, watch, address = start(binary)
    try:
        for name in ("a", 'quote"backslash\\', "never"):
            path = "/locks/" + "".join(f"%{byte:02x}" for byte in name.encode())
            status, text = ask(address, "POST", path + "/acquire", {"clientId": name})
            assert (status, json.loads(text)["acquired"]) == (200, True), text
            body = {"renewalToken": json.loads(text)["renewalToken"]}
            assert ask(address, "POST", path + "/renew", body)[0] == 200
            assert ask(address, "GET", path + "/nothing")[0] == 404
            if name != "never":
                assert ask(address, "POST", path + "/release", body)[0] == 200
        status, text = ask(address, "GET", "/metrics")
        assert status == 200, status
    finally:
        server.terminate()
        server.wait(timeout=PATIENCE_S)
        watch.cancel()
    for line in (
        "distributed_locks_acquired_total 3",
        "distributed_locks_released_total 2",
        "distributed_locks_active 1",
        "distributed_locks_renewal_success 3",
        'dflockd_grants_total{protocol="http"} 3',
        'dflockd_connections{listener="http"} 1',
        'dflockd_http_requests_total{route="/locks/{lockName}/acquire",method="POST",code="200"} 3',
        'dflockd_http_requests_total{route="unknown",method="GET",code="404"} 3',
    ):
        assert f"\n{line}\n" in text, f"no {line} in\n{text}"
    assert "never" not in text and "quote" not in text, "a name is in the metrics"
    for name in ("process_resident_memory_bytes", "process_open_fds", "dflockd_loop_tick_seconds_count"):
        value = float(text.split(f"\n{name} ")[1].split("\n")[0])
        assert value > 0, f"{name} is {value}"
    said = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    findings = sorted((said.stdout + said.stderr).split("\n"))
    findings = [line for line in findings if line]
    assert findings == EXPECTED, "\n".join(findings)
    print("promtool names the two counters that it has to, and nothing else")


main(*sys.argv[1:])
