"""The job that summarizes datasets for the list, each in a separate process, which a hostile file may crash."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import h5py
import numpy as np

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import DamagedFile, NoEmbedding, NotEnoughMemory, NotViewable, Problem
from cxg_proxy.viewer.source import cell_names, h5ad

from . import thumbnail

_SECONDS = 30
_BYTES = 2 * 1024**3
_SET_PARENT_DEATH_SIGNAL = 1  # Linux's PR_SET_PDEATHSIG

_EMBEDDINGS_MAX = 30  # cellxgene shows no more
_COLUMNS_MAX = 10_000
_BLOCK_BYTES = 8 * 1024**2
_BLOCKS_MAX = 64
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
    found = blank(path)
    try:
        h5ad.check(path)
        try:
            with h5py.File(path, "r", locking=False) as file:
                h5ad.check_anndata(path, file)
                _describe_open(path, file, found)
        except h5ad.ERRORS as error:
            raise h5ad.open_problem(path, error) from error
    except Problem as problem:
        found["problem"] = problem.to_json()
    return found


def _describe_open(path: str, file: Any, found: dict[str, Any]) -> None:
    name = display_name(path)
    cells, genes = _length(file["obs"]), _length(file["var"])
    found.update(cells=cells, genes=genes)
    if not cells or not genes:
        raise NotViewable(name, detail=f"it holds {cells or 0} cells and {genes or 0} genes")
    if "X" not in file:
        raise NotViewable(name, detail="it has no matrix X")
    found["categories"] = [column for column, _, _ in _categoricals(file["obs"])]
    with contextlib.suppress(*h5ad.ERRORS):  # only labels need the columns
        found["columns"] = cell_names.columns(file["obs"])[:_COLUMNS_MAX]
    found["identifiers"] = cell_names.digest(file, seconds=_NAMES_SECONDS)
    found["embeddings"] = _embeddings(file.get("obsm"), cells)
    if not found["embeddings"]:
        raise NoEmbedding(name)
    if isinstance(file["obsm"], h5py.Group):
        found["preview"] = thumbnail.draw(file, found["embeddings"], list(_categoricals(file["obs"])), cells)


def _length(frame: Any) -> int | None:
    """Return the number of rows of a table (obs or var) of any AnnData version, or None if it is malformed."""
    if isinstance(frame, h5py.Dataset):
        return int(frame.shape[0]) if frame.shape else None
    index = frame.attrs.get("_index", "_index")
    column = frame.get(_text(index))
    if isinstance(column, h5py.Group):  # an index of numbers, or of strings with missing values
        column = column.get("values", column.get("codes"))
    return int(column.shape[0]) if isinstance(column, h5py.Dataset) and column.shape else None


def _categoricals(obs: Any) -> Iterator[tuple[str, Any, Any]]:
    """Iterate over the name, codes and labels of each categorical column, in the table's order."""
    if not isinstance(obs, h5py.Group):
        return
    older = obs.get("__categories")
    for name in _columns(obs):
        column = obs.get(name)
        if isinstance(column, h5py.Group) and {"codes", "categories"} <= set(column):
            yield name, column["codes"], column["categories"]
        elif isinstance(older, h5py.Group) and name in older and isinstance(column, h5py.Dataset):
            yield name, column, older[name]


def _columns(obs: Any) -> list[str]:
    order = obs.attrs.get("column-order")
    if order is None:
        return [name for name in obs if name != "__categories"]
    return [_text(name) for name in np.asarray(order).ravel()[:10_000]]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _embeddings(obsm: Any, cells: int) -> list[str]:
    """Return the embeddings that cellxgene would offer, without "X_": two columns or more, one row per cell.

    They hold no infinity, and not only NaN.
    """
    if isinstance(obsm, h5py.Dataset):  # before AnnData 0.7: one table with a field for each embedding
        names = [name for name in obsm.dtype.names or () if name.startswith("X_")]
    elif isinstance(obsm, h5py.Group):
        names = [name for name in obsm if name.startswith("X_") and _is_drawable(obsm.get(name), cells)]
    else:
        names = []
    return [name[2:] for name in names[:_EMBEDDINGS_MAX]]


def _is_drawable(array: Any, cells: int) -> bool:
    if not isinstance(array, h5py.Dataset) or array.ndim != 2 or array.dtype.kind not in "fiu":
        return False
    if array.shape[0] != cells or array.shape[1] < 2:
        return False
    if array.dtype.kind != "f":
        return True
    some = False
    for start, stop in _blocks(cells, array.shape[1] * array.dtype.itemsize):
        block = array[start:stop]
        if np.isinf(block).any():
            return False
        some = some or not np.isnan(block).all()
    return some


def _blocks(rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Iterate over ranges of rows that fit in memory: all of a table, or a sample spread over a very large one."""
    height = max(1, _BLOCK_BYTES // max(1, row_bytes))
    count = -(-rows // height)
    step = max(1, -(-count // _BLOCKS_MAX))
    for block in range(0, count, step):
        yield block * height, min(rows, (block + 1) * height)


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
