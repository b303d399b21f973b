"""Containers as Galaxy starts them: a podman of our own, of which nothing but images outlives a block."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

LONG = 540.0  # seconds a build may take
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

# What is asked for here, Debian's crun refuses to raise in a container of a machine that is itself one.
CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"

[network]
network_backend = "netavark"
"""

# crun refuses a machine with both generations of cgroups, so it must not see the second one. One namespace for all
# calls: podman's own mounts live in it, and with another one for each call it loses sight of them.
KEEPER = """\
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
echo kept
exec sleep infinity
"""

# Galaxy's runner hands on an environment with next to nothing in it.
WRAPPER = """\
#!/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME={folder} CONTAINERS_CONF={folder}/containers.conf
export PATH HOME CONTAINERS_CONF
exec nsenter --target {keeper} --mount --wd="$PWD" -- podman --root {folder}/images --runroot {place}/run \\
    --tmpdir {place}/tmp --storage-driver overlay "$@"
"""


class Podman:
    """The engine: a command that Galaxy can be told to use as docker's, and what the tests ask of it."""

    def __init__(self, folder: Path, command: Path) -> None:
        self.folder, self.command = folder, command

    def __call__(self, *arguments: str | Path, seconds: float = 60) -> str:
        """Run a podman command; what it printed."""
        done = subprocess.run(
            [self.command, *arguments], capture_output=True, text=True, timeout=seconds, check=False, cwd="/"
        )
        assert done.returncode == 0, (
            f"podman {' '.join(map(str, arguments))}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Whether an image is there."""
        return bool(self("images", "--quiet", image))

    def import_base(self, archive: Path, image: str) -> None:
        """Make an image of an archive of a whole file system."""
        self("import", "--change", 'CMD=["python3"]', archive, image, seconds=LONG)

    def build(self, image: str, dockerfile: Path, context: Path) -> None:
        """Build an image from what is here and the package index."""
        options = ["--pull=never", "--network=host", "--format=docker", f"--file={dockerfile}", f"--tag={image}"]
        self("build", *options, *_trust(self.folder), context, seconds=LONG)
        # Layers of the last days stay: with them the next build takes seconds.
        self("image", "prune", "--force", "--filter=until=72h")

    def containers(self) -> list[dict[str, Any]]:
        """What runs."""
        found: list[dict[str, Any]] = json.loads(self("ps", "--format=json") or "[]")
        return found

    def kill(self, container: str) -> None:
        """End a container's processes as the kernel does when memory is short."""
        self("kill", "--signal=KILL", container)


def _trust(folder: Path) -> list[str]:
    """Some networks put certificates of their own before the world's; a build must trust what this machine trusts."""
    (folder / "pip.conf").write_text(f"[global]\ncert = {CERTIFICATES}\n")
    shared = {Path(CERTIFICATES).resolve(): CERTIFICATES, folder / "pip.conf": "/etc/pip.conf"}
    return [f"--volume={file}:{inside}:ro" for file, inside in shared.items() if file.exists()]


@contextlib.contextmanager
def podman(folder: Path) -> Iterator[Podman]:
    """An engine for as long as the block lasts; afterwards only its images are left."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "containers.conf").write_text(CONTAINERS)
    _end_what_was_cut_off(folder)
    _forget_run(folder)
    _forget_other_place(folder)
    keep = ["unshare", "--mount", "--propagation", "private", "sh", "-c", KEEPER]
    with subprocess.Popen(keep, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as keeper:
        assert keeper.stdout is not None
        try:
            assert keeper.stdout.readline() == b"kept\n", "no mount namespace could be made: this must run as root"
            engine = Podman(folder, _wrapper(folder, keeper.pid))
            try:
                yield engine
            finally:
                engine("rm", "--all", "--force", "--time=0")
                assert engine("ps", "--all", "--quiet") == ""
        finally:
            keeper.kill()
    _wait(lambda: not processes(folder), f"the end of {processes(folder)}")
    for each in (folder, place_of_run(folder)):
        assert not mounts(each), mounts(each)
    _forget_run(folder)


def place_of_run(folder: Path) -> Path:
    """Where podman keeps what belongs to one run: it takes 50 characters at most, and a cache's path may be long."""
    return Path("/run") / f"cxgt-podman-{hashlib.sha256(bytes(folder)).hexdigest()[:8]}"


def _wrapper(folder: Path, keeper: int) -> Path:
    command = folder / "docker"
    said = {"folder": shlex.quote(str(folder)), "place": place_of_run(folder), "keeper": keeper}
    command.write_text(WRAPPER.format(**said))
    command.chmod(0o755)
    return command


def _forget_run(folder: Path) -> None:
    """What belongs to one run: the next must not believe its containers to be alive."""
    for each in (place_of_run(folder), folder / "run", folder / "tmp"):  # the last two are of older checkouts
        shutil.rmtree(each, ignore_errors=True)


def _forget_other_place(folder: Path) -> None:
    """Podman refuses a list of containers that was begun with another place for its runs; its images stay."""
    known, place = folder / "place-of-run", str(place_of_run(folder))
    if not known.exists() or known.read_text() != place:
        shutil.rmtree(folder / "images" / "libpod", ignore_errors=True)
        known.write_text(place)


def processes(folder: Path) -> list[psutil.Process]:
    """What watches over containers of this engine."""
    return [
        each
        for each in psutil.process_iter(["name", "cmdline"])
        if each.info["name"] == "conmon" and f"{folder}/" in " ".join(each.info["cmdline"] or ())
    ]


def _end_what_was_cut_off(folder: Path) -> None:
    """Containers of a run that could not end them itself; nobody else uses this folder."""
    for each in processes(folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            for inside in (*each.children(recursive=True), each):
                inside.kill()
    _wait(lambda: not processes(folder), "the end of containers of a run that was cut off")


def mounts(folder: Path) -> list[str]:
    """What this engine has mounted where everybody sees it."""
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{folder}/" in line]


def _wait(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)
