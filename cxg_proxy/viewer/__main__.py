"""The viewer's command line: `serve` or `summarize` datasets, `annotate` a copy of one, `check` a table of labels."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxg_proxy.annotations import LIMIT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    status: int = parsed.run(parsed)
    return status


# Each command imports its own heavy libraries, after it has said its first word.


def _serve(parsed: argparse.Namespace) -> int:
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
            history_limit=parsed.history_limit,
        )
    )


def _summarize(parsed: argparse.Namespace) -> int:
    from .summarize import summarize  # noqa: PLC0415 - see above

    return summarize(sys.stdin.buffer, sys.stdout.buffer)


def _annotate(parsed: argparse.Namespace) -> int:
    from .annotated import Order, annotate  # noqa: PLC0415 - see above

    return annotate(Order(parsed.dataset, parsed.labels, parsed.options, parsed.output))


def _check(parsed: argparse.Namespace) -> int:
    from .check import Order, check  # noqa: PLC0415 - see above

    return check(Order(parsed.dataset, parsed.labels, parsed.options, parsed.input, parsed.output))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxg_proxy.viewer", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    one = _for_one_dataset()
    serve = commands.add_parser("serve", parents=[one], help="show one dataset", allow_abbrev=False)
    serve.set_defaults(run=_serve)
    serve.add_argument("--socket", required=True, help="path of the unix socket to make")
    serve.add_argument("--read-only", action="store_true", help="save neither labels nor gene sets")
    serve.add_argument("--memory-limit", type=_positive, default=None, help="bytes the worker may use")
    serve.add_argument("--threads", type=_positive, default=4, help="requests answered at once")
    serve.add_argument(
        "--history-limit", type=_positive, default=LIMIT, help="bytes that old versions of labels may take"
    )
    summarize = commands.add_parser(
        "summarize", help="describe datasets: one JSON path per line in, one JSON object per line out"
    )
    summarize.set_defaults(run=_summarize)
    annotate = commands.add_parser(
        "annotate", parents=[one], help="copy a dataset with the labels in it", allow_abbrev=False
    )
    annotate.set_defaults(run=_annotate)
    annotate.add_argument("--output", required=True, help="the file to make")
    check = commands.add_parser(
        "check", parents=[one], help="compare a table of labels with a dataset", allow_abbrev=False
    )
    check.set_defaults(run=_check)
    check.add_argument("--input", required=True, help="the table, as CSV")
    check.add_argument("--output", required=True, help="the file to make: the labels in the dataset's order")
    return parser


def _for_one_dataset() -> argparse.ArgumentParser:
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("--labels", required=True, type=Path, help="directory of this user's labels for this dataset")
    one.add_argument("--options", default={}, type=_options, help="cellxgene's options, as a JSON object")
    one.add_argument("dataset", help="the .h5ad file")
    return one


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
