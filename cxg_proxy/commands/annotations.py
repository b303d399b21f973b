"""The command `cxg-proxy annotations`: it lists, shows, restores and exports the saved annotations of a dataset."""

import argparse
import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from cxg_proxy import annotations, formatting
from cxg_proxy.annotations import GENE_SETS, LABELS, NoSuchVersion, Version
from cxg_proxy.annotations.tables import UNASSIGNED, Malformed, count_labels, read_gene_sets
from cxg_proxy.errors import Problem

NOTHING, USAGE = 1, 2  # exit statuses

HOME = Path("~/cellxgene")
_BAR = 24  # characters
_MAX_LABELS = 40
_DESCRIPTION = """Labels and gene sets that were made in the viewer, with every version that is kept.

They lie in a folder of their own for each dataset, below the folder --home. DATASET is the .h5ad file, which need not
exist any more. A version is named by the beginning of its name, as far as it is unique."""
_EPILOG = """
    cxg-proxy annotations list pbmc.h5ad
    cxg-proxy annotations show pbmc.h5ad 20261123T1402
    cxg-proxy annotations restore pbmc.h5ad 20261123T1402
    cxg-proxy annotations export pbmc.h5ad -o labels.csv
"""


class Mistake(Exception):
    """The request cannot be fulfilled; the text says why and what to do, and the status is the exit status."""

    def __init__(self, text: str, status: int = NOTHING):
        super().__init__(text)
        self.status = status


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status: 0, 1 if the request cannot be fulfilled, 2 if it is wrong."""
    for stream in (sys.stdout, sys.stderr):  # a terminal may not support every character of a name
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    parsed = _parser().parse_args(arguments)
    where = annotations.directory(parsed.home.expanduser(), parsed.dataset.expanduser())
    try:
        status: int = parsed.run(where, parsed) or 0
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Mistake as mistake:
        return _fail(str(mistake), mistake.status)
    except Problem as problem:
        return _fail(f"{problem.sentence} {problem.steps[0]}", NOTHING)
    except OSError as error:
        file = error.filename if isinstance(error.filename, str) else where
        return _fail(f"{file}: {error.strerror or error}.", NOTHING)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cxg-proxy annotations",
        description=_DESCRIPTION,
        epilog=f"examples:{_EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="list|show|restore|export")
    _add(commands, "list", _list, "every version: when it was saved, and what changed", chosen="")
    _add(commands, "show", _show, "how many cells have each label, how many genes are in each set", chosen="?")
    _add(commands, "restore", _restore, "make a version the current one again", chosen="VERSION")
    export = _add(commands, "export", _export, "write the labels, or the gene sets, as a CSV file", chosen="?")
    kind = export.add_mutually_exclusive_group()
    kind.add_argument("--labels", action="store_true", help="the labels, as without this option")
    kind.add_argument("--gene-sets", action="store_true", help="the gene sets instead of the labels")
    export.add_argument("-o", "--output", metavar="FILE", default="-", help="the file to write; - is the terminal")
    export.add_argument("--force", action="store_true", help="replace FILE if there is one")
    return parser


def _add(commands: Any, name: str, run: Any, text: str, *, chosen: str) -> argparse.ArgumentParser:
    """Add a subcommand.

    `chosen` sets whether it takes a version: "" for never, "?" for optional (the default is the current one), and any
    other text for required.
    """
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=run)
    command.add_argument("dataset", metavar="DATASET", type=Path, help="the .h5ad file")
    if chosen:
        nargs = "?" if chosen == "?" else None
        command.add_argument("version", metavar="VERSION", nargs=nargs, help="the beginning of a version's name")
    command.add_argument("--home", type=Path, default=HOME, help="the gateway's --home (%(default)s)")
    if name in ("list", "show"):
        command.add_argument("--json", action="store_true", help="for programs")
    return command


# --- the commands --------------------------------------------------------------------------------------------------


def _list(where: Path, parsed: argparse.Namespace) -> None:
    versions = _versions(where, parsed)
    current = {each.id for each in versions if _is_current(where, each)}
    if parsed.json:
        _say(json.dumps([{**asdict(each), "current": each.id in current} for each in versions]))
        return
    _say(f"Labels and gene sets of {parsed.dataset}, kept in {where}")
    for each in versions:
        mark = "*" if each.id in current else " "
        _say(f"{mark} {_short(each)}  {_when(each.time)}  {_size(each.size):>8}  {_changes(each)}")
    _say("* is the current one. `cxg-proxy annotations restore` brings another back.")


def _show(where: Path, parsed: argparse.Namespace) -> None:
    contents = _contents(where, parsed)
    try:
        tables = {kind: _counted(kind, content) for kind, content in contents.items()}
    except Malformed as error:
        raise Mistake(
            f"This version cannot be read: {error} `cxg-proxy annotations export` gives it as it is."
        ) from error
    if parsed.json:
        _say(json.dumps(tables))
        return
    for kind, columns in tables.items():
        for name, counts in columns.items():
            _say(f"{formatting.printable(name)}" if kind == "labels" else "Gene sets")
            _bars(counts)


def _restore(where: Path, parsed: argparse.Namespace) -> None:
    version = _chosen(_versions(where, parsed), parsed.version)
    if _is_current(where, version):
        _say(f"{_short(version)} is the current version already.")
        return
    try:
        annotations.restore(where, version.id)
    except NoSuchVersion as error:
        raise Mistake(f"{_short(version)} is damaged and cannot be restored; choose another version.") from error
    _say(f"The {_noun(version.kind)} are again those of {_when(version.time)}.")
    _, *older = (each for each in annotations.versions(where) if each.kind == version.kind)
    if older:
        command = ["cxg-proxy", "annotations", "restore", str(parsed.dataset), _short(older[0])]
        home = [] if parsed.home == HOME else ["--home", str(parsed.home)]
        _say(f"To undo this: {shlex.join([*command, *home])}")


def _export(where: Path, parsed: argparse.Namespace) -> None:
    kind = "gene-sets" if parsed.gene_sets else "labels"
    content = _contents(where, parsed).get(kind)
    if content is None:
        other = "labels: leave --gene-sets out" if parsed.gene_sets else "gene sets: add --gene-sets"
        raise Mistake(f"There are no {_noun(kind)} in it, only {other}.")
    if parsed.output == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        with open(parsed.output, "wb" if parsed.force else "xb") as file:
            file.write(content)
    except FileExistsError as error:
        raise Mistake(
            f"{parsed.output} exists already; name another file, or add --force to replace it.", USAGE
        ) from error


# --- reading -------------------------------------------------------------------------------------------------------


def _versions(where: Path, parsed: argparse.Namespace) -> list[Version]:
    versions = annotations.versions(where)
    if not versions and annotations.saved(where) is None:
        raise Mistake(
            f"Nothing was saved for {parsed.dataset}: it would be in {where}. Was the file moved? Then give its old "
            "path. Are the labels elsewhere? Then add --home."
        )
    return versions


def _chosen(versions: Sequence[Version], start: str) -> Version:
    matches = [each for each in versions if each.id.startswith(start)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(_short(each) for each in matches[:5])
        raise Mistake(f"{len(matches)} versions begin with {start!r}: {names}; write more of the name.", USAGE)
    raise Mistake(f"No version begins with {start!r}; `cxg-proxy annotations list` names them all.")


def _contents(where: Path, parsed: argparse.Namespace) -> dict[str, bytes]:
    """Return the content of the chosen version, or of the current files, by kind."""
    versions = _versions(where, parsed)
    if parsed.version is not None:
        version = _chosen(versions, parsed.version)
        try:
            return {version.kind: annotations.read_version(where, version.id)}
        except NoSuchVersion as error:
            raise Mistake(f"{_short(version)} is damaged; choose another version.") from error
    files = {"labels": annotations.read(where, LABELS), "gene-sets": annotations.read(where, GENE_SETS)}
    return {kind: content for kind, content in files.items() if content is not None}


def _is_current(where: Path, version: Version) -> bool:
    content = None
    with contextlib.suppress(OSError):  # other commands report the error when it matters
        content = annotations.read(where, LABELS if version.kind == "labels" else GENE_SETS)
    return content is not None and f"-{annotations.digest(content)}-" in version.id


def _counted(kind: str, content: bytes) -> dict[str, dict[str, int]]:
    if kind == "labels":
        return count_labels(content)
    return {"gene sets": {each.name: len(each.genes) for each in read_gene_sets(content).values()}}


# --- output --------------------------------------------------------------------------------------------------------


def _short(version: Version) -> str:
    """Shorten a name to its time and kind, which no two versions share."""
    return version.id.rpartition(version.kind)[0] + version.kind


def _noun(kind: str) -> str:
    return "labels" if kind == "labels" else "gene sets"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _size(value: int) -> str:
    return formatting.size(value).replace("\u00a0", " ")


def _changes(version: Version) -> str:
    """Describe in words what changed."""
    unit = "cell" if version.kind == "labels" else "gene"
    changes = [
        f"{formatting.count(count, unit)} in {formatting.printable(name)}" for name, count in version.changed.items()
    ]
    text = ", ".join(changes) or "no labels changed"
    text += f" ({version.origin})" if version.origin != "saved" else ""
    text += (
        f"; {', '.join(map(formatting.printable, version.replaced))} had been changed elsewhere too"
        if version.replaced
        else ""
    )
    return text + ("; partly replaced by a save from elsewhere" if version.lost else "")


def _bars(counts: Mapping[str, int]) -> None:
    """Write each label with a bar; unassigned cells have none, since it would dwarf all others."""
    shown = [(label, count) for label, count in counts.items() if label != UNASSIGNED]
    most = max([count for _, count in shown] or [1]) or 1
    for label, count in shown[:_MAX_LABELS]:
        bar = "█" * max(count > 0, round(_BAR * count / most))
        _say(f"  {count:>9,}  {bar:<{_BAR}}  {formatting.printable(label)}")
    if len(shown) > _MAX_LABELS:
        _say(f"  and {len(shown) - _MAX_LABELS} more")
    if counts.get(UNASSIGNED):
        _say(f"  {counts[UNASSIGNED]:>9,}  {'':<{_BAR}}  {UNASSIGNED}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _fail(text: str, status: int) -> int:
    sys.stderr.write(f"cxg-proxy annotations: {text}\n")
    return status
