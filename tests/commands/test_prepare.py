"""`cxg-proxy prepare`, as an administrator types it."""

import fcntl
import os
import pty
import re
import signal
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from processes import environment, gone
from stores_fixtures import MEMORY, maker, names, needs_root, write
from waiting import until_now

pytest_plugins = ["stores_plugin"]
pytestmark = pytest.mark.slow  # each dataset is prepared by a program of its own
NOBODY = 65534
Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


@pytest.fixture(name="place")
def a_place_that_all_can_reach(short: Path) -> Path:
    short.chmod(0o755)
    return short


@pytest.fixture(name="run")
def the_command(place: Path) -> Run:
    def run(*said: object, **how: object) -> Done:
        command = [sys.executable, "-m", "cxg_proxy", "prepare", *map(os.fspath, said)]  # type: ignore[call-overload]
        home = {**environment(), "HOME": str(place), "XDG_CACHE_HOME": str(place / "xdg")}
        return subprocess.run(command, env=home, cwd=place, capture_output=True, text=True, check=False, **how)  # type: ignore[call-overload,no-any-return]

    return run


def rows(done: Done) -> dict[str, str]:
    """What became of each dataset, by the last part of its name."""
    _, *lines, _ = done.stdout.splitlines()
    return {line.split()[0].rpartition("/")[2]: line for line in lines}


def test_after_an_upgrade_the_replies_beside_a_store_are_made_anew(place: Path, run: Run) -> None:
    write(place / "a.h5ad")
    assert run("--shared-cache", "shared", "a.h5ad").returncode == 0
    (folder,) = (place / "shared").rglob("replies")
    made = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert made
    for file in list(folder.iterdir()):
        file.rename(file.with_name(f"older-{file.name.partition('-')[2]}"))
    done = run("--shared-cache", "shared", "a.h5ad")
    assert "0 made, 1 there before, 0 failed" in done.stdout
    now = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert made.items() <= now.items()


def test_every_dataset_of_a_folder_is_prepared_once_and_a_broken_one_is_told(place: Path, run: Run) -> None:
    write(place / "atlas" / "a.h5ad")
    write(place / "atlas" / "deep" / "b.h5ad", count=20)
    (place / "atlas" / ".hidden.h5ad").write_bytes(b"")
    (place / "atlas" / "bad.h5ad").write_bytes(b"<html>")
    done = run("--shared-cache", "shared", "atlas", "atlas/a.h5ad")
    assert done.returncode == 1
    assert sorted(rows(done)) == ["a.h5ad", "b.h5ad", "bad.h5ad"]
    assert re.search(r"a\.h5ad +300 × 200 +\d+ kB +\d+\.\d s +made$", rows(done)["a.h5ad"])
    assert "failed: bad.h5ad: this is not an AnnData file" in rows(done)["bad.h5ad"]
    assert done.stdout.splitlines()[-1] == "2 made, 0 there before, 1 failed."
    assert sum("of 3: " in line for line in done.stderr.splitlines()) == 3
    (place / "atlas" / "bad.h5ad").unlink()
    again = run("--shared-cache", "shared", "atlas")
    assert again.returncode == 0
    assert [line.split()[-2:] for line in rows(again).values()] == [["was", "there"]] * 2
    stores = Stores(place / "own", place / "shared", limit=0, memory=MEMORY)
    assert stores.find(Origin.of(str(place / "atlas" / "a.h5ad")))
    stores.close()


def test_a_file_that_has_changed_gets_a_new_store_in_the_place_of_the_old_one(place: Path, run: Run) -> None:
    source = write(place / "a.h5ad")
    assert run("--shared-cache", "shared", source).returncode == 0
    old = names(place / "shared")
    write(source, seed=2)
    assert run("--shared-cache", "shared", source).returncode == 0
    assert names(place / "shared") == [Origin.of(str(source)).fingerprint] != old


def test_without_a_folder_it_is_prepared_for_oneself_with_the_layer_that_will_be_shown(place: Path, run: Run) -> None:
    source = write(place / "a.h5ad")
    (place / "a.h5ad.cxg.yaml").write_text("layer: counts\n")
    assert "layer is 'counts'" in rows(run(source))["a.h5ad"]
    (place / "a.h5ad.cxg.yaml").unlink()
    assert run(source).returncode == 0
    assert names(place / "xdg" / "cxg-proxy") == [Origin.of(str(source)).fingerprint]
    assert stat.S_IMODE((place / "xdg" / "cxg-proxy").stat().st_mode) == 0o700
    assert "layer is 'no such'" in rows(run("--layer", "no such", source))["a.h5ad"]


@needs_root
def test_an_ordinary_user_prepares_what_they_may_read_and_hears_of_the_rest(place: Path, run: Run) -> None:
    for name, mode in (("mine", 0o644), ("secret", 0o600)):
        write(place / "atlas" / f"{name}.h5ad").chmod(mode)
    (place / "shared").mkdir()
    os.chown(place / "shared", NOBODY, NOBODY)
    for what in ("made", "was there"):
        done = run("--shared-cache", "shared", "atlas", user=NOBODY, group=NOBODY, extra_groups=[])
        assert done.returncode == 1
        assert rows(done)["mine.h5ad"].endswith(what)
        assert "the file is not readable by you" in rows(done)["secret.h5ad"]
    assert names(place / "shared") == [Origin.of(str(place / "atlas" / "mine.h5ad")).fingerprint]
    stores = Stores(place / "own", place / "shared", limit=0, memory=MEMORY)
    found = stores.find(Origin.of(str(place / "atlas" / "mine.h5ad")))
    assert found is None  # root owns the file, and trusts not nobody
    stores.close()


@pytest.mark.parametrize("which", ["shared", "above", "shared/stores"])
def test_nothing_is_built_where_nobody_would_believe_it_and_what_is_there_stays(
    which: str, place: Path, run: Run
) -> None:
    source = write(place / "a.h5ad")
    (place / "above").mkdir()
    (place / "shared").symlink_to("above/shared")
    cache = place / "above" / "shared"
    cache.mkdir()
    assert run("--shared-cache", "shared", source).returncode == 0
    (store,) = (cache / "stores").iterdir()
    before = store.stat()
    (place / which).chmod(0o775)
    other = write(place / "b.h5ad", count=20)
    done = run("--shared-cache", "shared", source, other)
    assert done.returncode == 1
    real = os.path.realpath(place / which)
    for row in rows(done).values():
        assert f"({real} can be changed by others; chmod go-w it)" in row
    assert names(cache) == [store.name]
    assert store.stat() == before
    (place / which).chmod(0o755)
    assert rows(run("--shared-cache", "shared", source))["a.h5ad"].endswith("was there")


HOSTILE = [
    "new\nline",
    'quo"te',
    "it's",
    "-rf",
    "--help",
    "$(touch x)",
    "ünïcödé 細胞",
    "\udcff",
    "sp ace",
    "%s{}",
    "a" * 200,
]


@pytest.mark.timeout(180)
def test_whatever_a_file_is_called_it_is_prepared_and_told_on_one_line(place: Path, run: Run) -> None:
    source = write(place / "source.h5ad", count=20)
    (place / "atlas").mkdir()
    for name in HOSTILE:
        os.link(source, place / "atlas" / f"{name}.h5ad")
    done = run("--shared-cache", "shared", "--jobs", "2", "atlas", errors="replace")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(HOSTILE) + 2
    assert len(names(place / "shared")) == len(HOSTILE)
    os.link(source, place / "-rf.h5ad")
    assert run("--shared-cache", "shared", "--", "-rf.h5ad").returncode == 0
    assert sorted(os.listdir(place)) == ["-rf.h5ad", "atlas", "shared", "source.h5ad"]  # no name was run


def test_two_that_prepare_at_once_build_each_dataset_once(place: Path, run: Run) -> None:
    source = write(place / "a.h5ad")
    command = [sys.executable, "-m", "cxg_proxy", "prepare", "--shared-cache", place / "shared", source]
    both = [
        subprocess.Popen(command, cwd="/", env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert names(place / "shared") == [Origin.of(str(source)).fingerprint]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_leaves_no_child_and_nothing_half_made(sent: signal.Signals, place: Path) -> None:
    source = write(place / "a.h5ad")
    with maker(place / "shared", source, 0.0) as other:  # ours waits for this one
        other.until("done")
        command = [sys.executable, "-m", "cxg_proxy", "prepare", "--shared-cache", place / "shared", source]
        with subprocess.Popen(command, cwd="/", env=environment(), stdout=subprocess.PIPE, text=True) as process:
            until_now(lambda: children(process.pid), seconds=40)
            (child,) = children(process.pid)
            process.send_signal(sent)
            said, _ = process.communicate()
    assert process.returncode == 130
    assert "Stopped. What was prepared stays." in said
    assert gone(child)


def children(pid: int) -> list[int]:
    return [each.pid for each in psutil.Process(pid).children() if "build" in each.cmdline()]


def test_a_terminal_shows_a_bar(place: Path) -> None:
    source = write(place / "a.h5ad")
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-m", "cxg_proxy", "prepare", "--shared-cache", place / "shared", source]
    done = subprocess.run(command, cwd="/", env=environment(), stdout=subprocess.PIPE, stderr=end, check=False)
    shown = os.read(terminal, 1 << 16).decode()
    for each in (end, terminal):
        os.close(each)
    assert done.returncode == 0
    assert "%|" in shown
    assert "a.h5ad" in shown


def test_what_is_typed_wrongly_or_leads_to_nothing_is_told(place: Path, run: Run) -> None:
    (place / "empty").mkdir()
    assert run("--cache", "a", "--shared-cache", "b", "x.h5ad").returncode == 2
    assert run().returncode == 2
    for said, path in (("there are no .h5ad files in empty", "empty"), ("failed: nothing.h5ad", "nothing.h5ad")):
        done = run("--shared-cache", "shared", path)
        assert done.returncode == 1
        assert said in done.stdout + done.stderr
    done = run("--viewer-python", "/no/such/python", write(place / "a.h5ad"))
    assert done.returncode == 1
    assert "failed: /no/such/python: cellxgene cannot be started with this Python" in done.stdout


def test_the_help_teaches(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("--shared-cache", "--layer", "--build-memory", "--jobs", "exit status", "examples:"):
        assert word in done.stdout
