"""Where the machine code of compiled functions is kept: with the package, else in the user's own cache, else nowhere.

numba looks into one folder, and only if it may write there. So what an administrator has compiled with the package
would be lost on its users: each would wait for the compiler once, and where nothing can be written, every time.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import Any

import numba
from numba.core import caching

_InTree: Any = getattr(caching, "InTreeCacheLocator", None) or caching._InTreeCacheLocator  # noqa: SLF001 - before 0.62
_DAMAGED = (OSError, EOFError, pickle.UnpicklingError)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile the function at its first call, once for each kind of arguments, or take the code that is kept.

    It runs without Python's global lock, and dividing by 0 gives what it gives in NumPy. Nothing is compiled, loaded
    or run by this decorator.
    """
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _Places(function)  # noqa: SLF001 - where numba's own `cache=True` puts its one place
    return dispatcher


class _Beside(_InTree):  # type: ignore[misc]  # numba has no types
    """The folder of byte code beside the source, even if it can only be read."""

    def ensure_cache_path(self) -> None:
        """Nothing is written here."""


class _ReadImplementation(caching.CompileResultCacheImpl):  # type: ignore[misc]  # numba has no types
    _locator_classes = (_Beside,)


class _Installed(caching.FunctionCache):  # type: ignore[misc]  # numba has no types
    _impl_class = _ReadImplementation


class _Places(caching.NullCache):  # type: ignore[misc]  # numba has no types
    """Looks with the package first; writes where numba itself would, and does without if that fails."""

    def __init__(self, function: Callable[..., Any]):
        self._own: Any = None
        with contextlib.suppress(RuntimeError):  # no folder can be written to
            self._own = caching.FunctionCache(function)
        self._places = [_Installed(function), *filter(None, [self._own])]

    @property
    def cache_path(self) -> Any:
        """The folder new code is written to, None if there is none."""
        return self._own and self._own.cache_path

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code for these kinds of arguments, None if it is kept nowhere."""
        for place in self._places:
            with contextlib.suppress(*_DAMAGED):
                found = place.load_overload(sig, target_context)
                if found is not None:
                    return found
        return None

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Keep new code for the next process."""
        if self._own is not None:
            with contextlib.suppress(*_DAMAGED):
                self._own.save_overload(sig, cres)
