"""The progress of a long task: how often it is reported, and how it is cancelled."""

import pytest

from cxg_proxy.viewer import progress
from cxg_proxy.viewer.progress import Cancelled, Progress, Throttled


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def a_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_the_first_share_is_reported_at_once_and_others_four_times_a_second(clock: Clock) -> None:
    reported: list[float] = []
    throttled = Throttled(reported.append)
    for number in range(101):
        throttled(number / 100)
        clock.now += 0.0625
    assert reported == [number / 100 for number in range(0, 101, 4)]


def test_a_share_that_hardly_rises_is_not_reported(clock: Clock) -> None:
    reported: list[float] = []
    throttled = Throttled(reported.append)
    for number in range(11):
        throttled(number / 1000)
        clock.now += 1
    assert reported == [0.0, 0.005, 0.01]


def test_progress_counts_what_is_read_and_written_and_ends_with_all_of_it(clock: Clock) -> None:
    reported: list[float] = []
    work = Progress(reported.append, lambda: False)
    work.begin(200)
    for _ in range(4):
        clock.now += 1
        work.advance(50)
    work.finished()
    assert reported == [0.0, 0.25, 0.5, 0.75, 0.999, 1.0]


def test_a_cancelled_task_ends_at_its_next_step(clock: Clock) -> None:
    wanted = [False, False, True]
    work = Progress(lambda _: None, lambda: wanted.pop(0))
    work.begin(3)
    work.advance(1)
    work.advance(1)
    with pytest.raises(Cancelled):
        work.advance(1)
    assert clock.now == 1000.0
