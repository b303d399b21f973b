"""Fixtures for instances: they have fake workers behind them, and datasets."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.gateway.library.library import Library
from cxg_proxy.gateway.library.visits import Visits
from cxg_proxy.gateway.workers.command import WorkerCommand, WorkerEnvironment
from cxg_proxy.gateway.workers.instance import Instance, Limits
from cxg_proxy.gateway.workers.instances import Instances
from processes import environment, fake

Make = Callable[..., Instances]


@pytest.fixture(name="instances")
async def some_instances(tmp_path: Path, short: Path) -> AsyncIterator[Make]:
    """A function that makes the instances of a gateway with fake workers; all of them end with the test."""
    made: list[Instances] = []

    def make(behaviour: str | WorkerCommand = "quick", **limits: float) -> Instances:
        command = fake(behaviour) if isinstance(behaviour, str) else behaviour
        place = WorkerEnvironment(short, tmp_path / "logs", environment())
        kept = {"patience": 0.5, "in_use_seconds": 0, **limits}
        visits = Visits(tmp_path / "visits.json")
        visits.load()
        made.append(Instances(command, place, Limits(**kept), visits))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture(name="dataset")
def a_dataset(h5ad: Callable[..., Path], tmp_path: Path) -> Callable[[str], Dataset]:
    def find(name: str = "pbmc") -> Dataset:
        file = tmp_path / f"data/{name}.h5ad"
        if not file.exists():
            h5ad(f"data/{name}.h5ad")
        return Library({"data": file.parent}).find(f"data/{name}.h5ad")

    return find


def pid_of(instance: Instance) -> int:
    assert instance.pid is not None
    return instance.pid
