"""What is handed out, and that it is the same bytes each time:

    python3 tests/packages/release.py OTHER AARCH64

Packs the static binaries for x86_64 twice. OTHER is a dflockd-lean that was built from the same source in another
folder, AARCH64 one for that processor, which qemu-aarch64 runs. Wants cyclonedx-python-lib with its validator.
Invariant: what is compared with was made in another way, or by another program.
"""

import filecmp
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tarfile
import tempfile

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import rooms

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = "x86_64-unknown-linux-musl"
BINARIES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "static" / TARGET
PROGRAMS = ["dflock", "dflockd", "dflockd-lean"]


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def packed(folder, umask, zone):
    """All that packaging/pack writes, under another umask and clock."""
    command = f'umask {umask}; exec packaging/pack {TARGET} "$0"'
    env = {**os.environ, "TZ": zone, "LC_ALL": "C.UTF-8" if umask == "077" else "C"}
    subprocess.run(["bash", "-c", command, folder], cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
    return sorted(pathlib.Path(folder).iterdir())


def unpacked(archive, folder):
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        tar.extractall(folder)
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert {oct(member.mode) for member in members} == {"0o644", "0o755"}
    time = os.environ.get("SOURCE_DATE_EPOCH") or output("git", "log", "-1", "--format=%ct")
    assert {member.mtime for member in members} == {int(time)}
    (root,) = pathlib.Path(folder).iterdir()
    assert root.name == archive.name.removesuffix(".tar.gz")
    return root


def complete(root):
    """Each file that is in there has its sum, and all that users need is in there."""
    sums = dict(line.split()[::-1] for line in (root / "SHA256SUMS").read_text().splitlines())
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    del files["SHA256SUMS"]
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    for folder in ("man", "systemd"):
        assert sorted(os.listdir(root / folder)) == sorted(os.listdir(ROOT / folder))
    assert sorted(os.listdir(root / "completions")) == sorted(os.listdir(ROOT / "packaging/completions"))
    assert (root / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert sorted(os.listdir(root / "bin")) == PROGRAMS
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    for name in PROGRAMS:
        program = name.removesuffix("-lean")
        assert output(root / "bin" / name, "--version") == f"{program} {version}\n"
    # The manual has pages for what the programs of this version do.
    assert "--http-port" in output(root / "bin/dflockd", "--help")
    assert "--http-port" not in output(root / "bin/dflockd-lean", "--help")


def billed(root):
    """The bill of materials is valid, and has what cargo says and what the binaries name."""
    text = (root / "sbom.cdx.json").read_text()
    error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    assert error is None, error
    bom = json.loads(text)
    has = {(part["name"], part["version"]) for part in bom["components"] if "purl" in part}
    tree = output("cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--target", TARGET, "--prefix", "none")
    # The first line is the package itself.
    says = {tuple(line.split()[:2]) for line in tree.splitlines()[1:] if line}
    assert has == {(name, version.removeprefix("v")) for name, version in says}, has
    assert len(has) > 5, has
    licences = (root / "LICENSES").read_text()
    for name in PROGRAMS:
        named = re.findall(rb"/cargo/([\w-]+)-(\d[\w.]*)/", (root / "bin" / name).read_bytes())
        assert named, "no binary is without a path"
        for crate, version in named:
            assert (crate.decode(), version.decode()) in has, (crate, version)
    for name, version in has:
        assert f"\n{name}@{version}\n" in f"\n{licences}", name
    assert "Rich Felker" in licences, "the C library"


def says_no_folder(root):
    """Neither where the source was, nor where cargo keeps what it has fetched."""
    home = os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")
    for name in PROGRAMS:
        text = (root / "bin" / name).read_bytes()
        for folder in (str(ROOT), os.path.realpath(home), str(BINARIES)):
            assert folder.encode() not in text, f"{name} names {folder}"


def serves(binary):
    """A binary for AArch64, under emulation."""
    header = pathlib.Path(binary).read_bytes()[:20]
    # 64 bits, the lower byte first, EM_AARCH64.
    assert header[:6] == b"\x7fELF\x02\x01" and int.from_bytes(header[18:20], "little") == 183, header
    server = rooms.Server(["qemu-aarch64", binary], {"PATH": os.environ["PATH"]})
    rooms.serves_lines(6388)
    os.kill(server.process.pid, signal.SIGTERM)
    assert server.ended() == 0


def main(other, aarch64):
    rooms.alone()
    assert filecmp.cmp(other, BINARIES / "dflockd-lean", shallow=False), "another folder gives other bytes"
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        files = packed(first, "022", "UTC")
        again = packed(second, "077", "Asia/Tokyo")
        assert [file.name for file in files] == [file.name for file in again]
        assert [file.suffix for file in files] == [".gz", ".deb"], files
        for one, two in zip(files, again):
            assert filecmp.cmp(one, two, shallow=False), f"{one.name} differs"
            print(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}: {one.stat().st_size} bytes", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            root = unpacked(files[0], folder)
            complete(root)
            billed(root)
            says_no_folder(root)
    serves(aarch64)
    print("the same bytes, and all of them")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
