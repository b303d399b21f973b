"""numba's cache of machine code: read from the package first, then from the user's cache, which is also written to.

numba itself uses one folder, and only if it may write there. The users of a package that an administrator has installed
and compiled would then not profit: each would wait for the compiler once, and where no folder can be written to, every
time.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import Any

import numba
from numba.core import caching

_InTree: Any = getattr(caching, "InTreeCacheLocator", None) or caching._InTreeCacheLocator  # noqa: SLF001 - numba < 0.62
_DAMAGED = (OSError, EOFError, pickle.UnpicklingError)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile the function at its first call with each combination of argument types, or load its cached code.

    The function runs without Python's global interpreter lock, and division by 0 gives the same result as in NumPy.
    The decorator itself compiles, loads and runs nothing.
    """
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _Places(function)  # noqa: SLF001 - the attribute that numba's `cache=True` sets
    return dispatcher


class _Beside(_InTree):  # type: ignore[misc]  # numba has no types
    """The `__pycache__` folder beside the source, even if it is read-only."""

    def ensure_cache_path(self) -> None:
        """Do nothing, since this folder is never written to."""


class _ReadImplementation(caching.CompileResultCacheImpl):  # type: ignore[misc]  # numba has no types
    _locator_classes = (_Beside,)


class _Installed(caching.FunctionCache):  # type: ignore[misc]  # numba has no types
    _impl_class = _ReadImplementation


class _Places(caching.NullCache):  # type: ignore[misc]  # numba has no types
    """A cache that reads from the package first, and writes where numba itself would; failures are ignored."""

    def __init__(self, function: Callable[..., Any]):
        self._own: Any = None
        with contextlib.suppress(RuntimeError):  # numba finds no folder that it can write to
            self._own = caching.FunctionCache(function)
        self._places = [_Installed(function), *filter(None, [self._own])]

    @property
    def cache_path(self) -> Any:
        """The folder that new code is written to, or None."""
        return self._own and self._own.cache_path

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the cached code for these argument types, or None."""
        for place in self._places:
            with contextlib.suppress(*_DAMAGED):
                found = place.load_overload(sig, target_context)
                if found is not None:
                    return found
        return None

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Save new code for later processes."""
        if self._own is not None:
            with contextlib.suppress(*_DAMAGED):
                self._own.save_overload(sig, cres)
