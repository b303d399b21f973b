"""The scripts that the gateway adds to cellxgene's page, and the state of the viewer that they request."""

from __future__ import annotations

import json
from importlib import resources

from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.gateway.services import Services
from cxg_proxy.gateway.workers.command import SCRIPTS
from cxg_proxy.steps import Phase

_FOLDER = resources.files(__package__) / "injected"
TEXTS = {address: (_FOLDER / file).read_bytes() for address, file in SCRIPTS.items()}
_LOOK = json.dumps((_FOLDER / "strip.css").read_text())
TEXTS["viewer.js"] = f"globalThis.LOOK = {_LOOK};\n".encode() + TEXTS["viewer.js"]


def script(name: str, services: Services, dataset: Dataset) -> bytes:
    """Return one of the scripts, after a line with the version of the file that its page shows."""
    instance = services.instances.of(dataset.real)
    version = instance.dataset.version if instance else dataset.version
    return f'"use strict";\nglobalThis.OPENED = "{version}";\n'.encode() + TEXTS[name]


def state(services: Services, dataset: Dataset, root: str) -> dict[str, object]:
    """Return the state of the viewer; `root` leads from the page to the gateway's root."""
    instance = services.instances.of(dataset.real)
    if instance is not None and not instance.over:
        instance.touch()  # a visible tab requests this, so somebody is looking
    ready = instance is not None and instance.phase is Phase.READY
    return {
        "phase": instance.phase.value if instance else Phase.CLOSED.value,
        "library": "" if services.alone else root,
        "labels": f"{root}annotations/{dataset.address}",
        "title": dataset.label,
        "changed": bool(instance and instance.dataset.fingerprint != dataset.fingerprint),
        "version": instance.dataset.version if instance else "",
        "problem": instance.problem if instance else None,
        "preparing": instance.done if instance and ready else None,
        "note": instance.note if instance and ready else "",
    }
