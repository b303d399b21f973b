"""A faulty writer of labels: it is killed, or refused by the disk, at every single call that changes the file system.

`faulty_writer.py FOLDER kill|half|full|denied|ever` makes a save fail at each of its calls in turn, and prints how many
saves it made. It does so without earlier labels, with saved ones, with a file that was edited, and with labels of other
cells that were at the same path before. Each save is made by a fork of this program in which one call of `os` fails,
and with `ever` all later ones too; the parent then checks the disk.
"""

import errno
import os
import shutil
import signal
import sys
from pathlib import Path

from cxg_proxy import annotations
from cxg_proxy.errors import LabelsNotSaved

CALLS = ("open", "write", "fsync", "rename", "replace", "link", "unlink", "mkdir")
FIRST, EDITED, OLD, NEW = (b"index,k\na,%d\n" % number for number in range(4))
SETS = b"gene_set_name,gene_set_description,gene_symbol,gene_description\nmine,,CD3E,\n"
NOW = 1_700_000_000.0
BEFORE = annotations.DatasetRecord("pbmc.h5ad", "/data/pbmc.h5ad", 1, annotations.identifiers_digest(["a"]))
AFTER = annotations.DatasetRecord("pbmc.h5ad", "/data/pbmc.h5ad", 2, annotations.identifiers_digest(["a", "b"]))


def disturb(at: int, how: str) -> None:
    """Make the call number `at` fail, or kill this process there."""
    count = 0

    def wrapped(name, real):
        def call(*args, **options):
            nonlocal count
            if name == "open" and not (args[1] & os.O_CREAT):
                return real(*args, **options)
            count += 1
            if count == at or (count > at and how == "ever"):
                fail(name, real, args)
            return real(*args, **options)

        return call

    def fail(name, real, args):
        if how in ("full", "ever"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if how == "denied":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if how == "half" and name == "write":
            real(args[0], args[1][: len(args[1]) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))


def save(where: Path, at: int, how: str, record: annotations.DatasetRecord | None) -> int:
    """Make one save in a fork; returns its exit status: 0 saved, 3 not saved, -9 killed."""
    child = os.fork()
    if not child:
        disturb(at, how)
        try:
            annotations.write(
                where, annotations.LABELS, NEW, now=NOW + 5, record=record and (lambda: record), patience=1
            )
        except LabelsNotSaved:
            os._exit(3)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def versions(where: Path) -> list[bytes]:
    return [annotations.read_version(where, version.id) for version in annotations.versions(where)]


def check(where: Path, before: list[bytes], status: int, how: str) -> None:
    live = annotations.read(where, annotations.LABELS)
    found = versions(where)
    assert live in ((before[-1:] or [None])[0], NEW), (live, status)
    assert set(before) <= {*found, live}, (before, found, status)
    assert status != 0 or live == NEW
    assert status in ((0, -9) if how in ("kill", "half") else (0, 3))
    annotations.write(where, annotations.LABELS, FIRST + b"b,1\n", now=NOW + 60, patience=2)
    assert annotations.read(where, annotations.LABELS) == FIRST + b"b,1\n"
    assert {*before, live} - {None} <= set(versions(where)), "what was in the live file stays"


def check_other(where: Path) -> None:
    """Check that the labels of the earlier cells are found by those cells, and are complete, whatever has happened."""
    for _ in range(2):
        found = [folder for folder, _ in annotations.same_cells(where.parent, BEFORE.identifiers, excluding=Path())]
        saved = [
            (annotations.read(folder, annotations.LABELS), annotations.read(folder, annotations.GENE_SETS))
            for folder in found
        ]
        assert (OLD, SETS) in saved, saved
        annotations.write(where, annotations.LABELS, NEW, now=NOW + 50, record=lambda: AFTER, patience=2)
    assert where not in found


def prepare(where: Path, state: str) -> list[bytes]:
    """Prepare a folder as saves or a person left it; returns all contents that its live file ever had."""
    if state == "none":
        return []
    annotations.write(where, annotations.LABELS, FIRST, now=NOW)
    annotations.write(where, annotations.LABELS, OLD, now=NOW + 1, record=lambda: BEFORE)
    annotations.write(where, annotations.GENE_SETS, SETS, now=NOW + 1)
    if state == "edited":
        (where / annotations.LABELS).write_bytes(EDITED)
    return [FIRST, OLD, *([EDITED] if state == "edited" else [])]


def main() -> None:
    folder, how = Path(sys.argv[1]), sys.argv[2]
    total = 0
    for state in ("none", "saved", "edited", "other"):
        for at in range(1, 500):
            where = folder / "home" / "data"
            before = prepare(where, state)
            status = save(where, at, how, AFTER if state == "other" else None)
            if state == "other":
                check_other(where)
            else:
                check(where, before, status, how)
            shutil.rmtree(folder / "home")
            total += 1
            if status == 0 and how in ("kill", "half"):
                break
            if at > (100 if state == "other" else 60) and how not in ("kill", "half"):
                break
    print(total)


if __name__ == "__main__":
    main()
