"""The sockets that the gateway listens on, and the folder for those of its workers; both end with their block."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from tornado.netutil import bind_sockets, bind_unix_socket

from cxg_proxy.errors import CannotListen
from cxg_proxy.files.scratch import scratch

MAX_SOCKET_BYTES = 107  # sun_path holds 108 bytes with the final zero, unix(7)
MAX_NAME_BYTES = len("/cxg-proxy-12345678/0123456789abcdef.sock")
PREFIX = "cxg-proxy-"
Listening = socket.socket


@dataclass(frozen=True)
class Address:
    """A unix socket's path, or an address and port."""

    socket: str
    ip: str
    port: int
    already: Sequence[Listening] = ()  # sockets that listen there already


class Sockets:
    """The listening sockets, which are open inside the block; raises CannotListen."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.sockets: list[socket.socket] = []
        self.said = ""
        self.port = 0

    def __enter__(self) -> Sockets:  # noqa: PYI034 - Self is not in Python 3.10
        if self._address.socket:
            path = os.path.abspath(os.path.expanduser(self._address.socket))
            self.sockets, self.said = [_unix(path)], path
        else:
            self.sockets = list(self._address.already) or _tcp(self._address.ip, self._address.port)
            port = self.sockets[0].getsockname()[1]
            ip = f"[{self._address.ip}]" if ":" in self._address.ip else self._address.ip
            self.port, self.said = port, f"http://{ip}:{port}/"
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, and remove the socket's file."""
        for each in self.sockets:
            each.close()
        if self._address.socket:
            with contextlib.suppress(OSError):
                os.unlink(self.said)


def _unix(path: str) -> socket.socket:
    if len(os.fsencode(path)) > MAX_SOCKET_BYTES:
        raise CannotListen(path, detail=f"a socket's path has at most {MAX_SOCKET_BYTES} bytes")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise CannotListen(path, detail="there is a file of this name that is no socket")
        if _answers(path):
            raise CannotListen(path, detail="another program listens on this socket")
    # Only its owner may connect, from the first instant on.
    before = os.umask(0o177)
    try:
        return bind_unix_socket(path, mode=0o600)
    except OSError as reason:
        raise CannotListen(path, detail=reason.strerror or str(reason)) from reason
    finally:
        os.umask(before)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def _tcp(ip: str, port: int) -> list[socket.socket]:
    try:
        return bind_sockets(port, ip)
    except (OSError, OverflowError) as reason:
        detail = getattr(reason, "strerror", None) or str(reason)
        raise CannotListen(f"{ip} port {port}", detail=detail) from reason


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a 0700 folder with a short name, and remove those that killed gateways left; raises CannotListen."""
    base = _base()
    with contextlib.ExitStack() as block:
        try:
            folder = block.enter_context(scratch(base, PREFIX))
        except OSError as reason:
            raise CannotListen(str(base), detail=reason.strerror or str(reason)) from reason
        yield folder


def _base() -> Path:
    """Return the first writable folder with a short name: the user's runtime folder, a temporary one, memory.

    A container may have nothing to write to but its memory and its working folder, whose name is long. Raises
    CannotListen.
    """
    with warnings.catch_warnings():  # a missing XDG_RUNTIME_DIR needs no warning here
        warnings.simplefilter("ignore")
        runtime = platformdirs.user_runtime_dir()
    for base in (Path(runtime), Path(tempfile.gettempdir()), Path("/tmp"), Path("/dev/shm")):  # noqa: S108 - as mkdtemp does
        short = len(os.fsencode(base)) + MAX_NAME_BYTES <= MAX_SOCKET_BYTES
        if short and base.is_dir() and os.access(base, os.W_OK | os.X_OK):
            return base
    raise CannotListen(detail="no folder for sockets is writable; set XDG_RUNTIME_DIR or TMPDIR to a short one")
