"""What a browser has already: told so by the gateway itself, so that no worker is asked for it, or woken."""

from __future__ import annotations

from cxg_proxy import etags
from cxg_proxy.files.disk import on_disk
from cxg_proxy.gateway.library.dataset import place_of
from cxg_proxy.steps import Phase

from .handler import Handler

METHODS = ("GET", "HEAD")
_DATA = "/api/v0."  # below a viewer's address: what its page asks for


async def held(handler: Handler, address: str, target: str) -> str | None:
    """The tag that the request holds and that its reply would have now; None if the worker must say.

    `target` is the path below the viewer's address, with the query. Raises what any request for a dataset raises that
    is not there, or not for this user.
    """
    request = handler.request
    tags, accept = request.headers.get("If-None-Match"), request.headers.get("Accept", "")
    if tags is None or request.method not in METHODS or not target.startswith(_DATA) or not target.isascii():
        return None
    known = await _state(handler, address)
    tag = etags.tag(known, target, accept) if known else ""
    return tag if tag and etags.holds(tags, tag) else None


async def _state(handler: Handler, address: str) -> str:
    """The state of the dataset that replies are about now, "" if it is unknown or not the one that the page shows."""
    instances = handler.services.instances
    there = instances.at(address)
    if there is not None and there.phase is Phase.READY:
        dataset, known = there.dataset, there.state
        there.touch()  # a page that is loaded again is looked at
    elif there is not None and there.over:
        return ""  # it failed: that must be said
    else:
        handler.refuse_foreign_starts()
        dataset = await on_disk(lambda: handler.services.library.find(address), place=place_of(address))
        known = await on_disk(lambda: instances.state_of(dataset), place=place_of(address))
    shown = handler.request.headers.get("X-Dataset-Version", dataset.version)
    return known if shown == dataset.version else ""
