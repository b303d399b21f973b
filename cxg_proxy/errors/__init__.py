"""What can go wrong, in the user's words: what happened, to which thing, and what to do next.

Nothing here knows HTTP; `handlers` holds the one table of status codes. A worker sends its problem to the
gateway as JSON (`Problem.to_json`), so that both sides speak of it in the same words: all of them are loaded here.
"""

from .datasets import (
    BadOptions,
    ChangedMeanwhile,
    DamagedFile,
    DatasetNotFound,
    NoEmbedding,
    NotDownloaded,
    NotH5ad,
    NotReadable,
    NotViewable,
    OutsideLibraries,
    StorageSilent,
)
from .gateway import (
    BadConfiguration,
    BadRequest,
    CannotListen,
    NoSuchInstance,
    NoSuchPage,
    NothingChosen,
    ReadOnly,
    Refused,
    TooLarge,
)
from .labels import (
    LabelsNotCertain,
    LabelsNotReadable,
    LabelsNotSaved,
    NoSuchVersion,
    NothingSaved,
    NotPrepared,
    NotSent,
    Replaced,
)
from .problem import Problem
from .stores import NoRoom, StoreNotWritten
from .viewers import (
    Busy,
    Died,
    NoAnswer,
    NotEnoughMemory,
    StartTimeout,
    StillPreparing,
    Stopped,
    TooManyInstances,
    ViewerMismatch,
    ViewerMissing,
)

__all__ = [
    "BadConfiguration",
    "BadOptions",
    "BadRequest",
    "Busy",
    "CannotListen",
    "ChangedMeanwhile",
    "DamagedFile",
    "DatasetNotFound",
    "Died",
    "LabelsNotCertain",
    "LabelsNotReadable",
    "LabelsNotSaved",
    "NoAnswer",
    "NoEmbedding",
    "NoRoom",
    "NoSuchInstance",
    "NoSuchPage",
    "NoSuchVersion",
    "NotDownloaded",
    "NotEnoughMemory",
    "NotH5ad",
    "NotPrepared",
    "NotReadable",
    "NotSent",
    "NotViewable",
    "NothingChosen",
    "NothingSaved",
    "OutsideLibraries",
    "Problem",
    "ReadOnly",
    "Refused",
    "Replaced",
    "StartTimeout",
    "StillPreparing",
    "Stopped",
    "StorageSilent",
    "StoreNotWritten",
    "TooLarge",
    "TooManyInstances",
    "ViewerMismatch",
    "ViewerMissing",
]
