"""One user's labels and gene sets for one dataset: two CSV files and their history, which only this package writes."""

from .folder import (
    DATASET,
    GENE_SETS,
    LABELS,
    DatasetRecord,
    directory,
    display_name,
    identifiers_digest,
    named,
    read,
    read_record,
    same_cells,
    saved,
    version,
)
from .history import LIMIT, NoSuchVersion, Version, digest
from .merge import SeenState
from .store import Outcome, adopt, read_version, restore, versions, write

__all__ = [
    "DATASET",
    "GENE_SETS",
    "LABELS",
    "LIMIT",
    "DatasetRecord",
    "NoSuchVersion",
    "Outcome",
    "SeenState",
    "Version",
    "adopt",
    "digest",
    "directory",
    "display_name",
    "identifiers_digest",
    "named",
    "read",
    "read_record",
    "read_version",
    "restore",
    "same_cells",
    "saved",
    "version",
    "versions",
    "write",
]
