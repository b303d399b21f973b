"""All instances of a gateway: joined, limited, closed, replaced."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from cxg_proxy.errors import Stopped, TooManyInstances
from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.gateway.library.library import Library
from cxg_proxy.gateway.workers.instance import Instance
from cxg_proxy.steps import Phase
from instance_fixtures import Make, a_dataset, pid_of, some_instances  # noqa: F401 - fixtures
from processes import gone
from waiting import until


async def test_opening_twice_joins_the_same_instance(instances: Make, dataset: Callable[..., Dataset]) -> None:
    all_ = instances()
    first, second = await asyncio.gather(all_.open(dataset()), all_.open(dataset()))
    assert first is second
    await first.ready()
    assert await all_.open(dataset()) is first


async def test_nothing_restarts_by_itself_only_when_asked_again(
    instances: Make, dataset: Callable[..., Dataset]
) -> None:
    all_ = instances("crashing")
    failed = await all_.open(dataset())
    await until(lambda: failed.over)
    assert await all_.open(dataset()) is failed
    again = await all_.open(dataset(), again=True)
    assert again is not failed
    await until(lambda: again.over)


async def test_the_longest_unused_idle_instance_makes_room(instances: Make, dataset: Callable[..., Dataset]) -> None:
    all_ = instances(most=2)
    first, second = [await all_.open(dataset(name)) for name in ("a", "b")]
    await first.ready()
    await second.ready()
    first.touch()
    third = await all_.open(dataset("c"))
    await third.ready()
    assert (first.phase, second.phase) == (Phase.READY, Phase.CLOSED)


async def test_eight_tabs_at_once_still_get_no_more_than_the_limit(
    instances: Make, dataset: Callable[..., Dataset]
) -> None:
    all_ = instances(most=1)
    first = await all_.open(dataset("a"))
    await first.ready()
    opened = await asyncio.gather(*(all_.open(dataset(name)) for name in "bcdefghi"), return_exceptions=True)
    started = [each for each in opened if isinstance(each, Instance)]
    assert [type(each) for each in opened if not isinstance(each, Instance)] == [TooManyInstances] * 7
    await started[0].ready()
    assert len(all_.running()) == 1


async def test_a_closed_instance_is_forgotten_and_a_failed_one_is_not(
    instances: Make, dataset: Callable[..., Dataset]
) -> None:
    all_ = instances()
    closed = await all_.open(dataset("a"))
    await closed.ready()
    await closed.close()
    assert list(all_) == []
    assert all_.at(closed.dataset.address) is None
    bad = instances("crashing")
    failed = await bad.open(dataset("a"))
    await until(lambda: failed.over)
    assert list(bad) == [failed]


async def test_a_symlink_that_leads_elsewhere_by_now_leads_to_the_new_file(
    instances: Make, h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    h5ad("data/v1.h5ad", b"1")
    h5ad("data/v2.h5ad", b"2")
    link = tmp_path / "data" / "atlas.h5ad"
    link.symlink_to("v1.h5ad")
    library, all_ = Library({"data": tmp_path / "data"}), instances()
    before = await all_.open(library.find("data/atlas.h5ad"))
    await before.ready()
    link.unlink()
    link.symlink_to("v2.h5ad")
    after = await all_.open(library.find("data/atlas.h5ad"))
    assert all_.at("data/atlas.h5ad") is after
    await after.ready()
    await until(lambda: before.over)


async def test_a_second_name_of_a_file_does_not_close_it_under_its_first(
    instances: Make, h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    h5ad("data/v1.h5ad", b"1")
    (tmp_path / "data" / "sub").mkdir()
    (tmp_path / "data" / "sub" / "atlas.h5ad").symlink_to("../v1.h5ad")
    library, all_ = Library({"data": tmp_path / "data"}), instances()
    first = await all_.open(library.find("data/v1.h5ad"))
    assert await all_.open(library.find("data/sub/atlas.h5ad")) is first
    await first.ready()
    assert all_.ready_in("data") is first
    assert all_.ready_in("data/sub") is first


async def test_datasets_of_the_same_name_have_a_log_each(
    instances: Make, h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    for folder in "ab":
        h5ad(f"data/{folder}/x.h5ad")
    library, all_ = Library({"data": tmp_path / "data"}), instances("crashing")
    for folder in "ab":
        opened = await all_.open(library.find(f"data/{folder}/x.h5ad"))
        await until(lambda instance=opened: instance.over)  # type: ignore[misc]
    assert len(list((tmp_path / "logs").glob("x-*.log"))) == 2


async def test_instances_in_use_are_never_closed_to_make_room(instances: Make, dataset: Callable[..., Dataset]) -> None:
    all_ = instances(most=1, in_use_seconds=60)
    first = await all_.open(dataset("a"))
    await first.ready()
    with pytest.raises(TooManyInstances):
        await all_.open(dataset("b"))
    first.used -= 61
    first.exchanges = 1  # a long request is use, however long ago it began
    with pytest.raises(TooManyInstances):
        await all_.open(dataset("b"))
    first.exchanges = 0
    await (await all_.open(dataset("b"))).ready()
    assert first.phase is Phase.CLOSED


async def test_what_nobody_uses_is_closed_and_what_somebody_uses_is_not(
    instances: Make, dataset: Callable[..., Dataset]
) -> None:
    all_ = instances(idle_seconds=100)
    idle, used, busy = [await all_.open(dataset(name)) for name in ("idle", "used", "busy")]
    for each in (idle, used, busy):
        await each.ready()
    idle.used -= 101
    busy.used -= 101
    busy.exchanges = 1
    await all_.close_idle()
    assert [each.phase for each in (idle, used, busy)] == [Phase.CLOSED, Phase.READY, Phase.READY]
    await all_.open(dataset("idle"))


async def test_an_instance_that_prepares_gene_expression_is_neither_idle_nor_gives_way(
    instances: Make, dataset: Callable[..., Dataset]
) -> None:
    all_ = instances("preparing", most=1, idle_seconds=100)
    first = await all_.open(dataset("a"))
    await first.ready()
    first.used -= 101
    await all_.close_idle()
    with pytest.raises(TooManyInstances):
        await all_.open(dataset("b"))
    assert first.phase is Phase.READY
    go = Path(f"{first.socket}.go")
    await asyncio.to_thread(go.write_text, '[null, ""]\n')
    await until(lambda: first.done is None)
    await all_.close_idle()
    assert first.phase is Phase.CLOSED
    await asyncio.to_thread(go.unlink)


async def test_idle_seconds_of_zero_means_never(instances: Make, dataset: Callable[..., Dataset]) -> None:
    all_ = instances(idle_seconds=0)
    instance = await all_.open(dataset())
    await instance.ready()
    instance.used -= 10**6
    await all_.close_idle()
    assert instance.phase is Phase.READY


async def test_a_file_replaced_while_open_gets_a_new_instance_at_the_next_visit(
    instances: Make, dataset: Callable[..., Dataset], h5ad: Callable[..., Path]
) -> None:
    all_ = instances()
    before = await all_.open(dataset())
    await before.ready()
    file = before.dataset.file
    other = h5ad("other", b"another content")
    other.replace(file)
    after = await all_.open(Library({"data": file.parent}).find("data/pbmc.h5ad"))
    assert after is not before
    assert before.phase is Phase.CLOSED


async def test_the_expected_time_is_that_of_the_last_opening(
    instances: Make, dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    first = await instances().open(dataset())
    assert first.expected is None
    await first.ready()
    await until((tmp_path / "visits.json").exists)
    second = await instances().open(dataset())  # another gateway of the same user
    assert second.expected is not None
    await second.ready()


async def test_everything_ends_together(instances: Make, dataset: Callable[..., Dataset]) -> None:
    all_ = instances("deaf")
    opened = [await all_.open(dataset(name)) for name in ("a", "b", "c")]
    for each in opened:
        await each.ready()
    pids = [pid_of(each) for each in opened]
    await all_.close()
    assert all(gone(pid) for pid in pids)
    with pytest.raises(Stopped):
        await all_.open(dataset("d"))
