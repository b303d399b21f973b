"""Describes datasets for the list, one after the other, each in a process of its own that a hostile file may wreck."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import DamagedFile, NotEnoughMemory, Problem

from .summary import blank

_SECONDS = 30
_BYTES = 2 * 1024**3
_SET_PARENT_DEATH_SIGNAL = 1  # Linux's PR_SET_PDEATHSIG


def summarize(lines: BinaryIO, out: BinaryIO) -> int:
    """Answer each line, a path as JSON, with one line of JSON; returns the exit status at the end of the lines."""
    # More threads than one would only cost memory here, and this process forks.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from .summary import describe  # noqa: PLC0415 - imported once, before the first fork

    signal.signal(signal.SIGTERM, _leave)
    for line in lines:
        out.write(json.dumps(_answer(line, describe, out)).encode() + b"\n")
        out.flush()
    return 0


def _leave(number: int, frame: object) -> None:
    raise SystemExit(0)  # on its way out it ends the child


def _answer(line: bytes, describe: Callable[[str], dict[str, Any]], out: BinaryIO) -> dict[str, Any]:
    try:
        path = json.loads(line)
    except ValueError:
        path = None
    if not isinstance(path, str) or "\0" in path:
        return blank(str(path), Problem(detail="the line is not the path of a file, as a JSON string"))
    return _apart(path, describe, out)


def _apart(path: str, describe: Callable[[str], dict[str, Any]], out: BinaryIO) -> dict[str, Any]:
    """Describe the file in a child, and say what became of the child if it gives no answer."""
    read_end, write_end = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _describe_and_exit(path, describe, write_end, parent)
    try:
        os.close(write_end)
        with open(read_end, "rb") as pipe:
            content = _read_while_heard(pipe, out)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    if status == 0:
        answer: dict[str, Any] = json.loads(content)
        return answer
    return blank(path, _wreck(path, status))


def _read_while_heard(pipe: BinaryIO, out: BinaryIO) -> bytes:
    """All that the child writes; leaves when there is nobody any more to read our answer."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(out, 0)  # that nobody reads a pipe any more is told unasked
    content = b""
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if pipe.fileno() not in ready:
            raise SystemExit(0)
        part = os.read(pipe.fileno(), 1 << 16)
        if not part:
            return content
        content += part


def _describe_and_exit(path: str, describe: Callable[[str], dict[str, Any]], write_end: int, parent: int) -> None:
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _die_with(parent)
        signal.alarm(_SECONDS)  # its default action ends us even inside a library that never returns
        resource.setrlimit(resource.RLIMIT_DATA, (_BYTES, _BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open(write_end, "wb") as pipe:
            pipe.write(json.dumps(describe(path)).encode())
        status = 0
    finally:
        os._exit(status)


def _die_with(parent: int) -> None:
    """Have the system end this process together with its parent, whatever ends that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the system knew
        os._exit(1)


def _wreck(path: str, status: int) -> Problem:
    name = display_name(path)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return DamagedFile(name, detail=f"looking into it took longer than {_SECONDS} seconds")
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return NotEnoughMemory(name)
    return DamagedFile(name, detail="the attempt to look into it failed")
