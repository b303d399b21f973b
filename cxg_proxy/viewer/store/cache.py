"""The cache of stores: the user's own, where stores are built, beside a shared one whose stores are prepared.

::

    <cache>/stores/<fingerprint>/             a whole store (see `store`), and `source.json`, which names its file
    <cache>/stores/<fingerprint>.<token>.part/   a store that is being built (see `claim`) or removed (see `eviction`)
    <cache>/stores/<fingerprint>.lock         the lock of its builder
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cxg_proxy.errors import NoRoom, StoreNotWritten
from cxg_proxy.files import atomic
from cxg_proxy.files.space import FULL
from cxg_proxy.viewer.progress import Report
from cxg_proxy.viewer.source import h5ad

from . import build, eviction, permissions, store
from .claim import Claim, Site
from .origin import Origin

_FOLDER, _SOURCE = "stores", "source.json"
_log = logging.getLogger(__name__)

Cancelled = Callable[[], bool]


class _TakenOver(Exception):
    """Another builder took this one for dead and took over."""


class _Refused(Exception):
    """A store cannot be used: for good, or only `for_now` because it cannot be read."""

    def __init__(self, reason: str, *, for_now: bool):
        super().__init__(reason)
        self.for_now = for_now


class Stores:
    """The stores in a cache: finds, builds and evicts them. A returned store is marked as in use until `close`.

    The stores in `cache` take at most `limit` bytes together; 0 keeps no store. Building one takes at most `memory`
    bytes. With `for_others`, the users who may read a dataset may also read its store; `finish` adds to a new store
    before they can.
    """

    def __init__(
        self,
        cache: Path,
        shared: Path | None,
        *,
        limit: int,
        memory: int,
        for_others: bool = False,
        finish: Callable[[store.Store], None] | None = None,
    ):
        self.cache, self.shared, self.limit, self.memory = cache, shared, limit, memory
        self._folder = cache / _FOLDER
        self._for_others, self._finish = for_others, finish
        self._used: list[int] = []  # descriptors

    def close(self) -> None:
        """Let the returned stores be evicted; a process that has mapped one can still read it."""
        while self._used:
            os.close(self._used.pop())

    def find(self, origin: Origin) -> store.Store | None:
        """Return the store of `origin`, or None if none can be trusted."""
        if self.shared is not None and (existing := self._find_prepared(self.shared, origin)):
            return existing
        return self._find_own(origin)

    def make(self, origin: Origin, report: Report, cancelled: Cancelled) -> store.Store:
        """Build the store of `origin` unless it exists, or wait while another process builds it, and return it.

        `report` receives the share that is done, from 0 to 1, whichever process builds. Raises build.Cancelled,
        StoreNotWritten (NoRoom is one), or the Problem of the file.
        """
        if self._for_others:  # or changing the target of a link would change who may read data that was read before
            origin = origin.resolved()
            self._check_place(origin)
        existing = self.find(origin)
        if existing is None and not self.limit:
            raise NoRoom(origin.label, detail="nothing is kept here: --cache-limit is 0")
        try:
            if existing is not None:
                return self._shared_again(existing, origin)
            with self._opened() as folder:
                while existing is None:
                    claim = Claim(self._folder, folder, origin.fingerprint, open_to_all=self._for_others)
                    claim.wait(report, cancelled)
                    with claim.held():
                        existing = self.find(origin)
                        with contextlib.suppress(_TakenOver):
                            existing = existing or self._build(claim, origin, report, cancelled)
            return self._shared_again(existing, origin)
        except OSError as error:
            raise self._problem(origin, error) from error

    # --- finding a store ----------------------------------------------------------------------------------------------

    def _find_prepared(self, shared: Path, origin: Origin) -> store.Store | None:
        root = Path(os.path.realpath(shared))
        try:
            return self._open(
                root / _FOLDER / origin.fingerprint,
                origin,
                lambda folder: permissions.why_untrusted(folder, origin.path, root),
                locked_too=True,
            )
        except _Refused as reason:
            _log.warning("The prepared store of %s is not used: %s", origin.label, reason)
            return None

    def _find_own(self, origin: Origin) -> store.Store | None:
        folder = Path(os.path.realpath(self._folder)) / origin.fingerprint

        def doubt(folder: Path) -> str:
            root = folder.parent.parent
            return (
                permissions.why_untrusted(folder, origin.path, root)
                if self._for_others
                else permissions.why_untrusted_own(folder)
            )

        try:
            opened = self._open(folder, origin, doubt, locked_too=self._for_others)
        except _Refused as reason:
            _log.warning("The store of %s cannot be used: %s", origin.label, reason)
            if not reason.for_now:
                eviction.remove(folder)
            return None
        eviction.mark_used(folder)
        return opened

    def _open(
        self, folder: Path, origin: Origin, doubt: Callable[[Path], str], *, locked_too: bool
    ) -> store.Store | None:
        """Open the store in a folder, and mark it as in use; None if there is none. Raises _Refused if it is unusable.

        `doubt` returns why the folder is not trusted, or "".
        """
        try:
            used = eviction.hold(folder, locked_too=locked_too)
        except OSError:
            return None
        opened, for_now = None, False
        try:
            reason = doubt(folder)
            opened = None if reason else store.Store.open(folder, origin.fingerprint)
        except (OSError, store.Unusable) as error:
            reason, for_now = str(error), isinstance(error, OSError | store.Unreadable)
        if opened is None:
            os.close(used)
            raise _Refused(reason, for_now=for_now)
        self._used.append(used)
        return opened

    def _shared_again(self, existing: store.Store, origin: Origin) -> store.Store:
        """Set again who may read the store, so that users who may no longer read the dataset lose access."""
        if self._for_others:
            with contextlib.suppress(PermissionError):  # it belongs to another user, who sets its permissions
                permissions.share(existing.folder, origin)
        return existing

    def _check_place(self, origin: Origin) -> None:
        """Raise StoreNotWritten if no store in the cache would be trusted, before one is built in vain or removed."""
        folder = Path(os.path.realpath(self._folder))
        if reason := permissions.why_untrusted_above(folder / "any", origin.path, folder.parent):
            steps = ("Let nobody but root or you change that folder, or prepare into another one.", "Then try again.")
            raise StoreNotWritten(origin.label, detail=reason, steps=steps)

    # --- building a store ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        atomic.make(self._folder, for_others=self._for_others)
        with atomic.opened(self._folder) as folder:
            yield folder

    def _build(self, claim: Claim, origin: Origin, report: Report, cancelled: Cancelled) -> store.Store:
        needed = eviction.estimate(origin)
        with claim.site(needed) as site:
            site.write_progress(0.0)  # first: two builders that make room at once must each count the other's store
            self._make_room(origin, needed, claim.promised())

            def on_progress(done: float) -> None:
                site.write_progress(done)
                report(done)

            on_progress(0.0)
            self._fill(site, origin, on_progress, cancelled)
            if self._finish is not None:
                self._finish(store.Store.open(site.store, origin.fingerprint))
            if site.is_lost():
                raise _TakenOver
            origin.check_unchanged()
            (site.store / _SOURCE).write_text(_described(origin), encoding="ascii")
            if self._for_others:
                permissions.share(site.store, origin)
            built = self._put_in_place(site.store, origin)
        self._clear_older(origin)
        return built

    def _fill(self, site: Site, origin: Origin, report: Report, cancelled: Cancelled) -> None:
        try:
            build.build(
                origin,
                site.store,
                memory=self.memory,
                report=report,
                cancelled=lambda: cancelled() or site.lost(),
            )
        except (build.Cancelled, OSError) as error:
            if not cancelled() and site.is_lost():
                raise _TakenOver from error
            raise

    def _put_in_place(self, built: Path, origin: Origin) -> store.Store:
        atomic.sync(built / _SOURCE)
        atomic.sync(built)
        target = Path(os.path.realpath(self._folder)) / origin.fingerprint
        eviction.remove(target)  # a store there could not be used
        used = eviction.hold(built, locked_too=self._for_others)  # in use from its first instant on
        try:
            built.rename(target)
            atomic.sync(self._folder)
            doubt = (lambda _: "") if self._for_others else permissions.why_untrusted_own
            opened = self._open(target, origin, doubt, locked_too=self._for_others)
        except _Refused as reason:
            raise StoreNotWritten(origin.label, detail=str(reason)) from reason
        finally:
            os.close(used)
        if opened is None:
            raise FileNotFoundError(errno.ENOENT, "the new store has vanished", str(target))
        return opened

    def _clear_older(self, origin: Origin) -> None:
        """Remove the stores of earlier states of this file, except those in use."""
        for each in eviction.stores(self._folder):
            if each.folder.name != origin.fingerprint and _describes(each.folder, origin):
                eviction.evict(each.folder)

    # --- making room --------------------------------------------------------------------------------------------------

    def _make_room(self, origin: Origin, needed: int, promised: tuple[int, int]) -> None:
        """Evict the least recently used stores until `needed` bytes fit; evict none and raise NoRoom if they cannot.

        `promised` is what `Claim.promised` returns.
        """
        stores = eviction.stores(self._folder)
        others, unwritten = promised
        over_limit = sum(each.bytes for each in stores) + others + needed - self.limit
        over_disk = unwritten + needed - eviction.free(self._folder)
        wanted = max(over_limit, over_disk)
        if wanted <= 0:
            return
        if self._for_others:  # a store that an administrator prepared gives way only to one of the same file and layer
            stores = [each for each in stores if _describes(each.folder, origin)]
        spare = [each for each in stores if not eviction.in_use(each.folder)]
        if sum(each.bytes for each in spare) < wanted:
            raise NoRoom(origin.label, detail=self._short(needed, over_limit > over_disk))
        for each in spare:
            if wanted > 0 and eviction.evict(each.folder):
                _log.info("A store that was not used since %s gives way", time.ctime(each.used))
                wanted -= each.bytes

    def _short(self, needed: int, by_limit: bool) -> str:
        reason = f"--cache-limit is {_megabytes(self.limit)}, and what is in use stays"
        if not by_limit:
            reason = f"{_megabytes(eviction.free(self._folder))} are free on the disk of {self.cache}"
        return f"it needs about {_megabytes(needed)}; {reason}"

    def _problem(self, origin: Origin, error: OSError) -> Exception:
        if error.filename is not None and os.fspath(error.filename) == origin.path:
            return h5ad.open_problem(origin.path, error)
        if h5ad.number(error) in FULL:
            return NoRoom(origin.label, detail=f"the disk of {self.cache} is full")
        return StoreNotWritten(origin.label, detail=f"{self.cache}: {error.strerror or error}")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def _described(origin: Origin) -> str:
    return json.dumps({"path": os.path.realpath(origin.path), "layer": origin.layer})


def _describes(folder: Path, origin: Origin) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return (folder / _SOURCE).read_text(encoding="ascii") == _described(origin)
    return False
