"""Each problem has one status code, for gateway and worker alike."""

from __future__ import annotations

from cxg_proxy import errors
from cxg_proxy.status_codes import status_of


def test_every_problem_has_a_status_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Problem)]
    said = {kind.__name__: status_of(kind("x")) for kind in kinds}
    # Only what nobody could foresee, and what is wrong with the gateway itself, is an internal error.
    internal = {name for name, status in said.items() if status == 500}
    assert internal == {"Problem", "BadConfiguration", "CannotListen"}
