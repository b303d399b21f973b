"""Display of the live viewer in the output of a notebook cell: `cxg_proxy.show`."""

from __future__ import annotations

import html
import importlib
import json
import os
import shlex
import sys
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

_WHERE = "cellxgene shows {} here when this cell is run in JupyterLab or Notebook 7, on a server with cxg-proxy."
_ELSEWHERE = "Elsewhere, run this at a terminal of the machine that holds the file:"
_SCRIPT = "show.js"
# These characters are escaped inside a script: `</script>` would end it, and `<!--` would change how it is parsed.
_NOT_IN_A_SCRIPT = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&'`"}


def show(path: str | os.PathLike[str], height: int = 700) -> None:
    """Display the live viewer of the dataset at `path` in the output of this cell.

    In JupyterLab and Notebook 7, also under JupyterHub and on a Binder. Elsewhere (VS Code, a terminal) the output says
    what to do. What you label in it, `cxg_proxy.labels` reads.

    Parameters
    ----------
    path
        The `.h5ad` file. It must lie in a folder that cellxgene shows: your own, or a library of your server.
    height
        The viewer's height in pixels.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    IsADirectoryError
        It is a folder.
    ValueError
        The height is no positive number.

    Examples
    --------
    >>> cxg_proxy.show("data/pbmc.h5ad", height=600)  # doctest: +SKIP
    """
    file = Path(path).expanduser().absolute()
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder. Name one of the .h5ad files in it.")
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}. A path that is not absolute begins in {Path.cwd()}.")
    if not height > 0:
        raise ValueError(f"A viewer that is {height} pixels high cannot be seen. The usual height is 700.")
    _display({"text/html": _output(file, int(height)), "text/plain": _text(file)})


def _display(output: dict[str, str]) -> None:
    """Display the output through IPython in a notebook, and print it as plain text elsewhere."""
    running: Any = sys.modules.get("IPython")
    if running is None or running.get_ipython() is None:
        print(output["text/plain"])  # noqa: T201 - the output is for a person
    else:
        importlib.import_module("IPython.display").display(output, raw=True)


def _text(file: Path) -> str:
    return f"{_WHERE.format(_plain(file.name))} {_ELSEWHERE}\n\n    {_command(file)}"


def _command(file: Path) -> str:
    return f"cxg-proxy {_plain(shlex.quote(str(file)))}"


def _output(file: Path, height: int) -> str:
    """Return the text for pages where no script runs, and the script that replaces it with the viewer."""
    name, command = html.escape(_plain(file.name)), html.escape(_command(file))
    script = resources.files(__package__).joinpath(_SCRIPT).read_text(encoding="utf-8")
    # Each special byte of the path is escaped, since a path need not be valid text.
    arguments = json.dumps({"path": quote(os.fsencode(file), safe="/"), "height": height}).translate(_NOT_IN_A_SCRIPT)
    return (
        f"<div><p>{_WHERE.format(f'<code>{name}</code>')} {_ELSEWHERE}</p>"
        f"<pre>{command}</pre></div>\n<script>(\n{script})(document.currentScript, {arguments});</script>"
    )


def _plain(text: str) -> str:
    """Return a name as text; bytes that are not valid UTF-8 become replacement characters."""
    return os.fsencode(text).decode(errors="replace")
