"""The origin of a store: which file, layer and state it stands for, and how a change is noticed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cxg_proxy.errors import ChangedMeanwhile, DatasetNotFound
from cxg_proxy.viewer.store.origin import Origin


@pytest.fixture(name="file")
def a_file(tmp_path: Path) -> Path:
    file = tmp_path / "a.h5ad"
    file.write_bytes(b"some content")
    return file


def copied(file: Path) -> None:
    """Replace a file by a copy of it, of the same size and time."""
    copy = file.with_name("copy")
    shutil.copy2(file, copy)
    copy.replace(file)


CHANGES: dict[str, Callable[[Path], object]] = {
    "another size": lambda file: file.write_bytes(b"other"),
    "another time": lambda file: os.utime(file, ns=(1, 1)),
    "another file": copied,
    "no file": lambda file: file.unlink(),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_the_file_is_noticed(file: Path, change: Callable[[Path], object]) -> None:
    origin = Origin.of(str(file))
    origin.check_unchanged()
    assert origin.is_unchanged()
    change(file)
    assert not origin.is_unchanged()
    with pytest.raises(ChangedMeanwhile, match=r"a\.h5ad"):
        origin.check_unchanged()


def test_an_open_file_is_compared_by_itself_and_not_by_its_path(file: Path) -> None:
    origin = Origin.of(str(file))
    before = os.stat(file)
    copied(file)
    origin.check_unchanged(before)
    with pytest.raises(ChangedMeanwhile):
        origin.check_unchanged(os.stat(file))


def test_files_states_and_layers_have_fingerprints_of_their_own(file: Path, tmp_path: Path) -> None:
    (tmp_path / "b.h5ad").write_bytes(file.read_bytes())
    found = {Origin.of(str(file), layer).fingerprint for layer in (None, "None", "raw")}
    found.add(Origin.of(str(tmp_path / "b.h5ad")).fingerprint)
    for change in ("another time", "another file", "another size"):
        CHANGES[change](file)
        found.add(Origin.of(str(file)).fingerprint)
    assert len(found) == 7


def test_a_link_has_the_fingerprint_of_its_file_until_it_leads_elsewhere(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.h5ad"
    link.symlink_to(file)
    origin = Origin.of(str(link))
    assert origin.fingerprint == Origin.of(str(file)).fingerprint
    assert origin.resolved() == Origin.of(str(file))
    (tmp_path / "b.h5ad").write_bytes(file.read_bytes())
    link.unlink()
    link.symlink_to(tmp_path / "b.h5ad")
    assert not origin.is_unchanged()


def test_there_is_no_origin_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"none\.h5ad"):
        Origin.of(str(tmp_path / "none.h5ad"))
