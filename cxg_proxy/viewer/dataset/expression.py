"""What a worker holds of a dataset's gene expression: the store's matrix, or one that is still in preparation."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import h5py
from scipy import sparse

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import ChangedMeanwhile, Problem, StillPreparing, StoreNotWritten
from cxg_proxy.viewer.source import h5ad
from cxg_proxy.viewer.source.elements import read_elem
from cxg_proxy.viewer.source.matrix import check_values, find
from cxg_proxy.viewer.store import build, matrix, store
from cxg_proxy.viewer.store.builder import Builder
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.value_range import ValueRange

PATIENCE_SECONDS = 240.0  # less than the 300 s of jupyter-server-proxy, or nobody ever reads why it is not there yet

_POLL_SECONDS = 0.1
_TELL_SECONDS = 0.5
_AGAIN_SECONDS = 10.0
_log = logging.getLogger(__name__)

Cancelled = Callable[[], bool]
Tell = Callable[[float | None, str], None]


class Expression:
    """The expression matrix of one dataset.

    `done` is the share that is prepared, None where nothing is being prepared; `note` is a sentence for whoever looks
    at the dataset, or "".
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
        """What is in a store."""
        return Expression(there.folder.name, there)

    @staticmethod
    def in_preparation(
        stores: Stores | None,
        source: str,
        layer: str | None,
        *,
        of: str,
        tell: Tell,
        patience: float = PATIENCE_SECONDS,
    ) -> Preparation:
        """What another process prepares from now on; where no store is kept, this one reads it when it is wanted.

        `of` is the fingerprint of the file's state that everything else is shown of: the matrix of another one is
        never given. `tell(done, note)` is called from a thread at changes, at most twice a second, and in the end with
        None.
        """
        return Preparation(stores, source, layer, of=of, tell=tell, patience=patience)

    def matrix(self, cancelled: Cancelled) -> matrix.Matrix:
        """The matrix, once it is there; raises build.Cancelled, or the Problem that prevents it."""
        return self._wait(cancelled).matrix

    def distribution(self, cancelled: Cancelled) -> str:
        """What cellxgene takes the values for, "normal" or "count"; waits as `matrix` does."""
        return self._wait(cancelled).distribution

    def when_stored(self, do: Callable[[store.Store], None]) -> None:
        """Call with the store of the dataset: now, or in another thread as soon as there is one."""
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
                    raise Problem.from_json(self._problem.to_json())  # one for each who waits
                if cancelled():
                    raise build.Cancelled
                if time.monotonic() > end:
                    raise StillPreparing(self._which)
                self._changed.wait(_POLL_SECONDS)
            return self._whole


class Preparation(Expression):
    """An expression matrix that a process of its own prepares."""

    def __init__(self, stores: Stores | None, source: str, layer: str | None, *, of: str, tell: Tell, patience: float):
        super().__init__(display_name(source), patience=patience)
        self._stores, self._source, self._layer, self._of, self._tell = stores, source, layer, of, tell
        self._wanted, self._closed = threading.Event(), False
        self._told = (0.0, 0.0)  # when, and which share
        self._failed = 0.0  # when
        self._begin()

    def close(self) -> None:
        """End the preparation, and wait until nothing of it is left."""
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
            return Builder(self._stores, self._source, self._layer)
        except OSError as error:  # no process more can be started
            _log.warning("No process could be started that prepares gene expression: %s", error)
            return None

    def _wait(self, cancelled: Cancelled) -> LoadedMatrix:
        self._wanted.set()
        self._try_again()
        return super()._wait(cancelled)

    def _try_again(self) -> None:
        """What kept it from being prepared may be over: whoever asks some time later has it tried anew."""
        with self._changed:
            if self._problem is None or self._closed or time.monotonic() < self._failed + _AGAIN_SECONDS:
                return
            self._problem, self.note = None, ""
            if self._builder is not None:
                self._builder.end()
            self._begin()

    # --- in a thread --------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._show(self.done)
        try:
            self._become(self._prepared())
        except Problem as problem:
            self._fail(problem)
        except Exception as error:  # noqa: BLE001 - the edge of the thread: those who wait must hear of it
            _log.exception("The gene expression could not be prepared")
            self._fail(Problem(self._which, detail=f"{type(error).__name__}: {error}"))

    def _prepared(self) -> LoadedMatrix:
        if self._builder is None or self._stores is None:
            return self._read()
        try:
            self._builder.follow(self._hear)
            there = self._stores.find(self._source, self._layer)
        except StoreNotWritten as problem:
            _log.warning("%s", problem.sentence)
            self.note = f"{problem.sentence} It is read into memory instead, when it is first needed."
            self._show(None)
            return self._read()
        except OSError as error:
            raise ChangedMeanwhile(self._which, detail=error.strerror or str(error)) from error
        self._check_state()
        if there is None or there.folder.name != self._of:  # others needed its room in this very instant
            raise StillPreparing(self._which)
        self._keep(there)
        return LoadedMatrix(there.matrix, there.distribution)

    def _keep(self, there: store.Store) -> None:
        with self._changed:
            self._store = there
        for do in self._when_stored:
            do(there)

    def _read(self) -> LoadedMatrix:
        """Have it in memory, but not before it is wanted: many look at a dataset and never ask for a gene."""
        self._wanted.wait()
        if self._closed:
            raise StillPreparing(self._which)
        whole = in_memory(self._source, self._layer, self._hear)
        self._check_state()
        return whole

    def _check_state(self) -> None:
        """Raise ChangedMeanwhile unless the file is still the one that cells and genes were read from."""
        try:
            now = store.fingerprint(self._source, self._layer)
        except OSError as error:
            raise ChangedMeanwhile(self._which, detail=error.strerror or str(error)) from error
        if now != self._of:
            raise ChangedMeanwhile(self._which)

    def _hear(self, done: float) -> None:
        when, before = self._told
        if time.monotonic() > when + _TELL_SECONDS and round(done, 2) != round(before, 2):
            self._show(done)

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
        self._told = (time.monotonic(), done or 0.0)
        self._tell(done, self.note)


@dataclass(frozen=True)
class LoadedMatrix:
    """The expression of all genes, and what cellxgene takes it for: "normal" or "count"."""

    matrix: matrix.Matrix
    distribution: str


def in_memory(source: str, layer: str | None, report: Callable[[float], None]) -> LoadedMatrix:
    """Read the matrix of a file into this process's memory, telling the share; raises the Problem that prevents it."""
    try:
        with h5ad.Watched(source, report) as opened, h5py.File(opened, "r") as file:
            found = find(file, layer, source)
            values = read_elem(found.place).astype(found.dtype, copy=False)
        spread = ValueRange()
        spread.add(values.data if sparse.issparse(values) else values)
        check_values(found.dtype, spread.least, spread.most, source)
        return LoadedMatrix(matrix.of(values), spread.distribution)
    except h5ad.ERRORS as error:
        raise h5ad.open_problem(source, error) from error
