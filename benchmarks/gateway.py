"""The gateway's costs: its start, its memory, the list of 1,000 datasets, and what it adds to an exchange.

It prints a table that compares the gateway with direct requests to the worker in the same run. `make bench` runs it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import psutil

from gateways import Gateway, UnixConnection, running_gateway
from waiting import until_now

DATASETS = 1000
BIG = 300_000_000


def times(work: Callable[[], object], count: int) -> tuple[float, float]:
    """Return the median and 95th percentile of `count` calls, in milliseconds."""
    seen = []
    for _ in range(count):
        begin = time.perf_counter()
        work()
        seen.append(1000 * (time.perf_counter() - begin))
    return statistics.median(seen), statistics.quantiles(seen, n=20)[-1]


def getter(path: str, target: str) -> Callable[[], object]:
    """Return a function that requests a target over one kept-alive connection."""
    connection = UnixConnection(path)

    def get() -> object:
        connection.request("GET", target, headers={"Accept": "text/html"})
        return connection.getresponse().read()

    return get


def throughput(path: str, target: str) -> float:
    """Return the MB/s of a large reply, as the median of three."""
    seen = []
    for _ in range(3):
        connection = UnixConnection(path)
        begin = time.perf_counter()
        connection.request("GET", target)
        response = connection.getresponse()
        while response.read(1 << 20):
            pass
        seen.append(BIG / 1e6 / (time.perf_counter() - begin))
        connection.close()
    return statistics.median(seen)


def worker_socket(gateway: Gateway) -> str:
    """Return the socket of the one running worker."""
    return next(word for each in gateway.workers() for word in each.cmdline() if word.endswith(".sock"))


@dataclass(frozen=True)
class Exchange:
    """The median time of a small reply in milliseconds, and the MB/s of a large one."""

    small: float
    large: float


def exchanges(gateway: Gateway) -> tuple[Exchange, Exchange]:
    """Measure exchanges through the gateway, and directly with the worker."""
    gateway.open("data/dataset-0000.h5ad")
    small, direct = "/view/data/dataset-0000.h5ad/api", worker_socket(gateway)
    through, alone = times(getter(gateway.path, small), 500)[0], times(getter(direct, "/api"), 500)[0]
    fast, straight = throughput(gateway.path, f"{small}?bytes={BIG}"), throughput(direct, f"/api?bytes={BIG}")
    return Exchange(through, fast), Exchange(alone, straight)


def main() -> None:
    """Run everything and print the table."""
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        for n in range(DATASETS):
            (folder / "data" / f"dataset-{n:04}.h5ad").write_bytes(b"")
        starts = []
        for _ in range(5):
            begin = time.perf_counter()
            with running_gateway(folder) as gateway:
                gateway.get("/api/health")
                starts.append(time.perf_counter() - begin)
        rows.append(("start to first reply, median of 5", f"{statistics.median(starts):.2f} s", "-"))
        with running_gateway(folder) as gateway:
            until_now(lambda: gateway.get("/api/datasets?folder=data").json["total"] == DATASETS)
            until_now(lambda: not any(card["pending"] for card in gateway.get("/api/datasets").json["datasets"]))
            for target, said in [
                ("/", "library of 1000 datasets (60 cards)"),
                ("/instances", "running viewers"),
                ("/?q=dataset-05", "search in 1000 datasets"),
            ]:
                median, slow = times(getter(gateway.path, target), 300)
                rows.append((f"{said}, p50 and p95", f"{median:.1f} and {slow:.1f} ms", "-"))
            through, alone = exchanges(gateway)
            rows.append(("small reply, p50", f"{through.small:.2f} ms", f"{alone.small:.2f} ms"))
            rows.append(("reply of 300 MB", f"{through.large:.0f} MB/s", f"{alone.large:.0f} MB/s"))
            memory = psutil.Process(gateway.process.pid).memory_info().rss / 1e6
            rows.append(("memory after all this (RSS)", f"{memory:.0f} MB", "-"))
    print(f"{'':<55}{'gateway':>20}{'worker directly':>18}")
    for what, ours, plain in rows:
        print(f"{what:<55}{ours:>20}{plain:>18}")


if __name__ == "__main__":
    main()
