"""The Debian package on a Debian host, which it is installed on, removed from and purged from:

    python3 tests/packages/deb.py dflockd_0.1.0-1_amd64.deb [tar of another root]

The host is this one, behind an overlay that is thrown away, or the root in the tar. systemd is not process 1 there, so
the service is enabled but not started, and the test runs what the unit says.
Invariant: after the purge no file is left that has the name of the package.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import rooms

WANTED = "etc/systemd/system/multi-user.target.wants/dflockd.service"
CONFFILE = "etc/default/dflockd"
MADE = {"var/lib/dflockd": "var/lib/private/dflockd/ledger", "run/dflockd": "run/private/dflockd/journal/0"}


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


class Host:
    """A root that the test may change. `changed` is the folder that has all that was changed."""

    def __init__(self, folder, tar):
        mount("-t", "tmpfs", "tmpfs", folder)
        folder = pathlib.Path(folder)
        self.root = folder / "root"
        self.root.mkdir()
        if tar:
            subprocess.run(["tar", "-xf", tar, "-C", self.root], check=True)
            self.changed = self.root
        else:
            self.changed = folder / "changed"
            self.changed.mkdir()
            (folder / "work").mkdir()
            options = f"lowerdir=/,upperdir={self.changed},workdir={folder / 'work'}"
            mount("-t", "overlay", "overlay", "-o", options, self.root)
        mount("-t", "proc", "proc", self.root / "proc")
        mount("--bind", "/dev", self.root / "dev")

    def command(self, *words):
        return ["chroot", self.root, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", *words]

    def run(self, *words):
        done = subprocess.run(self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"{words}: status {done.returncode}: {done.stdout}"
        return done.stdout

    def has(self, path):
        return os.path.lexists(self.root / path)

    def traces(self):
        """All that is there and has the name, but what man(1) keeps of pages that were read. An overlay marks what is
        gone with a character device."""
        found = [path for path in self.changed.rglob("*dflock*") if not path.is_char_device()]
        found = sorted(str(path.relative_to(self.changed)) for path in found)
        return [path for path in found if not path.startswith("var/cache/man/")]


def installed(host, deb, changed=False):
    (host.root / "package.deb").write_bytes(pathlib.Path(deb).read_bytes())
    said = host.run("dpkg", "-i", "/package.deb")
    for line in said.splitlines():
        print("   ", line)
    assert "warning" not in said.lower() and "error" not in said.lower(), said
    assert host.run("dpkg-query", "-W", "-f", "${Status}", "dflockd") == "install ok installed"
    differing = [line.split()[-1] for line in host.run("dpkg", "--verify", "dflockd").splitlines()]
    assert differing == ([f"/{CONFFILE}"] if changed else []), differing


def read_by_systemd(host):
    """The units that are installed, and whether they speak of this host and not of a source tree."""
    folder = "usr/lib/systemd/system"
    units = {name: (host.root / folder / name).read_text() for name in ("dflockd.service", "dflockd.socket")}
    for name, text in units.items():
        assert text.startswith("[Unit]\n"), f"{name} still says how it is installed"
        assert "/usr/local" not in text, f"{name} names a folder that is the administrator's own"
    assert os.path.basename(os.readlink(host.root / WANTED)) == "dflockd.service"
    assert not host.has("etc/systemd/system/sockets.target.wants/dflockd.socket"), "the socket is for those who want it"
    if host.has("usr/bin/systemd-analyze"):
        said = host.run("systemd-analyze", "verify", "--man=no", *(f"/{folder}/{name}" for name in units))
        assert said == "", said
    return re.search(r"^ExecStart=(.*)$", units["dflockd.service"], re.M).group(1)


def settings(host):
    """As it comes the file sets nothing. Every setting in it is one that the server takes."""
    text = (host.root / CONFFILE).read_text()
    assert all(line.startswith("#") or not line for line in text.splitlines()), text
    offered = re.findall(r"^#(\w+=\S+)$", text, re.M)
    assert "DFLOCKD_HTTP_PORT=5000" in offered, offered
    folders = ("STATE_DIRECTORY=/var/lib/dflockd", "RUNTIME_DIRECTORY=/run/dflockd")
    table = host.run("env", *folders, *offered, "/usr/bin/dflockd", "--check")
    # The name of its variable is the source of a setting.
    taken = set(re.findall(r"^\S+ +\S+ +(DFLOCKD_\w+)$", table, re.M))
    assert taken == {setting.split("=")[0] for setting in offered}, table


def serves(host, command):
    """What the unit runs serves, and the client and the manual are found by their names alone."""
    server = rooms.Server(host.command("env", "DFLOCKD_HTTP_PORT=5000", *command.split()), {"PATH": os.environ["PATH"]})
    try:
        rooms.serves(6388, 5000)
        said = host.run("dflock", "-w", "5", "deploy", "-c", "dflock ls; echo mine")
        assert "deploy" in said and said.endswith("mine\n"), said
    finally:
        os.kill(server.process.pid, signal.SIGTERM)
    assert server.ended() == 0


def read_by_people(host):
    for page, section in (("dflock", "1"), ("dflockd-protocol", "7"), ("dflockd", "8")):
        path = f"usr/share/man/man{section}/{page}.{section}.gz"
        assert host.has(path) or not host.has("usr/share/man/man1"), f"{path} is missing"
        if host.has("usr/bin/man"):
            text = host.run("man", "--pager=cat", section, page)
            assert re.search(r"^NAME$", text, re.M) and f"{page} –" in text.replace("—", "–"), text[:400]
    if host.has("usr/bin/lintian"):
        said = host.run("lintian", "--allow-root", "--fail-on", "error,warning", "/package.deb")
        assert said == "", said
    for name in ("dflock", "dflockd"):
        complete = f". /usr/share/bash-completion/completions/{name} && complete -p {name}"
        assert f" {name}" in host.run("bash", "-c", complete)
        if host.has("usr/bin/zsh"):
            # Where zsh looks on Debian.
            assert "_" + name in host.run("zsh", "-fc", f"autoload -Uz _{name} && autoload +X _{name} && echo _{name}")
        if host.has("usr/bin/fish"):
            assert "--" in host.run("env", "HOME=/", "fish", "-c", f"complete -C '{name} --'")


def made(host, link):
    """A folder as systemd makes it for the unit, and a file of the server in it."""
    file = host.root / MADE[link]
    file.parent.mkdir(parents=True)
    file.write_text("x")
    (host.root / link).symlink_to("private/dflockd")


def restarts_only_with_a_journal(host, deb):
    """What an upgrade asks of systemd, as the administrator's policy is told."""
    policy = host.root / "usr/sbin/policy-rc.d"
    policy.unlink(missing_ok=True)
    policy.write_text('#!/bin/sh\necho "$2 $1" >>/asked\nexit 101\n')
    policy.chmod(0o755)
    (host.root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    for link, action in zip(MADE, ("start", "restart")):
        made(host, link)
        (host.root / "asked").write_text("")
        installed(host, deb, changed=True)
        assert (host.root / "asked").read_text() == f"{action} dflockd.service\n", action
    (host.root / "run/systemd/system").rmdir()
    policy.unlink()


def main(deb, tar=None):
    rooms.alone()
    with tempfile.TemporaryDirectory() as folder:
        try:
            host = Host(folder, tar)
            before = host.traces()
            assert not tar or before == [], before
            installed(host, deb)
            command = read_by_systemd(host)
            settings(host)
            serves(host, command)
            read_by_people(host)
            # An administrator's changes survive an upgrade: of the settings, and whether the service starts at boot.
            (host.root / CONFFILE).write_text("DFLOCKD_PORT=7000\n")
            # All that `systemctl disable` does.
            (host.root / WANTED).unlink()
            installed(host, deb, changed=True)
            assert (host.root / CONFFILE).read_text() == "DFLOCKD_PORT=7000\n"
            assert not host.has(WANTED)
            restarts_only_with_a_journal(host, deb)
            # What systemd makes for the service is there as long as the package or its settings are.
            host.run("dpkg", "--remove", "dflockd")
            assert not host.has("usr/bin/dflockd")
            assert host.has(CONFFILE) and all(host.has(file) for file in MADE.values())
            host.run("dpkg", "--purge", "dflockd")
            assert host.traces() == before, host.traces()
        finally:
            subprocess.run(["umount", "--recursive", "--lazy", folder])
    print("installs, serves, and is gone when it is purged")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
