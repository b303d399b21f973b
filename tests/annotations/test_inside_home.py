"""Whatever a dataset, a collection, a category, a gene set or a file is called: nothing is written outside the home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxg_proxy import annotations
from cxg_proxy.annotations.tables import LabelTable, labels_csv
from cxg_proxy.errors import LabelsNotSaved
from viewer_fixtures import cells, worker
from viewer_labels import BINARY, save, table

# cellxgene's encoder calls flatbuffers as its version 2.0 wished.
pytestmark = pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")

ESCAPES = [
    "../escaped",
    "../../../../../../tmp/escaped",
    "/tmp/escaped",
    "..",
    ".",
    "a/b",
    "a\\..\\b",
    "nul\0byte",
    "new\nline",
    "~root",
    "$HOME",
    "-rf",
    "x" * 300,
    "\udcff",
]
Seen = dict[str, tuple[object, ...]]


def snapshot(place: Path, *, excluding: Path) -> Seen:
    """Everything below a place except one folder: kind, inode, time of change and content."""
    found: Seen = {}
    for folder, folders, files in os.walk(place):
        folders[:] = [name for name in folders if Path(folder, name) != excluding]
        for name in [*folders, *files]:
            path = Path(folder, name)
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
            found[str(path)] = (status.st_mode, status.st_ino, status.st_mtime_ns, status.st_nlink, content)
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "cell-labels.csv").write_text("index,theirs\nc1,x\n")
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


names = st.sampled_from(ESCAPES) | st.text(max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(names)
def test_the_folder_of_a_dataset_lies_directly_in_the_home_whatever_its_name(home: Path, name: str) -> None:
    for dataset in (name, f"/data/{name}.h5ad", f"remote/{name}"):
        where = annotations.named(home, dataset)
        assert where.parent == home
        assert where.name not in ("", ".", "..")
        assert len(os.fsencode(where.name)) < 200
        assert where.name.isprintable()


@pytest.mark.parametrize("name", ESCAPES)
def test_a_save_for_a_dataset_of_any_name_stays_inside(name: str, home: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path, excluding=home)
    where = annotations.named(home, f"{home}/../{name}.h5ad")
    record = annotations.DatasetRecord(name, f"/{name}", 1, name)
    annotations.write(where, annotations.LABELS, b"index,a\nc1,x\n", record=lambda: record)
    annotations.write(where, annotations.GENE_SETS, b"x", record=lambda: record)
    annotations.restore(where, annotations.versions(where)[-1].id)
    assert snapshot(tmp_path, excluding=home) == before
    assert [each.parent for each in home.iterdir()] == [home]


@pytest.mark.parametrize("version", ESCAPES)
def test_a_version_of_any_name_is_read_from_the_history_only(version: str, home: Path) -> None:
    where = annotations.named(home, "x.h5ad")
    annotations.write(where, annotations.LABELS, b"index,a\nc1,x\n")
    (where / "secret.csv.gz").write_bytes(b"secret")
    for start in ("", "../", "../../outside/"):
        with pytest.raises(annotations.NoSuchVersion):
            annotations.read_version(where, start + version)


def plant_file(where: Path, outside: Path) -> None:
    (where / annotations.LABELS).symlink_to(outside / annotations.LABELS)


def plant_history(where: Path, outside: Path) -> None:
    (where / "history").symlink_to(outside)


def plant_dataset(where: Path, outside: Path) -> None:
    (where / "dataset.json").symlink_to(outside / "dataset.json")


def plant_lock(where: Path, outside: Path) -> None:
    (where / ".lock").symlink_to(outside / "lock")


def plant_hard_link(where: Path, outside: Path) -> None:
    (where / annotations.LABELS).hardlink_to(outside / annotations.LABELS)


def plant_pipe(where: Path, outside: Path) -> None:
    os.mkfifo(where / annotations.LABELS)


PLANTS = [plant_file, plant_history, plant_dataset, plant_lock, plant_hard_link, plant_pipe]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_what_is_planted_in_the_home_is_replaced_or_refused_but_never_written_through(
    plant: object, home: Path, tmp_path: Path
) -> None:
    where = annotations.named(home, "x.h5ad")
    where.mkdir(mode=0o700)
    plant(where, tmp_path / "outside")  # type: ignore[operator]
    theirs = (tmp_path / "outside" / annotations.LABELS).read_bytes()
    record = annotations.DatasetRecord("x.h5ad", "/x.h5ad")
    try:
        for content in (b"index,a\nc1,x\n", b"index,a\nc1,y\n"):
            annotations.write(where, annotations.LABELS, content, record=lambda: record, patience=0.5)
        assert annotations.read(where, annotations.LABELS) == b"index,a\nc1,y\n"
        assert not (where / annotations.LABELS).is_symlink()
    except LabelsNotSaved:
        pass
    assert sorted(os.listdir(tmp_path / "outside")) == [annotations.LABELS]
    assert (tmp_path / "outside" / annotations.LABELS).read_bytes() == theirs


def test_a_home_whose_folder_for_a_dataset_is_a_link_is_refused(home: Path, tmp_path: Path) -> None:
    where = annotations.named(home, "x.h5ad")
    where.symlink_to(tmp_path / "outside")
    before = snapshot(tmp_path, excluding=home)
    with pytest.raises(LabelsNotSaved):
        annotations.write(where, annotations.LABELS, b"x")
    assert snapshot(tmp_path, excluding=home) == before


PROGRAM = """
import json, os, sys
from pathlib import Path
from cxg_proxy import annotations as kept
written = set()
def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.add(str(arguments[0]))
    if event in ("os.rename", "os.link"):
        written.update((str(arguments[0]), str(arguments[1])))
    if event in ("os.remove", "os.mkdir", "os.utime", "os.symlink", "os.truncate", "os.chmod"):
        written.add(str(arguments[0]))
sys.addaudithook(watch)
where = Path(sys.argv[1])
for number in range(3):
    record = kept.DatasetRecord("x", "/x", number)
    kept.write(where, kept.LABELS, b"index,a\\nc1,%d\\n" % number, record=lambda: record, now=1e9 + 1e6 * number)
kept.restore(where, kept.versions(where)[-1].id)
print(json.dumps(sorted(written)))
"""


def test_every_call_that_writes_names_a_file_of_the_open_folder_or_the_way_to_it(home: Path) -> None:
    where = annotations.named(home / "deep", "x.h5ad")
    said = subprocess.check_output([sys.executable, "-B", "-c", PROGRAM, where])
    written = json.loads(said)
    ways = {str(where), str(where.parent)}
    assert len(written) > 6
    assert {name for name in written if "/" in name} <= ways  # all others are names inside a folder held open


def test_through_cellxgene_neither_collections_nor_categories_nor_sets_lead_outside(tmp_path: Path, home: Path) -> None:
    cells().write_h5ad(tmp_path / "small.h5ad")
    where = annotations.named(home, "small.h5ad")
    with worker(tmp_path / "small.h5ad", where) as server:
        before = snapshot(tmp_path, excluding=home)
        for name in ESCAPES[:-1]:
            assert save(server, **{name: [name[:50]] * 60}).status == 200
            quoted = name.encode().hex("%")
            target = f"annotations/obs?annotation-collection-name=%{quoted}"
            assert server.api(target, "PUT", table(mine=["x"] * 60), **BINARY).status in (200, 400)
            sets = [{"geneset_name": name[:9], "geneset_description": name, "genes": []}]
            assert server.api("genesets", "PUT", {"genesets": sets, "tid": 1}).status in (200, 400, 404)
        assert snapshot(tmp_path, excluding=home) == before
    assert {each.name for each in home.iterdir()} == {where.name}
    assert {each.name for each in where.iterdir()} <= {
        annotations.LABELS,
        annotations.GENE_SETS,
        "dataset.json",
        "history",
    }


def test_an_adopted_folder_is_one_of_the_home(home: Path, tmp_path: Path) -> None:
    content = labels_csv(LabelTable("index", ("c1",), {"a": ("x",)})).encode()
    digest = annotations.identifiers_digest(["c1"])
    record = annotations.DatasetRecord("x", "/x", 1, digest)
    annotations.write(tmp_path / "outside" / "other", annotations.LABELS, content, record=lambda: record)
    (home / "planted").symlink_to(tmp_path / "outside" / "other")
    assert annotations.same_cells(home, digest, excluding=Path()) == []
