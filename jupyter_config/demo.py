"""`make demo`: a real JupyterHub with two invented accounts and one real dataset, until Ctrl-C."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import IO

import psutil

HERE = Path(__file__).resolve().parent
READY_SECONDS = 120
END_SECONDS = 20
SUBREAPER = 36  # prctl(2): who loses its parent becomes our child, so that we can end it
PARENT_DEATH = 1  # prctl(2): a signal for when our parent ends


def main() -> None:
    """Prepare, start, wait, end."""
    port = _port()
    configuration = {name: (HERE / name).read_text() for name in ("jupyterhub_config.py", "demo_config.py")}
    folder = _folder()
    alone = _alone_in(folder)  # as long as this process lives
    _say(f"Preparing the demo in {folder} (a few seconds, the first time 20)")
    _dataset(folder / "library" / "pbmc68k_reduced.h5ad")
    _configure(folder, configuration)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _interrupt)
    ctypes.CDLL(None).prctl(SUBREAPER, 1)
    hub = _start(folder, port)
    try:
        _wait_ready(hub, port, folder)
        _greet(port)
        hub.wait()
        _fail(f"the hub has ended by itself. Its last lines:\n{_tail(folder)}")
    except KeyboardInterrupt:
        _say("Ending the hub and all servers")
    finally:
        _end_all(hub)
        alone.close()
        _say("Nothing is left running. The demo's files and labels stay for the next time.")


def _say(text: str) -> None:
    print(f"==> {text}", flush=True)


def _fail(sentence: str) -> None:
    sys.exit(f"make demo: {sentence}")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _port() -> int:
    """The hub's port; it needs the two after it as well."""
    said = os.environ.get("PORT", "8000")
    if not said.isdecimal() or not 1024 <= int(said) <= 65533:
        _fail(f"PORT={said} is no port for a demo: give a number from 1024 to 65533.")
    for port in range(int(said), int(said) + 3):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as reason:
                _fail(
                    f"port {port} of this machine cannot be used ({reason.strerror}). "
                    "Choose another: make demo PORT=9000 (it uses this one and the next two)."
                )
    if len(os.environ.get("PASSWORD", "")) < 8:
        _fail("the password needs at least 8 characters: make demo PASSWORD=...")
    return int(said)


def _folder() -> Path:
    """Where the demo lives. As root it runs as `nobody`: its accounts have a terminal, and anybody here may log in."""
    environment = Path(sys.prefix)
    folder = HERE.parent / "build" / "demo"
    if chosen := os.environ.get("FOLDER"):
        folder = Path(chosen).absolute()
    elif environment.parent != HERE.parent:  # this checkout is out of other users' reach
        folder = environment.with_name(environment.name + "-demo")
    folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    if not os.access(folder, os.W_OK):
        _fail(
            f"{folder} belongs to another user, or lies in a private folder. "
            "Remove it, or choose another: make demo FOLDER=/tmp/demo."
        )
    os.environ["HOME"] = str(folder / "hub")  # compiled code is cached there
    return folder


def _alone_in(folder: Path) -> IO[str]:
    """Two hubs would share a database, and each would end the other's proxy: one of them must go elsewhere."""
    held = (folder / "lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _fail(f"another demo runs in {folder}. Give this one its own: make demo PORT=9000 FOLDER=/tmp/demo.")
    return held


def _dataset(file: Path) -> None:
    """700 real blood cells, which come with scanpy."""
    if file.exists():
        return
    import scanpy  # noqa: PLC0415 - takes seconds

    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".part")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the old format of scanpy's own file
        scanpy.datasets.pbmc68k_reduced().write_h5ad(beside)
    beside.replace(file)


def _configure(folder: Path, configuration: dict[str, str]) -> None:
    for name in ("hub", "homes", "etc"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    for name, text in configuration.items():
        (folder / "hub" / name).write_text(text)
    shared = {"demo": str(folder / "library")}
    (folder / "etc" / "cxg_proxy_config.py").write_text(f"c = get_config()\nc.Gateway.libraries = {shared!r}\n")


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    hub = folder / "hub"
    own = {"PORT": str(port), "DEMO_FOLDER": str(folder), "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    _say("Starting the hub (about 10 seconds)")
    with (hub / "hub.log").open("wb") as log:
        return subprocess.Popen(
            [str(Path(sys.prefix, "bin", "jupyterhub")), "--config=demo_config.py"],
            cwd=hub,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us alone; we end the hub in order
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - there are no threads here
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGTERM)


def _wait_ready(hub: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while not _answers(f"http://127.0.0.1:{port}/hub/health"):
        if hub.poll() is not None or time.monotonic() > end:
            _fail(f"the hub did not start. Its last lines:\n{_tail(folder)}")
        time.sleep(0.2)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _greet(port: int) -> None:
    print(
        f"""
    http://127.0.0.1:{port}/

    accounts  ana, ben
    password  {os.environ["PASSWORD"]}

    Log in, click the tile "cellxgene", open the dataset. Ctrl-C ends everything.
""",
        flush=True,
    )


def _tail(folder: Path) -> str:
    return "\n".join((folder / "hub" / "hub.log").read_text(errors="replace").splitlines()[-15:])


def _end_all(hub: subprocess.Popen[bytes]) -> None:
    """TERM to the hub, which ends its servers; then KILL to whatever is left, such as a proxy with open connections."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # we are ending already
    hub.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        hub.wait(END_SECONDS)
    while left := psutil.Process().children(recursive=True):
        for each in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(left, timeout=5)


if __name__ == "__main__":
    main()
