"""A mapped matrix larger than the memory a process may use can be looked at and compared in it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOM = 150 * 2**20
PROGRAM = """
import json, resource, sys
from pathlib import Path
import numpy as np
from cxg_proxy.viewer.compute import diffexp, kernels
from cxg_proxy.viewer.store import matrix

place, kind, room = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
kernels.compile()
def mapped(name, dtype, shape=None):
    return np.memmap(place / name, dtype, "r", shape=shape)
if kind == "sparse":
    held = matrix.Sparse((100_000, 10_000), mapped("p", np.int64), mapped("i", np.int32), mapped("d", np.float32))
    parts = held.data.nbytes + held.indices.nbytes
else:
    held = matrix.Dense(mapped("w", np.float32, (1_000, 100_000)).T)
    parts = held.values.nbytes
assert parts > 2 * room
status = Path("/proc/self/status").read_text()
used = int(status.partition("VmData:")[2].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + room, used + room))
mask = np.arange(100_000) % 3 == 0
first = diffexp.compare(held, "count", mask, ~mask, 5, 0.01)
held.columns(np.arange(20)); held.mean(np.arange(200))
try:
    np.ones(parts // 2 // 4, np.float32)
except MemoryError:
    print(json.dumps(len(first["positive"])))
"""


def write_sparse(place: Path) -> None:
    cells = np.arange(0, 100_000, 25, dtype=np.int32)
    values = (cells % 7 + 1).astype(np.float32)
    np.arange(0, 10_001 * len(cells), len(cells), dtype=np.int64).tofile(place / "p")
    with (place / "i").open("wb") as indices, (place / "d").open("wb") as data:
        for _ in range(100):
            indices.write(np.tile(cells, 100).tobytes())
            data.write(np.tile(values, 100).tobytes())


def write_dense(place: Path) -> None:
    with (place / "w").open("wb") as file:
        file.truncate(400_000_000)


@pytest.mark.hazard(10)
@pytest.mark.parametrize(("kind", "write"), [("sparse", write_sparse), ("dense", write_dense)])
def test_no_question_copies_the_matrix(tmp_path: Path, kind: str, write: object) -> None:
    assert callable(write)
    write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path, kind, str(ROOM)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    assert json.loads(done.stdout) == 5
