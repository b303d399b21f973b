"""The status code of each problem, in the one table that gateway and worker share.

A worker replies to cellxgene's page with these codes, and the gateway to everybody else.
"""

from __future__ import annotations

from . import errors

# A subclass that is not named here takes its parent's.
STATUS: dict[type[errors.Problem], int] = {
    errors.Problem: 500,
    errors.DatasetNotFound: 404,
    errors.OutsideLibraries: 404,
    errors.NoSuchPage: 404,
    errors.BadRequest: 400,
    errors.NotReadable: 403,
    errors.Refused: 403,
    errors.TooLarge: 413,
    errors.NotH5ad: 422,
    errors.DamagedFile: 422,
    errors.NoEmbedding: 422,
    errors.NotViewable: 422,
    errors.BadOptions: 422,
    errors.ViewerMissing: 503,
    errors.ViewerMismatch: 503,
    errors.NotDownloaded: 502,
    errors.StorageSilent: 503,
    errors.NotEnoughMemory: 503,
    errors.StartTimeout: 503,
    errors.TooManyInstances: 503,
    errors.Stopped: 503,
    errors.Died: 503,
    errors.NoAnswer: 502,
    errors.Replaced: 409,
    errors.ChangedMeanwhile: 503,
    errors.Busy: 503,
    errors.LabelsNotSaved: 507,
    errors.LabelsNotReadable: 422,
    errors.NoSuchVersion: 404,
    errors.NotPrepared: 507,
    errors.StoreNotWritten: 507,
    errors.NotSent: 502,
    errors.StillPreparing: 503,
    errors.BadConfiguration: 500,
    errors.CannotListen: 500,
}


def status_of(problem: errors.Problem) -> int:
    """The status code of a problem."""
    return next(STATUS[kind] for kind in type(problem).__mro__ if kind in STATUS)
