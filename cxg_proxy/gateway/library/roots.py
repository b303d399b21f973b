"""Which folders the library shows: those that were named, the user's own, or one file alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .library import SUFFIX, Dataset

SINGLE = "dataset"  # the library of a file that is shown alone
LONGEST_NAME = 200  # bytes, so that a file's name has room for what we add


def folders(libraries: Mapping[str, str], root: str) -> dict[str, Path]:
    """The libraries by name, with the host's or the user's own folder first where there is one."""
    roots = {name: Path(folder).expanduser().absolute() for name, folder in libraries.items()}
    if root or not roots:
        first = Path(root or "~").expanduser().absolute()
        roots = {"home": first, **{name: folder for name, folder in roots.items() if name != "home"}}
    return roots


def alone(file: str, title: str, place: Path) -> dict[str, Path]:
    """A library of one, in a private folder of the gateway: a link with the title as its name.

    The file itself may have any name and suffix (Galaxy's is dataset_12.dat), but a viewer needs the right one.
    """
    path = Path(file).expanduser().absolute()
    folder = place / SINGLE
    folder.mkdir(mode=0o700)
    (folder / file_name(title or path.name.removesuffix(SUFFIX))).symlink_to(path)
    return {SINGLE: folder}


def other_name(shown: Mapping[str, Path], dataset: Dataset) -> str:
    """What a dataset is called in another library that holds its file too, or "". No disk is asked.

    A link at home leads to a file as well as the shared library does that it lies in.
    """
    for library, folder in shown.items():
        if library != dataset.library and dataset.real.is_relative_to(folder):
            path = dataset.real.relative_to(folder)
            if not any(part.startswith(".") for part in path.parts):  # else it is hidden there
                return f"{library}/{path}"
    return ""


def only(shown: Mapping[str, Path]) -> str:
    """The name of the file that is shown alone."""
    ((library, folder),) = shown.items()
    return f"{library}/{os.listdir(folder)[0]}"


def file_name(title: str) -> str:
    """A title as the name of a dataset's file, as near as a name can be."""
    name = "".join("_" if letter in "/\0" else letter for letter in title).strip().lstrip(".")
    name = name.removesuffix(SUFFIX)
    while len(os.fsencode(name.encode(errors="surrogateescape"))) > LONGEST_NAME:
        name = name[:-1]
    return (name or SINGLE) + SUFFIX
