"""The job that summarizes datasets for the list, each in a separate process, which a hostile file may crash."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import h5py

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import DamagedFile, NoEmbedding, NotEnoughMemory, NotViewable, Problem
from cxg_proxy.viewer.source import cell_names, embeddings, h5ad, tables

from . import thumbnail

_SECONDS = 30
_BYTES = 2 * 1024**3
_SET_PARENT_DEATH_SIGNAL = 1  # Linux's PR_SET_PDEATHSIG

_EMBEDDINGS_MAX = 30  # cellxgene shows no more
_COLUMNS_MAX = 10_000
_NAMES_SECONDS = 10  # of the 30 that a summary may take


def summarize(lines: BinaryIO, out: BinaryIO) -> int:
    """Answer each line, a path as JSON, with one line of JSON; return the exit status after the last line."""
    # More threads than one would only cost memory here, and this process forks.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    signal.signal(signal.SIGTERM, _leave)
    for line in lines:
        out.write(json.dumps(_answer(line, describe, out)).encode() + b"\n")
        out.flush()
    return 0


def _leave(number: int, frame: object) -> None:
    raise SystemExit(0)  # on its way up this exception ends the child


def _answer(line: bytes, describe: Callable[[str], dict[str, Any]], out: BinaryIO) -> dict[str, Any]:
    try:
        path = json.loads(line)
    except ValueError:
        path = None
    if not isinstance(path, str) or "\0" in path:
        return blank(str(path), Problem(detail="the line is not the path of a file, as a JSON string"))
    return _apart(path, describe, out)


def _apart(path: str, describe: Callable[[str], dict[str, Any]], out: BinaryIO) -> dict[str, Any]:
    """Describe the file in a child process, and report how the child ended if it gives no answer."""
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
    """Read all that the child writes; raises SystemExit when the reader of `out` has gone."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(out, 0)  # poll always reports that a pipe has lost its reader
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
        signal.alarm(_SECONDS)  # its default action ends this process even inside a library that never returns
        resource.setrlimit(resource.RLIMIT_DATA, (_BYTES, _BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open(write_end, "wb") as pipe:
            pipe.write(json.dumps(describe(path)).encode())
        status = 0
    finally:
        os._exit(status)


def _die_with(parent: int) -> None:
    """Let the system kill this process when its parent ends, for whatever reason (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before that call
        os._exit(1)


def _wreck(path: str, status: int) -> Problem:
    name = display_name(path)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return DamagedFile(name, detail=f"looking into it took longer than {_SECONDS} seconds")
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return NotEnoughMemory(name)
    return DamagedFile(name, detail="the attempt to look into it failed")


def describe(path: str) -> dict[str, Any]:
    """Return the summary of one file; a Problem is part of it and never raised."""
    summary = blank(path)
    try:
        h5ad.check(path)
        try:
            with h5py.File(path, "r", locking=False) as file:
                h5ad.check_anndata(path, file)
                _describe_open(path, file, summary)
        except h5ad.ERRORS as error:
            raise h5ad.open_problem(path, error) from error
    except Problem as problem:
        summary["problem"] = problem.to_json()
    return summary


def _describe_open(path: str, file: Any, summary: dict[str, Any]) -> None:
    name = display_name(path)
    cells, genes = tables.count(file["obs"]), tables.count(file["var"])
    summary.update(cells=cells, genes=genes)
    if not cells or not genes:
        raise NotViewable(name, detail=f"it holds {cells or 0} cells and {genes or 0} genes")
    if "X" not in file:
        raise NotViewable(name, detail="it has no matrix X")
    categoricals = list(itertools.islice(tables.categoricals(file["obs"]), _COLUMNS_MAX))
    summary["categories"] = [column for column, _, _ in categoricals]
    with contextlib.suppress(*h5ad.ERRORS):  # only labels need the columns
        summary["columns"] = tables.columns(file["obs"])[:_COLUMNS_MAX]
    summary["identifiers"] = cell_names.digest(file, seconds=_NAMES_SECONDS)
    summary["embeddings"] = embeddings.drawable(file, cells, path)[:_EMBEDDINGS_MAX]
    if not summary["embeddings"]:
        raise NoEmbedding(name)
    if isinstance(file["obsm"], h5py.Group):
        summary["preview"] = thumbnail.draw(file, summary["embeddings"], categoricals, cells)


def blank(path: str, problem: Problem | None = None) -> dict[str, Any]:
    """Return a summary with nothing but the path and the problem."""
    return {
        "path": path,
        "cells": None,
        "genes": None,
        "identifiers": None,
        "embeddings": [],
        "categories": [],
        "columns": [],
        "preview": None,
        "problem": problem.to_json() if problem else None,
    }
