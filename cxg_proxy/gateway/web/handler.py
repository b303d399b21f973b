"""What every address has in common: the lock, the headers, and problems → status codes, in one table."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, is_dataclass
from importlib import resources
from typing import Any
from urllib.parse import urlencode

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from cxg_proxy import errors
from cxg_proxy.files.disk import on_disk
from cxg_proxy.gateway.library.dataset import Dataset, disk_of
from cxg_proxy.gateway.pages import models, render
from cxg_proxy.gateway.services import Services
from cxg_proxy.gateway.workers.instance import Instance
from cxg_proxy.gateway.workers.usage import Usage, usage
from cxg_proxy.status_codes import status_of

from . import security

STATIC = str(resources.files("cxg_proxy.gateway.pages") / "static")


class Handler(RequestHandler):
    """What all our addresses have in common: the lock, the headers, and problems shown as pages or JSON."""

    def initialize(self, services: Services) -> None:
        """Called by tornado for each request."""
        self.services = services
        self.set_default_headers()  # again: only now it is known who may frame our pages

    def framed(self, policy: str) -> str:
        """The policy with the site that may show our pages in a frame."""
        site = self.services.frame_ancestors if hasattr(self, "services") else ""
        return policy.replace(security.FRAMES, f"{security.FRAMES} {site}".rstrip())

    def set_default_headers(self) -> None:
        """Set what binds the browser, on errors too."""
        self.clear_header("Server")
        for name, value in security.HEADERS.items():
            self.set_header(name, value)
        self.set_header("Content-Security-Policy", self.framed(security.PAGE_POLICY))
        self.set_header("Cache-Control", "no-store")

    async def prepare(self) -> None:
        """Check the lock before anything else."""
        self.unlock()
        self.services.touched()

    def unlock(self) -> None:
        """Let in who holds the gateway's token (on a unix socket it has none); a link's token becomes a cookie."""
        if not self.services.token or security.same(self.services.token, security.bearer(self.request.headers)):
            return
        if security.same(self.services.token, self.get_cookie(self.services.cookie, "") or ""):
            return
        if security.same(self.services.token, self.get_query_argument("token", "")):
            prefix = security.prefix(self.request.headers, self.services.prefix_header)
            secure = security.over_https(self.request.headers)
            self.set_cookie(
                self.services.cookie, self.services.token, path=prefix, httponly=True, samesite="Lax", secure=secure
            )
            if self.request.method == "GET":
                arguments = [(n, v) for n, vs in self.request.query_arguments.items() for v in vs if n != "token"]
                name = self.request.path.rpartition("/")[2]
                self.redirect(f"./{name}" + ("?" + urlencode(arguments) if arguments else ""))
            return
        raise errors.Refused(
            detail="it holds no token", steps=["Open the address that cxg-proxy printed when it started."]
        )

    def holds_token(self) -> bool:
        """Whether the request shows that its sender is no foreign page: a host's or our own token."""
        said = self.request.headers.get("X-XSRFToken", "") or self.form("_xsrf")
        return bool(security.bearer(self.request.headers)) or security.same(self.services.xsrf, said)

    def require_token(self) -> None:
        """Raise Refused unless the form was sent by a page of this gateway's present run, or by its host."""
        token_seen = self.holds_token()
        security.refuse_other_sites(self.request.headers, token_seen=token_seen)
        if not token_seen:
            raise errors.Refused(detail=security.UNKNOWN_FORM)

    async def dataset(self, address: str) -> Dataset:
        """Find the dataset of an address; raises DatasetNotFound, NotReadable, or StorageSilent if its disk hangs."""
        return await on_disk(lambda: self.services.library.find(address), place=disk_of(address))

    def refuse_foreign_starts(self) -> None:
        """A picture on another site starts nothing here; a link there may. Raises Refused."""
        if self.request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            security.refuse_other_sites(self.request.headers, token_seen=True)

    def form(self, name: str) -> str:
        """A field of the posted form, "" if there is none."""
        return self.get_body_argument(name, "") or ""

    def site(self, root: str) -> models.Site:
        """What each page shows; `root` leads from it to the gateway's root."""
        return models.Site(
            self.services.title,
            root,
            self.services.xsrf,
            time.time(),
            self.services.read_only,
            alone=self.services.alone,
        )

    @property
    def root(self) -> str:
        """The relative way from this address up to the gateway's root."""
        return "../" * (self.request.path.count("/") - 1)

    def check_xsrf_cookie(self) -> None:
        """Ours is a token in the form, not tornado's cookie: a cookie would meet Jupyter's own of the same name."""

    def wants_json(self) -> bool:
        """Whether the client is a program."""
        accept = self.request.headers.get("Accept", "")
        return self.request.path.startswith("/api/") or ("application/json" in accept and "text/html" not in accept)

    def say(self, data: object) -> None:
        """Reply with JSON."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(data, default=plain))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Show what went wrong, to people or to programs."""
        reason = kwargs.get("exc_info", (None, None))[1]
        if isinstance(reason, errors.Problem):
            problem = reason
        elif status_code == 404:
            problem = errors.NoSuchPage(self.request.path)
        elif isinstance(reason, HTTPError):
            problem = errors.BadRequest(detail=reason.log_message or self._reason)
        else:
            problem = errors.Problem(detail=type(reason).__name__)
        self.show(problem)

    def show(self, problem: errors.Problem, *, name: str = "", instance: str = "", href: str = "") -> None:
        """Reply with the page of a problem, or its JSON twin."""
        self.set_status(status_of(problem) if self.get_status() == 200 else self.get_status())
        if self.wants_json():
            self.say({"problem": problem.to_json()})
            return
        running = self.services.instances.running() if isinstance(problem, errors.TooManyInstances) else []
        rows = [row(each, self.services.memory_limit) for each in running]
        view = models.ProblemView(problem, name, instance, rows, href, own=self.request.path.startswith("/view/"))
        self.finish(render.problem(self.site(self.root), view))

    def _handle_request_exception(self, e: BaseException) -> None:
        """Turn a problem into its status code; anything else is tornado's."""
        if isinstance(e, errors.Problem) and self._finished:  # answered already
            return
        if isinstance(e, errors.Problem):
            self.send_error(status_of(e), exc_info=(type(e), e, e.__traceback__))
        elif not isinstance(e, StreamClosedError):  # nobody is left to be told
            super()._handle_request_exception(e)


class Broken(Handler):
    """Every address of a gateway whose configuration is wrong."""

    def initialize(self, problem: errors.Problem) -> None:  # type: ignore[override]  # there is no services yet
        """Called by tornado for each request."""
        self.problem = problem

    async def prepare(self) -> None:
        """Say what is wrong, whatever was asked."""
        self.show(self.problem)

    def site(self, root: str) -> models.Site:
        """As much as is known."""
        return models.Site("cellxgene", root, "", time.time())


def row(instance: Instance, memory_limit: int) -> models.InstanceRow:
    """What the list of instances shows of one."""
    now = usage(instance.pid) if instance.pid else None
    return models.InstanceRow(
        id=instance.id,
        name=instance.dataset.name,
        href=f"view/{instance.dataset.address}/",
        phase=instance.phase.value,
        since=instance.since,
        used=instance.used,
        exchanges=instance.exchanges,
        memory=now.memory if now else None,
        memory_limit=memory_limit or None,
        cpu=_share(now, instance) if now else None,
        log=tuple(instance.log),
        problem=instance.problem,
    )


def _share(now: Usage, instance: Instance) -> float:
    """Percent of one core since the instance began."""
    return round(100 * now.seconds / max(instance.elapsed, 0.1), 1)


def plain(value: Any) -> Any:
    """Our objects as JSON."""
    if isinstance(value, errors.Problem):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is not for JSON")


class Static(StaticFileHandler):
    """Our stylesheet, script and pictures; the same for everybody, so no token is asked."""

    def set_default_headers(self) -> None:
        """On errors too."""
        self.clear_header("Server")
        for name, value in security.HEADERS.items():
            self.set_header(name, value)

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - tornado's signature
        """Revalidated, so that an upgrade shows at once."""
        self.set_header("Cache-Control", "no-cache")


class NotFound(Handler):
    """Every other address."""

    async def prepare(self) -> None:
        """Say so for any method."""
        self.unlock()
        raise errors.NoSuchPage(self.request.path)
