"""Which address is answered by which handler."""

from __future__ import annotations

from typing import Any

from cxg_proxy.errors import Problem
from cxg_proxy.gateway.services import Desk

from .annotations import AnnotatedFile, LabelsChange, LabelsFile, LabelsPage
from .handler import STATIC, Broken, NotFound, Static
from .instances import InstanceAction, InstancesPage, Progress
from .library import Find, LibraryPage, Preview
from .monitoring import Health, Metrics
from .upload import LabelsUpload
from .viewer import View


def broken_routes(problem: Problem) -> list[tuple[Any, ...]]:
    """What a gateway answers whose configuration is wrong: the same page everywhere."""
    return [(r"/static/(.+)", Static, {"path": STATIC}), (r".*", Broken, {"problem": problem})]


def routes(desk: Desk) -> list[tuple[Any, ...]]:
    """All addresses, below whatever prefix the host adds and strips."""
    with_desk = {"desk": desk}
    return [
        (r"/", LibraryPage, with_desk),
        (r"/api/datasets", LibraryPage, with_desk),
        (r"/instances", InstancesPage, with_desk),
        (r"/api/instances", InstancesPage, with_desk),
        (r"/api/instances/([0-9a-f]{16})/(stop|retry)", InstanceAction, with_desk),
        (r"/api/find", Find, with_desk),
        (r"/api/progress/(.+)", Progress, with_desk),
        (r"/api/preview/(.+)", Preview, with_desk),
        (r"/annotations/(.+)", LabelsPage, with_desk),
        (r"/api/annotations/(.+\.h5ad)/(labels|gene-sets)\.csv", LabelsFile, with_desk),
        (r"/api/annotations/(.+\.h5ad)/annotated\.h5ad", AnnotatedFile, with_desk),
        (r"/api/annotations/(.+\.h5ad)/upload", LabelsUpload, with_desk),
        (r"/api/annotations/(.+\.h5ad)/(restore|adopt|save|cancel|send)", LabelsChange, with_desk),
        (r"/api/annotations/(.+)", LabelsPage, with_desk),
        (r"/api/health", Health, with_desk),
        (r"/metrics", Metrics, with_desk),
        (r"/static/(.+)", Static, {"path": STATIC}),
        (r"/view/.+", View, with_desk),
        (r".*", NotFound, with_desk),
    ]
