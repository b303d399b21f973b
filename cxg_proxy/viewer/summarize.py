"""Describes datasets for the list, one after the other, each in a process of its own that a hostile file may wreck."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from typing import Any, BinaryIO

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import DamagedFile, NotEnoughMemory, Problem

_SECONDS = 30
_BYTES = 2 * 1024**3


def summarize(lines: BinaryIO, out: BinaryIO) -> int:
    """Answer each line, a path as JSON, with one line of JSON; returns the exit status at the end of the lines."""
    # More threads than one would only cost memory here, and this process forks.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from .summary import describe  # noqa: PLC0415 - imported once, before the first fork

    for line in lines:
        out.write(json.dumps(_answer(line, describe)).encode() + b"\n")
        out.flush()
    return 0


def _answer(line: bytes, describe: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    try:
        path = json.loads(line)
    except ValueError:
        path = None
    if not isinstance(path, str) or "\0" in path:
        return blank(str(path), Problem(detail="the line is not the path of a file, as a JSON string"))
    return _apart(path, describe)


def blank(path: str, problem: Problem | None = None) -> dict[str, Any]:
    """A summary that knows nothing but the problem."""
    return {
        "path": path,
        "cells": None,
        "genes": None,
        "embeddings": [],
        "categories": [],
        "preview": None,
        "problem": problem.to_json() if problem else None,
    }


def _apart(path: str, describe: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Describe the file in a child, and say what became of the child if it gives no answer."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _describe_and_exit(path, describe, write_end)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if status == 0:
        answer: dict[str, Any] = json.loads(content)
        return answer
    return blank(path, _wreck(path, status))


def _describe_and_exit(path: str, describe: Callable[[str], dict[str, Any]], write_end: int) -> None:
    status = 1
    try:
        signal.alarm(_SECONDS)  # its default action ends us even inside a library that never returns
        resource.setrlimit(resource.RLIMIT_DATA, (_BYTES, _BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open(write_end, "wb") as pipe:
            pipe.write(json.dumps(describe(path)).encode())
        status = 0
    finally:
        os._exit(status)


def _wreck(path: str, status: int) -> Problem:
    name = display_name(path)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return DamagedFile(name, detail=f"looking into it took longer than {_SECONDS} seconds")
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return NotEnoughMemory(name)
    return DamagedFile(name, detail="the attempt to look into it failed")
