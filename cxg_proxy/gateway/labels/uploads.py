"""The uploads of tables of labels: they have been checked and wait to be saved, one at a time and not for long."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from cxg_proxy.annotations.alignment import Checked
from cxg_proxy.errors import NoSuchPage, Problem
from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.gateway.workers.jobs import Jobs

WAIT_SECONDS = 900.0


@dataclass
class Upload:
    """A checked table, and the folder that it lies in."""

    id: str
    address: str  # of its dataset
    version: str  # of that dataset's file, when the table was checked
    name: str  # the file's name, as the browser sent it
    checked: Checked
    table: Path
    block: contextlib.AsyncExitStack


class Uploads:
    """The upload that waits, if there is one."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self._waiting: Upload | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def take(
        self, dataset: Dataset, labels: Path, table: Path, name: str, block: contextlib.AsyncExitStack
    ) -> Upload:
        """Check a table in the folder of `block`, then let it replace the waiting one; raises the check's Problem."""
        try:
            checked = await self.jobs.check(dataset, labels, table, table.with_name("checked.csv"))
            await self.forget()
        except BaseException:
            await block.aclose()
            raise
        table = table.with_name("checked.csv")
        upload = Upload(secrets.token_hex(8), dataset.address, dataset.version, name, checked, table, block)
        self._waiting = upload
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WAIT_SECONDS, lambda: loop.create_task(self.forget()))
        return upload

    def of(self, address: str) -> Upload | None:
        """Return the upload that waits for a dataset, None if there is none."""
        return self._waiting if self._waiting and self._waiting.address == address else None

    def find(self, address: str, identifier: str) -> Upload:
        """Return the upload of this id; raises NoSuchPage if it was saved, cancelled, replaced or forgotten."""
        upload = self.of(address)
        if upload is None or upload.id != identifier:
            raise NoSuchPage(
                detail="this upload does not wait any more", steps=["Go back to the labels and choose the file again."]
            )
        return upload

    async def close(self) -> None:
        """Remove what is left of the waiting upload."""
        await self.forget()

    async def forget(self) -> None:
        """Remove the waiting upload, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
        upload, self._waiting = self._waiting, None
        if upload is not None:
            with contextlib.suppress(Problem):
                await upload.block.aclose()
