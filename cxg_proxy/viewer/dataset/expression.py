"""The gene expression of a dataset in a worker: the store's matrix, or one that is still in preparation."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
from scipy import sparse

from cxg_proxy.errors import DamagedFile, Problem, StillPreparing, StoreNotWritten
from cxg_proxy.viewer.progress import Report
from cxg_proxy.viewer.source import h5ad
from cxg_proxy.viewer.source.elements import read_elem
from cxg_proxy.viewer.source.matrix import check_values, find
from cxg_proxy.viewer.store import build, matrix, store
from cxg_proxy.viewer.store.builder import Builder
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from cxg_proxy.viewer.store.value_range import ValueRange

PATIENCE_SECONDS = 240.0  # less than jupyter-server-proxy's 300 s, or the user never reads why it is not there yet

_POLL_SECONDS = 0.1
_AGAIN_SECONDS = 10.0
_log = logging.getLogger(__name__)

Cancelled = Callable[[], bool]
Tell = Callable[[float | None, str], None]


class Expression:
    """The expression matrix of one dataset.

    `done` is the share that is prepared, from 0 to 1, or None if nothing is being prepared; `note` is a sentence for
    the user who views the dataset, or "".
    """

    def __init__(self, which: str, there: store.Store | None = None, *, patience: float = PATIENCE_SECONDS):
        self.done: float | None = None
        self.note = ""
        self._which, self._store, self._patience = which, there, patience
        self._whole = LoadedMatrix(there.matrix, there.distribution) if there else None
        self._when_stored: list[Callable[[store.Store], None]] = []
        self._problem: Problem | None = None
        self._changed = threading.Condition()

    @staticmethod
    def of_store(there: store.Store) -> Expression:
        """Return the expression that a store holds."""
        return Expression(there.folder.name, there)

    @staticmethod
    def in_preparation(
        stores: Stores | None, origin: Origin, *, tell: Tell, patience: float = PATIENCE_SECONDS
    ) -> Preparation:
        """Start a process that prepares the expression; where no store is kept, this process reads it when needed.

        The matrix of another state of the file than that of `origin` is never returned. `tell(done, note)` is called
        from a thread at changes, at most four times a second, and at the end with None as `done`.
        """
        return Preparation(stores, origin, tell=tell, patience=patience)

    def matrix(self, cancelled: Cancelled) -> matrix.Matrix:
        """Wait for the matrix and return it.

        Raises build.Cancelled, StillPreparing after `patience` seconds, or the Problem that prevents it.
        """
        return self._wait(cancelled).matrix

    def distribution(self, cancelled: Cancelled) -> str:
        """Return cellxgene's guess of the distribution, "normal" or "count"; waits and raises as `matrix` does."""
        return self._wait(cancelled).distribution

    def when_stored(self, do: Callable[[store.Store], None]) -> None:
        """Call `do` with the store of the dataset: now, or from another thread as soon as there is one."""
        with self._changed:
            if self._store is None:
                self._when_stored.append(do)
                return
        do(self._store)

    def _wait(self, cancelled: Cancelled) -> LoadedMatrix:
        end = time.monotonic() + self._patience
        with self._changed:
            while self._whole is None:
                if self._problem is not None:
                    raise Problem.from_json(self._problem.to_json())  # a new one for each thread that waits
                if cancelled():
                    raise build.Cancelled
                if time.monotonic() > end:
                    raise StillPreparing(self._which)
                self._changed.wait(_POLL_SECONDS)
            return self._whole


class Preparation(Expression):
    """An expression matrix that a separate process prepares."""

    def __init__(self, stores: Stores | None, origin: Origin, *, tell: Tell, patience: float):
        super().__init__(origin.label, patience=patience)
        self._stores, self._origin, self._tell = stores, origin, tell
        self._wanted, self._closed = threading.Event(), False
        self._failed = 0.0  # when the preparation failed
        self._begin()

    def close(self) -> None:
        """End the preparation, and wait until its process and thread have ended."""
        self._closed = True
        self._wanted.set()
        if self._builder is not None:
            self._builder.end()
        self._work.join()

    def _begin(self) -> None:
        self._builder = self._new_builder()
        self.done = 0.0 if self._builder else None
        self._work = threading.Thread(target=self._prepare, daemon=True, name="preparation")
        self._work.start()

    def _new_builder(self) -> Builder | None:
        if self._stores is None or not self._stores.limit:
            return None
        try:
            return Builder(self._stores, self._origin)
        except OSError as error:  # no further process can be started
            _log.warning("No process could be started that prepares gene expression: %s", error)
            return None

    def _wait(self, cancelled: Cancelled) -> LoadedMatrix:
        self._wanted.set()
        self._try_again()
        return super()._wait(cancelled)

    def _try_again(self) -> None:
        """Start the preparation again if it failed more than 10 s ago, since its obstacle may be gone."""
        with self._changed:
            if self._problem is None or self._closed or time.monotonic() < self._failed + _AGAIN_SECONDS:
                return
            self._problem, self.note = None, ""
            if self._builder is not None:
                self._builder.end()
            self._begin()

    # --- in the preparation's thread ----------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._show(self.done)
        try:
            self._become(self._prepared())
        except Problem as problem:
            self._fail(problem)
        except Exception as error:  # noqa: BLE001 - the end of the thread: waiting requests must receive the error
            _log.exception("The gene expression could not be prepared")
            self._fail(Problem(self._which, detail=f"{type(error).__name__}: {error}"))

    def _prepared(self) -> LoadedMatrix:
        if self._builder is None or self._stores is None:
            return self._read()
        try:
            self._builder.follow(self._show)
            there = self._stores.find(self._origin)
        except StoreNotWritten as problem:
            _log.warning("%s", problem.sentence)
            self.note = f"{problem.sentence} It is read into memory instead, when it is first needed."
            self._show(None)
            return self._read()
        self._origin.check_unchanged()
        if there is None:  # it was evicted in this very instant
            raise StillPreparing(self._which)
        self._keep(there)
        return LoadedMatrix(there.matrix, there.distribution)

    def _keep(self, there: store.Store) -> None:
        with self._changed:
            self._store = there
        for do in self._when_stored:
            do(there)

    def _read(self) -> LoadedMatrix:
        """Read the matrix into memory once it is requested: many users view a dataset and never request a gene."""
        self._wanted.wait()
        if self._closed:
            raise StillPreparing(self._which)
        whole = in_memory(self._origin, self._show)
        self._origin.check_unchanged()
        return whole

    def _become(self, whole: LoadedMatrix) -> None:
        with self._changed:
            self._whole = whole
            self._changed.notify_all()
        self._show(None)

    def _fail(self, problem: Problem) -> None:
        if not self._closed:
            _log.error("%s", problem.sentence)
        with self._changed:
            self._problem, self._failed = problem, time.monotonic()
            self._changed.notify_all()
        self.note = self.note or problem.sentence
        self._show(None)

    def _show(self, done: float | None) -> None:
        self.done = done
        self._tell(done, self.note)


@dataclass(frozen=True)
class LoadedMatrix:
    """The expression of all genes, and the distribution that cellxgene guesses for it: "normal" or "count"."""

    matrix: matrix.Matrix
    distribution: str


def _check_parts(values: Any, origin: Origin) -> None:
    """Raise DamagedFile if an index of a sparse matrix lies outside of it, with which SciPy would crash later."""
    try:
        values.check_format(full_check=True)
    except ValueError as error:
        raise DamagedFile(origin.label, detail="the parts of its matrix do not fit each other") from error


def in_memory(origin: Origin, report: Report) -> LoadedMatrix:
    """Read the matrix of `origin` into memory, reporting the share (0 to 1); raises the Problem that prevents it."""
    try:
        with h5ad.Watched(origin.path, report) as opened, h5py.File(opened, "r") as file:
            found = find(file, origin.layer, origin.path)
            values = read_elem(found.place).astype(found.dtype, copy=False)
        if sparse.issparse(values):
            _check_parts(values, origin)
        spread = ValueRange()
        spread.add(values.data if sparse.issparse(values) else values)
        check_values(found.dtype, spread.least, spread.most, origin.path)
        return LoadedMatrix(matrix.of(values), spread.distribution)
    except h5ad.ERRORS as error:
        raise h5ad.open_problem(origin.path, error) from error
