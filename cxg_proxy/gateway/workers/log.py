"""The log of a worker: a file that is rotated, and the last lines for the page."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue

LOG_BYTES = 1_000_000
LOG_LINES_WAITING = 10_000
LOG_PATIENCE = 50  # hundredths of a second that the writing of the last lines may take


@contextlib.asynccontextmanager
async def logging_to(file: Path, tail: deque[str]) -> AsyncIterator[Callable[[bytes], None]]:
    """Yield a function that stores a line of a worker's standard error in `tail` and in a rotating file."""
    lines: SimpleQueue[str | None] = SimpleQueue()
    # A daemon thread, because the log lies in the user's home, which may hang.
    writing = threading.Thread(target=_write, args=(file, lines), daemon=True, name="log")
    writing.start()

    def log_line(line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        tail.append(text)
        if lines.qsize() < LOG_LINES_WAITING:
            lines.put(text)

    try:
        yield log_line
    finally:
        lines.put(None)
        for _ in range(LOG_PATIENCE):
            if writing.is_alive():
                await asyncio.sleep(0.01)


def _write(file: Path, lines: SimpleQueue[str | None]) -> None:
    handler = _log_file(file)
    while (text := lines.get()) is not None:
        if handler is not None:
            handler.emit(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))
    if handler is not None:
        handler.close()


def _log_file(file: Path) -> RotatingFileHandler | None:
    """Return the handler of the file, None if it cannot be written: a full disk must not prevent a viewer."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=1, errors="replace")
    except (OSError, ValueError):
        return None
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # noqa: ARG005 - as above, while it runs
    return handler
