"""One dataset shown alone: how its gateway ends after a viewer that died, an unreadable file, a copy that failed."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import pytest

from cxg_proxy import annotations
from cxg_proxy.errors import Died, NotPrepared, NotReadable, Problem, StorageSilent
from cxg_proxy.files import disk
from cxg_proxy.gateway import standalone
from cxg_proxy.steps import Phase
from datasets import labels_body, write_dataset
from gateways import SAME_SITE, running_gateway
from waiting import until

pytestmark = pytest.mark.timeout(120)
HASTY = "from cxg_proxy.gateway import app; app.FAILED_SECONDS = 1.0; app.launch()"


class Services:
    """What `Standalone` asks of the gateway, without one."""

    def __init__(self, folder: Path) -> None:
        (folder / "shown").mkdir()
        (folder / "shown" / "pbmc.h5ad").touch()
        self.folder, self.saved = folder, folder / "labels"
        self.instance: Any = SimpleNamespace(phase=Phase.READY, problem=None, ready=self.ready)
        self.library = SimpleNamespace(roots={"dataset": folder / "shown"}, find=self.find)
        self.instances = SimpleNamespace(open=self.open, of=lambda _: self.instance)
        self.jobs = SimpleNamespace(annotate=self.annotate)
        self.troubles: list[Problem] = []  # of the next copies
        self.unreadable: list[Problem] = []  # of the next looks for the file
        self.made = 0
        self.looks = 0  # at what is saved

    def find(self, _: str) -> Any:
        if self.unreadable:
            raise self.unreadable.pop()
        return SimpleNamespace(real=self.folder / "pbmc.h5ad")

    async def open(self, _: Any) -> Any:
        return self.instance

    async def ready(self) -> None:
        if self.instance.problem is not None:
            raise self.instance.problem

    def labels(self, _: Any) -> Path:
        self.looks += 1
        return self.saved

    async def looked_at(self) -> None:
        """Until it was looked some times more, and so at all else too that is looked at as often."""
        enough = self.looks + 5
        await until(lambda: self.looks >= enough)

    async def annotate(self, *_: Any) -> None:
        if self.troubles:
            raise self.troubles.pop()
        self.made += 1

    def save(self, label: str) -> None:
        annotations.write(self.saved, annotations.LABELS, f"index,mine\ncell0,{label}\n".encode())


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(tmp_path)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "QUIET_SECONDS", "LATEST_SECONDS", "REST_TIMES", "AGAIN_SECONDS"):
        monkeypatch.setattr(standalone, name, 0.02, raising=False)


def lived(services: Services, scene: Callable[[standalone.Standalone], Any]) -> None:
    """Play a scene while the dataset is shown."""

    async def play() -> None:
        shown = standalone.Standalone(services, "copy.h5ad", logging.getLogger(__name__))  # type: ignore[arg-type]
        living = asyncio.ensure_future(shown.live())
        try:
            await scene(shown)
        finally:
            living.cancel()
            await asyncio.wait({living})
            await until(lambda: not disk._waiting)  # or a call that is answered later would count for ever

    asyncio.run(play())


def test_a_copy_that_failed_is_tried_again_at_the_end(services: Services) -> None:
    services.troubles = [NotPrepared("copy.h5ad")]
    services.save("T cell")

    async def scene(shown: standalone.Standalone) -> None:
        await until(lambda: not services.troubles)
        await services.looked_at()
        assert services.made == 0  # the next save or the end is time enough
        await shown.finish()
        assert services.made == 1

    lived(services, scene)


def test_a_disk_that_was_silent_for_a_while_ends_no_renewal(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    on_disk = standalone.on_disk

    async def silent(work: Callable[[], Any]) -> Any:
        nonlocal looks
        looks += 1
        if looks in (4, 5):
            raise StorageSilent(detail="for 10 s")
        return await on_disk(work)

    monkeypatch.setattr(standalone, "on_disk", silent)

    async def scene(_: standalone.Standalone) -> None:
        await until(lambda: looks > 6, seconds=5)
        services.save("T cell")
        await until(lambda: services.made == 1, seconds=5)

    lived(services, scene)


def test_a_disk_that_is_silent_at_the_end_is_told(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(shown: standalone.Standalone) -> None:
        await services.looked_at()
        assert shown.problem is None

        async def silent(_: Callable[[], Any]) -> Any:
            raise StorageSilent(detail="for 10 s")

        monkeypatch.setattr(standalone, "on_disk", silent)
        caplog.clear()
        await shown.finish()
        assert "The storage this file lies on does not answer" in caplog.text

    lived(services, scene)


def test_why_the_file_may_not_be_read_is_the_problem_until_it_may(services: Services) -> None:
    services.unreadable = [NotReadable("dataset/pbmc.h5ad")] * 20

    async def scene(shown: standalone.Standalone) -> None:
        await until(lambda: len(services.unreadable) < 20)
        await until(lambda: isinstance(shown.problem, NotReadable))
        services.unreadable.clear()
        await until(lambda: shown.problem is None)
        services.save("T cell")
        await until(lambda: services.made == 1)

    lived(services, scene)


def test_a_viewer_that_died_after_it_was_shown_is_no_reason_to_fail_even_if_it_cannot_be_opened_again(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    refused = NotPrepared("pbmc")
    services.instance.problem = refused
    services.instance.phase = Phase.FAILED

    async def scene(shown: standalone.Standalone) -> None:
        await until(lambda: shown.problem is refused)
        services.instance = SimpleNamespace(phase=Phase.READY, problem=None, ready=services.ready)  # after Try again
        await until(lambda: shown.problem is None)
        await services.looked_at()
        services.instance = SimpleNamespace(phase=Phase.FAILED, problem=Died("pbmc"), ready=services.ready)
        assert shown.problem is None
        services.save("T cell")
        caplog.clear()
        await shown.finish()
        assert services.made == 1
        assert "the viewer stopped by itself" in caplog.text

    lived(services, scene)


@pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")
def test_after_a_viewer_that_died_an_idle_end_is_a_good_one_with_all_that_was_saved(tmp_path: Path) -> None:
    file, copy = write_dataset(tmp_path / "pbmc.h5ad"), tmp_path / "results" / "annotated.h5ad"
    options = (str(file), f"--annotated={copy}", "--shutdown-when-idle-seconds=4")
    with running_gateway(tmp_path, *options, python=sys.executable, library=False) as gateway:
        address = gateway.open("dataset/pbmc.h5ad")
        saved = gateway.ask("PUT", address + "api/v0.2/annotations/obs", SAME_SITE, labels_body(30, "T cell"))
        assert saved.status == 200
        (viewer,) = [each for each in gateway.workers() if " serve " in " ".join(each.cmdline())]
        viewer.kill()
        assert gateway.process.wait(40) == 0, gateway.log.read_text()
    assert set(anndata.read_h5ad(copy).obs["mine"]) == {"T cell"}
    assert "pbmc: the viewer stopped by itself" in gateway.log.read_text()


def ended(folder: Path, *command: str) -> tuple[int, str]:
    """Exit status and last words."""
    more = ("--port=0", f"--home={folder / 'home'}", f"--Gateway.cache={folder / 'cache'}")
    done = subprocess.run(
        [sys.executable, *command, *more], capture_output=True, text=True, cwd=folder, timeout=60, check=False
    )
    return done.returncode, done.stderr


def test_a_dataset_that_is_not_found_where_it_is_ends_with_status_1_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "folder.h5ad").mkdir()  # there, but no file
    status, said = ended(tmp_path, "-m", "cxg_proxy", "folder.h5ad", "--shutdown-when-idle-seconds=1")
    assert (status, "Traceback" in said) == (1, False)
    assert "there is no dataset of this name here" in said.splitlines()[-1]


def test_without_an_idle_end_a_dataset_that_cannot_be_shown_ends_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "pbmc.h5ad").write_text("cells,genes\n")
    status, said = ended(tmp_path, "-c", HASTY, "pbmc.h5ad", "--shutdown-when-idle-seconds=0")
    assert status == 1
    assert "pbmc.h5ad: this is not an AnnData file" in said.splitlines()[-1]


def test_a_name_that_the_disk_refuses_ends_with_a_sentence(tmp_path: Path) -> None:
    status, said = ended(tmp_path, "-m", "cxg_proxy", "x" * 300)
    assert (status, "Traceback" in said) == (2, False)
    assert "File name too long" in said


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_a_file_in_a_folder_that_may_not_be_searched_ends_with_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    write_dataset(folder / "pbmc.h5ad")
    program = "import os, sys; from cxg_proxy.gateway import app; os.setgid(54321); os.setuid(54321)\n"
    status, said = ended(tmp_path, "-c", program + "app.launch()", str(folder / "pbmc.h5ad"))
    assert (status, "Traceback" in said) == (2, False)
    assert "Permission denied" in said
