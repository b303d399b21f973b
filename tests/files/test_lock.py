"""One writer at a time in a folder, and none that waits for ever."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cxg_proxy import annotations
from cxg_proxy.annotations import LABELS
from cxg_proxy.errors import LabelsNotSaved
from cxg_proxy.files import atomic, lock
from processes import environment
from waiting import until_now

HOLDER = (
    "import sys, time; from pathlib import Path; from cxg_proxy.files import atomic, lock\n"
    "with atomic.opened(Path(sys.argv[1])) as folder, lock.locked(folder):\n"
    "    print('held', flush=True); time.sleep(60)\n"
)


def holder(where: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen([sys.executable, "-c", HOLDER, where], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "held\n"
    return child


def end(child: "subprocess.Popen[str]") -> None:
    child.kill()
    child.communicate()


def planted(where: Path, **said: object) -> None:
    """The lock of a writer elsewhere."""
    said = {"host": "laptop", "boot": "1", "namespace": "", "pid": 1, "started": "", "token": "x", **said}
    (where / lock.NAME).write_text(json.dumps(said))


def test_a_save_waits_for_the_other_writer_and_says_who_it_is_when_it_waited_in_vain(tmp_path: Path) -> None:
    other = holder(tmp_path)
    try:
        with pytest.raises(LabelsNotSaved, match=f"process {other.pid} on ") as problem:
            annotations.write(tmp_path, LABELS, b"new", patience=0.1)
        assert "Close the other viewer" in problem.value.steps[0]
        assert annotations.read(tmp_path, LABELS) is None
    finally:
        end(other)


def test_the_lock_of_a_killed_writer_that_its_parent_has_not_missed_yet_is_broken_at_once_too(tmp_path: Path) -> None:
    child = holder(tmp_path)
    try:
        child.kill()
        until_now(lambda: b") Z " in Path(f"/proc/{child.pid}/stat").read_bytes())
        annotations.write(tmp_path, LABELS, b"new", patience=lock.STALE_SECONDS / 4)  # its threads end a moment later
    finally:
        end(child)


def test_the_lock_of_a_killed_writer_on_this_machine_is_broken_at_once(tmp_path: Path) -> None:
    end(holder(tmp_path))
    assert (tmp_path / lock.NAME).exists()
    annotations.write(tmp_path, LABELS, b"new", patience=0)
    assert not (tmp_path / lock.NAME).exists()


def test_a_number_that_another_process_has_now_does_not_keep_the_lock(tmp_path: Path) -> None:
    planted(tmp_path, **{**lock._here(), "started": "0"})
    with atomic.opened(tmp_path) as folder, lock.locked(folder, patience=0):
        pass


def test_a_silent_writer_on_another_machine_loses_the_lock_after_a_while_but_not_before(tmp_path: Path) -> None:
    planted(tmp_path)
    with atomic.opened(tmp_path) as folder:
        with pytest.raises(lock.LockTaken, match="process 1 on laptop"), lock.locked(folder, patience=0.3, stale=10):
            pass
        assert json.loads((tmp_path / lock.NAME).read_text())["host"] == "laptop"
        with lock.locked(folder, patience=10, stale=0.2) as held:
            held.check()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"pid": -1}'])
def test_a_lock_that_says_nothing_is_broken_after_a_while(tmp_path: Path, content: bytes) -> None:
    (tmp_path / lock.NAME).write_bytes(content)
    with atomic.opened(tmp_path) as folder, lock.locked(folder, patience=10, stale=0.1):
        pass


def test_a_writer_that_slept_while_another_took_over_is_told_so(tmp_path: Path) -> None:
    with atomic.opened(tmp_path) as folder, lock.locked(folder) as held:
        (tmp_path / lock.NAME).unlink()
        planted(tmp_path)
        with pytest.raises(lock.LockTaken, match="took over"):
            held.check()
    assert (tmp_path / lock.NAME).exists()  # it is not ours to remove


class ThreeBeats(threading.Event):
    """The end of a block of three beats, which take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 3

    def wait(self, *_: object, **__: object) -> bool:
        self.left -= 1
        return self.left < 0


def test_a_holder_shows_that_it_is_alive_as_long_as_it_holds_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.01)
    with atomic.opened(tmp_path) as folder, lock.locked(folder):
        for _ in range(2):
            os.utime(tmp_path / lock.NAME, ns=(1, 1))
            until_now(lambda: (tmp_path / lock.NAME).stat().st_mtime_ns != 1)


def test_a_writer_whose_lock_was_taken_over_shows_no_life_in_place_of_the_new_holder(tmp_path: Path) -> None:
    with atomic.opened(tmp_path) as folder:
        one = lock.Lock(folder)
        assert one.take()
        (tmp_path / lock.NAME).unlink()
        one.beat(ThreeBeats())
        assert os.listdir(tmp_path) == []
        planted(tmp_path)
        os.utime(tmp_path / lock.NAME, ns=(1, 1))
        one.beat(ThreeBeats())
    assert (tmp_path / lock.NAME).stat().st_mtime_ns == 1


def test_a_sign_of_life_gives_the_holder_its_whole_time_again(tmp_path: Path) -> None:
    planted(tmp_path)
    with atomic.opened(tmp_path) as folder:
        attempts = lock.Attempts(lock.Lock(folder))
        for second in range(3):
            os.utime(tmp_path / lock.NAME, (second, second))
            assert not attempts.acquire()
            assert not attempts.acquire()
            attempts._since -= 2 * lock.STALE_SECONDS
        assert attempts.acquire()


def test_a_holder_is_given_up_after_some_missing_beats_and_before_whoever_waits_gives_up() -> None:
    assert 3 * lock._BEAT_SECONDS < lock.STALE_SECONDS < lock.PATIENCE_SECONDS < lock.ABANDONED_SECONDS


def test_a_save_that_slept_while_another_server_took_over_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations.write(tmp_path, LABELS, b"theirs")
    fsync = os.fsync

    def slow_fsync(file: int) -> None:
        fsync(file)
        planted(tmp_path)

    monkeypatch.setattr(os, "fsync", slow_fsync)
    with pytest.raises(LabelsNotSaved, match="another server took over"):
        annotations.write(tmp_path, LABELS, b"ours")
    assert annotations.read(tmp_path, LABELS) == b"theirs"
    assert len(annotations.versions(tmp_path)) == 1
    assert sorted(os.listdir(tmp_path)) == [lock.NAME, LABELS, "history"]


def test_a_dead_lock_that_another_has_removed_already_hinders_nobody(tmp_path: Path) -> None:
    with atomic.opened(tmp_path) as folder:
        assert lock._break(folder, lock.NAME, (b"dead", 1, 1))
    assert os.listdir(tmp_path) == []


def test_a_fresh_lock_taken_away_by_mistake_goes_back(tmp_path: Path) -> None:
    planted(tmp_path, token="fresh")
    with atomic.opened(tmp_path) as folder:
        lock._break(folder, lock.NAME, (b"an older one", 1, 1))
    assert json.loads((tmp_path / lock.NAME).read_text())["token"] == "fresh"
    assert os.listdir(tmp_path) == [lock.NAME]


def _save_many(where: Path, letter: str, count: int) -> None:
    for number in range(count):
        annotations.write(where, LABELS, f"index,k\na,{letter}{number}\n".encode())


def _count_alone(where: Path, count: int) -> None:
    """Read, wait, write: only a lock keeps two of these from losing numbers."""
    with atomic.opened(where) as folder:
        for _ in range(count):
            with lock.locked(folder, patience=30):
                number = int((where / "number").read_text())
                time.sleep(0.001)
                (where / "number").write_text(str(number + 1))


@pytest.mark.parametrize("with_flock", [True, False])
def test_many_processes_never_have_the_lock_together(
    tmp_path: Path, with_flock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_flock:  # as on network homes

        def refused(*_: object) -> None:
            raise OSError("no locks available")

        monkeypatch.setattr("fcntl.flock", refused)
    (tmp_path / "number").write_text("0")
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_count_alone, args=(tmp_path, 30)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert (tmp_path / "number").read_text() == "120"


def test_two_processes_that_save_at_once_lose_no_version(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_save_many, args=(tmp_path, letter, 25)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    found = [annotations.read_version(tmp_path, version.id).decode() for version in annotations.versions(tmp_path)]
    assert sorted(found) == sorted(f"index,k\na,{letter}{number}\n" for letter in "ab" for number in range(25))
    assert found[0].encode() == annotations.read(tmp_path, LABELS)
    assert sorted(os.listdir(tmp_path)) == [LABELS, "history"]


def test_a_writer_that_is_stopped_is_reported_and_goes_on_afterwards(tmp_path: Path) -> None:
    other = holder(tmp_path)
    try:
        other.send_signal(signal.SIGSTOP)
        with pytest.raises(LabelsNotSaved, match="another server of yours"):
            annotations.write(tmp_path, LABELS, b"new", patience=0.2)
    finally:
        end(other)
    until_now(lambda: other.poll() is not None)
    annotations.write(tmp_path, LABELS, b"new", patience=0)


@pytest.mark.parametrize("links", [True, False])
def test_of_two_that_see_no_lock_only_one_takes_it(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:  # as on some file systems

        def refused(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)
    with atomic.opened(tmp_path) as folder:
        one, other = lock.Lock(folder), lock.Lock(folder)
        assert [one.take(), other.take()] == [True, False]
        one.check()
        with pytest.raises(lock.LockTaken):
            other.check()
        other.give_back()
        one.check()
        one.give_back()
    assert os.listdir(tmp_path) == []


def test_a_lock_is_ours_although_the_server_calls_it_taken_because_it_was_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def asked_twice(*given: str, **where: int) -> None:  # as NFS does when a reply is lost
        link(*given, **where)
        link(*given, **where)

    monkeypatch.setattr(os, "link", asked_twice)
    with atomic.opened(tmp_path) as folder:
        one, other = lock.Lock(folder), lock.Lock(folder)
        assert [one.take(), other.take()] == [True, False]
        one.check()
        one.give_back()
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fails_gives_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", broken)
    with atomic.opened(tmp_path) as folder, pytest.raises(OSError, match="Input/output error"):
        lock.Lock(folder).take()
    assert os.listdir(tmp_path) == []


def test_named_locks_of_one_folder_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with atomic.opened(tmp_path) as folder:
        one, other, same = lock.Lock(folder, "a.lock"), lock.Lock(folder, "b.lock"), lock.Lock(folder, "a.lock")
        assert lock.Attempts(one).acquire()
        with lock.keep_alive(one):
            assert lock.Attempts(other).acquire()
            waiting = lock.Attempts(same)
            assert not waiting.acquire()
            assert f"process {os.getpid()}" in waiting.holder()
            assert json.loads((tmp_path / "a.lock").read_text())["token"] == one.token
        assert waiting.acquire()
        for each in (same, other):
            each.give_back()
    assert os.listdir(tmp_path) == []


def test_a_lock_is_cleared_only_when_its_holder_is_certainly_dead(tmp_path: Path) -> None:
    now = time.time_ns()
    planted(tmp_path, host="elsewhere")
    with atomic.opened(tmp_path) as folder:
        assert not lock.clear_dead(folder, lock.NAME, now + int((lock.ABANDONED_SECONDS - 60) * 1e9))
        assert lock.clear_dead(folder, lock.NAME, now + int((lock.ABANDONED_SECONDS + 60) * 1e9))
        for nobody in (0, -1):  # to the system these are many processes
            planted(tmp_path, **{**lock._here(), "pid": nobody, "started": "0"})
            assert not lock.clear_dead(folder, lock.NAME, now)
        planted(tmp_path, **{**lock._here(), "started": "0"})
        assert lock.clear_dead(folder, lock.NAME, now)
        assert lock.clear_dead(folder, lock.NAME, now)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act for other users")
def test_a_dead_lock_of_somebody_else_in_a_sticky_folder_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    planted(tmp_path, **{**lock._here(), "started": "0"})
    program = (
        "import os, sys; from cxg_proxy.files import lock; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "folder = os.open('.', os.O_RDONLY | os.O_DIRECTORY)\n"
        "attempts = lock.Attempts(lock.Lock(folder), stale=0.0)\n"
        "sys.exit(attempts.acquire() or not attempts.stuck)\n"
    )
    tmp_path.chmod(0o1777)
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=20, env=environment())
