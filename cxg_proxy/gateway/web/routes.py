"""The routes: which handler replies at which address."""

from __future__ import annotations

from typing import Any

from cxg_proxy.errors import Problem
from cxg_proxy.gateway.services import Services

from .annotations import AnnotatedFile, LabelsChange, LabelsFile, LabelsPage
from .handler import STATIC, Broken, NotFound, Static
from .instances import InstanceAction, InstancesPage, Progress
from .library import Find, LibraryPage, Preview
from .monitoring import Health, Metrics
from .upload import LabelsUpload
from .viewer import View


def broken_routes(problem: Problem) -> list[tuple[Any, ...]]:
    """Return the routes of a gateway whose configuration is wrong: the same page everywhere."""
    return [(r"/static/(.+)", Static, {"path": STATIC}), (r".*", Broken, {"problem": problem})]


def routes(services: Services) -> list[tuple[Any, ...]]:
    """Return all routes, without the prefix that the host may add in front and strip."""
    with_services = {"services": services}
    return [
        (r"/", LibraryPage, with_services),
        (r"/api/datasets", LibraryPage, with_services),
        (r"/instances", InstancesPage, with_services),
        (r"/api/instances", InstancesPage, with_services),
        (r"/api/instances/([0-9a-f]{16})/(stop|retry)", InstanceAction, with_services),
        (r"/api/find", Find, with_services),
        (r"/api/progress/(.+)", Progress, with_services),
        (r"/api/preview/(.+)", Preview, with_services),
        (r"/annotations/(.+)", LabelsPage, with_services),
        (r"/api/annotations/(.+\.h5ad)/(labels|gene-sets)\.csv", LabelsFile, with_services),
        (r"/api/annotations/(.+\.h5ad)/annotated\.h5ad", AnnotatedFile, with_services),
        (r"/api/annotations/(.+\.h5ad)/upload", LabelsUpload, with_services),
        (r"/api/annotations/(.+\.h5ad)/(restore|adopt|save|cancel|send)", LabelsChange, with_services),
        (r"/api/annotations/(.+)", LabelsPage, with_services),
        (r"/api/health", Health, with_services),
        (r"/metrics", Metrics, with_services),
        (r"/static/(.+)", Static, {"path": STATIC}),
        (r"/view/.+", View, with_services),
        (r".*", NotFound, with_services),
    ]
