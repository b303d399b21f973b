"""The worker's command line: `serve` one dataset on a unix socket, or `summarize` many for the list of datasets."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker that the command line asks for; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    # Each command imports its own heavy libraries, after it has said its first word.
    if parsed.command == "summarize":
        from .summarize import summarize  # noqa: PLC0415 - see above

        return summarize(sys.stdin.buffer, sys.stdout.buffer)
    from .serve import Order, serve  # noqa: PLC0415 - see above

    return serve(
        Order(
            dataset=parsed.dataset,
            socket=parsed.socket,
            labels=parsed.labels,
            options=parsed.options,
            read_only=parsed.read_only,
            memory_limit=parsed.memory_limit,
            threads=parsed.threads,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxg_proxy.viewer", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="show one dataset", allow_abbrev=False)
    serve.add_argument("--socket", required=True, help="path of the unix socket to make")
    serve.add_argument("--labels", required=True, type=Path, help="directory of this user's labels for this dataset")
    serve.add_argument("--options", default={}, type=_options, help="cellxgene's options, as a JSON object")
    serve.add_argument("--read-only", action="store_true", help="save neither labels nor gene sets")
    serve.add_argument("--memory-limit", type=_positive, default=None, help="bytes the worker may use")
    serve.add_argument("--threads", type=_positive, default=4, help="requests answered at once")
    serve.add_argument("dataset", help="the .h5ad file")
    commands.add_parser("summarize", help="describe datasets: one JSON path per line in, one JSON object per line out")
    return parser


def _options(text: str) -> dict[str, Any]:
    options = json.loads(text)
    if not isinstance(options, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
