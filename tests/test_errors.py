import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxg_proxy import errors
from cxg_proxy.errors import Died, NoEmbedding, Problem, ViewerMissing
from cxg_proxy.steps import Phase, Step

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Problem)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_problem_says_what_which_and_what_next(kind: type[Problem]) -> None:
    problem = kind("pbmc.h5ad", detail="said the disk.")
    assert problem.sentence.startswith("pbmc.h5ad: ")
    assert problem.sentence.endswith("(said the disk).")
    assert problem.steps
    assert problem.title
    assert kind().sentence[0].isupper()


@given(st.text(), st.text(), st.lists(st.text()), st.lists(st.text()))
def test_a_problem_survives_its_way_from_worker_to_gateway(
    which: str, detail: str, steps: list[str], log: list[str]
) -> None:
    step = Step(Phase.FAILED, problem=NoEmbedding(which, detail=detail, steps=steps, log=log))
    back = Step.parse(step.line()).problem
    assert type(back) is NoEmbedding
    assert back.to_json() == step.problem.to_json()  # type: ignore[union-attr]


def test_a_problem_of_another_version_is_still_a_problem() -> None:
    back = Problem.from_json({"kind": "InventedLater", "which": "x"})
    assert (type(back), back.which) == (Problem, "x")


def test_the_commands_to_copy_hold_the_real_names() -> None:
    assert "'/opt/my env/bin/python' -m pip install" in ViewerMissing("/opt/my env/bin/python").steps[0]
    problem = NoEmbedding("a b.h5ad")
    problem.name_in_steps("FILE", "/data/a b.h5ad")
    assert "cellxgene prepare '/data/a b.h5ad' --output" in problem.steps[0]
    assert "FILE" in NoEmbedding("c.h5ad").steps[0]  # the class keeps its own


@given(st.binary())
def test_what_is_no_step_is_refused(line: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        Step.parse(b"x" + line)


@pytest.mark.parametrize(
    "line", [b"1", b"null", b"[]", b'{"phase": "lunch"}', b'{"phase": "ready", "done": "x"}', b"{}"]
)
def test_a_line_of_another_shape_is_refused(line: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        Step.parse(line)


def test_the_share_that_is_done_stays_between_0_and_1() -> None:
    assert Step.parse(json.dumps({"phase": "loading", "done": 7}).encode()).done == 1
    assert Step.parse(json.dumps({"phase": "loading", "done": -1}).encode()).done == 0


def test_a_death_says_how() -> None:
    assert Died("pbmc", detail="it was killed from outside, SIGKILL").sentence == (
        "pbmc: the viewer stopped by itself (it was killed from outside, SIGKILL)."
    )
