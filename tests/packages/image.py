"""The container image, without a container engine:

    python3 tests/packages/image.py target/static/x86_64-unknown-linux-musl

Reads packaging/Containerfile and packaging/compose.yaml, makes a root folder of what they copy, and runs the very
command line there, as the same user and with the same environment: once beside other processes, once as process 1.
Invariant: every instruction of the Containerfile and every key of the service is looked at or known to need no look.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import yaml

import rooms

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGING = ROOT / "packaging"


def instructions(text):
    """Each instruction with what follows it; a line that is a comment is none."""
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line and not line.startswith("#")]


class Image:
    """What an engine would make of the file, with a folder as its context."""

    def __init__(self, text, context, root):
        self.env, self.exposed, self.user, self.entrypoint, self.health, self.volume = {}, set(), None, None, None, None
        assert instructions(text)[0] == ("FROM", "scratch")
        for name, rest in instructions(text)[1:]:
            if name == "COPY" and rest.startswith("--chown="):
                owner, source, folder = rest.split()
                assert os.listdir(context / source) == []
                (root / folder.strip("/")).mkdir()
                user, group = owner.removeprefix("--chown=").split(":")
                os.chown(root / folder.strip("/"), int(user), int(group))
            elif name == "COPY":
                *files, folder = rest.split()
                for file in files:
                    shutil.copy(context / file, root / folder.strip("/") / file)
            elif name == "VOLUME":
                self.volume = rest
            elif name == "USER":
                self.user = rest
            elif name == "ENV":
                key, value = rest.split("=", 1)
                self.env[key] = value
            elif name == "EXPOSE":
                self.exposed = {int(port) for port in rest.split()}
            elif name == "HEALTHCHECK":
                self.health = json.loads(re.fullmatch(r"(?:--\S+ )*CMD (\[.*\])", rest).group(1))
            elif name == "ENTRYPOINT":
                self.entrypoint = json.loads(rest)
            else:
                sys.exit(f"the test does not know {name}")


def shown():
    """The manual shows what is in the file."""
    page = (ROOT / "man/dflockd.8").read_text()
    (block,) = re.findall(r"^FROM scratch\n(?:.+\n)*?(?=\.Ed$)", page, re.M)
    lines = (PACKAGING / "Containerfile").read_text().splitlines()
    assert [line for line in lines if line in block.splitlines()] == block.splitlines(), block


def service():
    """The environment and the published ports of compose.yaml, each with the address on the host."""
    described = yaml.safe_load((PACKAGING / "compose.yaml").read_text())
    assert list(described) == ["services", "volumes"] and list(described["services"]) == ["dflockd"], described
    assert described["volumes"] == {"state": None} and described["services"]["dflockd"]["volumes"] == ["state:/state"]
    service = described["services"]["dflockd"]
    context = (PACKAGING / service["build"]["context"]).resolve()
    assert context == ROOT / "target/static/x86_64-unknown-linux-musl", context
    # The path leads from the context, which need not be there.
    dockerfile = os.path.normpath(context / service["build"]["dockerfile"])
    assert dockerfile == str(PACKAGING / "Containerfile"), dockerfile
    harmless = {"image", "build", "restart", "read_only", "cap_drop", "security_opt", "ulimits"}
    looked_at = {"environment", "ports", "stop_grace_period", "volumes"}
    assert set(service) == harmless | looked_at, set(service)
    assert all(isinstance(value, str) for value in service["environment"].values()), "YAML would change some values"
    grace = int(re.fullmatch(r"(\d+)s", service["stop_grace_period"]).group(1))
    assert grace > int(service["environment"]["DFLOCKD_SHUTDOWN_TIMEOUT_S"])
    published = {}
    for port in service["ports"]:
        address, outside, inside = port.split(":")
        published[int(outside)] = (address, int(inside))
    # Whoever reads the quick start has no token, so nobody else may come.
    assert published == {6388: ("127.0.0.1", 6388), 5000: ("127.0.0.1", 5000)}, published
    return service["environment"]


def processes(unshared):
    """The process that unshare has started, and whether it is process 1 of a namespace."""
    children = pathlib.Path(f"/proc/{unshared}/task/{unshared}/children").read_text().split()
    status = pathlib.Path(f"/proc/{children[0]}/status").read_text()
    return int(children[0]), dict(re.findall(r"(\w+):\t(.*)", status))


def dies_with_a_lock(command, env):
    """The token of a lock that is held when a container is killed."""
    server = rooms.Server(command, env)
    with socket.create_connection(("127.0.0.1", 6388)) as client:
        status, token, _ = rooms.ask(client, "l", "kept", "0 300")
        assert status == "ok", status
        os.kill(processes(server.process.pid)[0], signal.SIGKILL)
        assert server.ended() != 0
    return token


def run(image, root, env, is_first):
    # With --userspec chroot gives up what root may, as an engine does for a USER.
    inside = ["setpriv", "--no-new-privs", "chroot", f"--userspec={image.user}", str(root)]
    outside = ["unshare", "--fork", "--kill-child"] + ["--pid"] * is_first
    command = [*outside, *inside, *image.entrypoint]
    token = dies_with_a_lock(command, env)
    server = rooms.Server(command, env)
    pid, status = processes(server.process.pid)
    assert (status["NSpid"].split()[-1] == "1") is is_first, status["NSpid"]
    user, group = image.user.split(":")
    assert status["Uid"].split() == [user] * 4 and status["Gid"].split() == [group] * 4, status
    assert int(status["CapEff"], 16) == 0 and status["Groups"].strip() in ("", group), status
    with socket.create_connection(("127.0.0.1", 6388)) as client:
        assert rooms.ask(client, "l", "kept", "0") == ["timeout"], "the volume has the journal"
        assert rooms.ask(client, "r", "kept", token) == ["ok"]
    rooms.serves(6388, 5000)
    assert subprocess.run([*inside, *image.health], env=env).returncode == 0, "it is healthy"
    os.kill(pid, signal.SIGTERM)
    assert server.ended() == 0
    quiet = subprocess.run([*inside, *image.health], env=env, stderr=subprocess.DEVNULL)
    assert quiet.returncode != 0, "it is gone"


def main(binaries):
    rooms.alone()
    shown()
    compose = service()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        root.chmod(0o755)
        image = Image((PACKAGING / "Containerfile").read_text(), pathlib.Path(binaries), root)
        assert sorted(os.listdir(root)) == ["dflock", "dflockd", "state"]
        assert image.volume == image.env["DFLOCKD_STATE_DIR"] == "/state"
        # Every container has it: there the server reads which boot it is.
        (root / "proc").mkdir()
        subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
        assert image.exposed == {6388, 5000}
        # An engine stops a container after 10 seconds, unless compose.yaml says otherwise.
        assert int(image.env["DFLOCKD_SHUTDOWN_TIMEOUT_S"]) < 10
        try:
            for is_first in (False, True):
                for more in ({}, compose):
                    print(f"as process 1: {is_first}, with the environment of compose.yaml: {bool(more)}", flush=True)
                    run(image, root, {"PATH": os.environ["PATH"], **image.env, **more}, is_first)
        finally:
            subprocess.run(["umount", "--lazy", root / "proc"], check=True)
    print("the image serves")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
