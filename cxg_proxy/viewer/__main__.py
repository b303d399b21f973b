"""The viewer's command line: `serve` or `summarize` datasets, `annotate` a copy of one, `check` a table of labels.

`build` makes the store of one; `preload` waits for the order to `serve`, with everything imported; `compile` is for who
installs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxg_proxy.worker_options import BUILD_MEMORY_BYTES, ServeOrder, json_object, positive


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the command line names; return the exit status."""
    parsed = _parser().parse_args(arguments)
    status: int = parsed.run(parsed)
    return status


# Each command imports its own heavy libraries, after it has reported that it starts.


def _serve(parsed: argparse.Namespace) -> int:
    from .serve import serve  # noqa: PLC0415 - see above

    return serve(ServeOrder.parse(parsed))


def _summarize(parsed: argparse.Namespace) -> int:
    from cxg_proxy.viewer.jobs.summarize import summarize  # noqa: PLC0415 - see above

    return summarize(sys.stdin.buffer, sys.stdout.buffer)


def _annotate(parsed: argparse.Namespace) -> int:
    from cxg_proxy.viewer.jobs.annotate import annotate  # noqa: PLC0415 - see above

    from .child import JobOrder  # noqa: PLC0415 - see above

    return annotate(JobOrder(parsed.dataset, parsed.labels, parsed.options, parsed.output))


def _check(parsed: argparse.Namespace) -> int:
    from cxg_proxy.viewer.jobs.check import CheckOrder, check  # noqa: PLC0415 - see above

    return check(CheckOrder(parsed.dataset, parsed.labels, parsed.options, parsed.output, parsed.input))


def _preload(parsed: argparse.Namespace) -> int:
    from .fork_server import preload  # noqa: PLC0415 - the other commands do not need it

    return preload(parsed.control, main)


def _compile(parsed: argparse.Namespace) -> int:
    from .precompile import precompile  # noqa: PLC0415 - see above

    precompile()
    return 0


def _build(parsed: argparse.Namespace) -> int:
    from cxg_proxy.viewer.jobs.build_store import BuildOrder, prepare  # noqa: PLC0415 - see above

    return prepare(
        BuildOrder(
            dataset=parsed.dataset,
            cache=parsed.cache,
            shared=parsed.shared_cache,
            limit=parsed.cache_limit,
            memory=parsed.build_memory,
            layer=parsed.layer,
            as_shown=parsed.as_shown,
            for_others=parsed.for_others,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxg_proxy.viewer", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    one = _for_one_dataset()
    serve = commands.add_parser("serve", help="show one dataset", allow_abbrev=False)
    serve.set_defaults(run=_serve)
    ServeOrder.add_arguments(serve)
    summarize = commands.add_parser(
        "summarize", help="describe datasets: one JSON path per line in, one JSON object per line out"
    )
    summarize.set_defaults(run=_summarize)
    annotate = commands.add_parser(
        "annotate", parents=[one], help="copy a dataset with the labels in it", allow_abbrev=False
    )
    annotate.set_defaults(run=_annotate)
    annotate.add_argument("--output", required=True, help="the file to make")
    compiling = commands.add_parser("compile", help="compile all code now, not when it is first used")
    compiling.set_defaults(run=_compile)
    check = commands.add_parser(
        "check", parents=[one], help="compare a table of labels with a dataset", allow_abbrev=False
    )
    check.set_defaults(run=_check)
    check.add_argument("--input", required=True, help="the table, as CSV")
    check.add_argument("--output", required=True, help="the file to make: the labels in the dataset's order")
    preload = commands.add_parser("preload", help="fork workers as the gateway asks for them", allow_abbrev=False)
    preload.set_defaults(run=_preload)
    preload.add_argument("--control", type=int, required=True, help="descriptor of the socket to the gateway")
    preload.add_argument("room", nargs="?", help="blanks, in the place of which a worker's command line is shown")
    _add_build(commands)
    return parser


def _add_build(commands: Any) -> None:
    wanted = _for_stores(required=True)
    build = commands.add_parser("build", parents=[wanted], help="make the store of a dataset", allow_abbrev=False)
    build.set_defaults(run=_build)
    build.add_argument("--layer", help="the layer that stands for X")
    build.add_argument(
        "--as-shown", action="store_true", help="without --layer, that of the options beside the dataset"
    )
    build.add_argument("--for-others", action="store_true", help="let who may read the dataset read its store")
    build.add_argument("dataset", help="the .h5ad file")


def _for_stores(*, required: bool = False) -> argparse.ArgumentParser:
    stores = argparse.ArgumentParser(add_help=False)
    stores.add_argument("--cache", type=Path, required=required, help="directory of what can be computed again")
    stores.add_argument("--shared-cache", type=Path, help="directory of stores prepared by an administrator")
    stores.add_argument("--cache-limit", type=int, help="bytes that stores may take; 0 keeps none")
    stores.add_argument(
        "--build-memory", type=positive, default=BUILD_MEMORY_BYTES, help="bytes a builder may work with"
    )
    return stores


def _for_one_dataset() -> argparse.ArgumentParser:
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("--labels", required=True, type=Path, help="directory of this user's labels for this dataset")
    one.add_argument("--options", default={}, type=json_object, help="cellxgene's options, as a JSON object")
    one.add_argument("dataset", help="the .h5ad file")
    return one


if __name__ == "__main__":
    sys.exit(main())
