"""The handler that all others are based on: access control, headers, and the table of status codes."""

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
    """The base class of all handlers: access control, headers, and problems shown as pages or JSON."""

    def initialize(self, services: Services) -> None:
        """Take the services; tornado calls this for each request."""
        self.services = services
        self.set_default_headers()  # again, because only now it is known which site may frame the pages

    def framed(self, policy: str) -> str:
        """Return the policy, extended by the site that may show the gateway's pages in a frame."""
        site = self.services.frame_ancestors if hasattr(self, "services") else ""
        return policy.replace(security.FRAMES, f"{security.FRAMES} {site}".rstrip())

    def set_default_headers(self) -> None:
        """Set the headers that restrict the browser, on errors too."""
        self.clear_header("Server")
        for name, value in security.HEADERS.items():
            self.set_header(name, value)
        self.set_header("Content-Security-Policy", self.framed(security.PAGE_POLICY))
        self.set_header("Cache-Control", "no-store")

    async def prepare(self) -> None:
        """Check access before anything else."""
        self.unlock()
        self.services.touched()

    def unlock(self) -> None:
        """Admit a request that holds the gateway's token; a token in a link becomes a cookie. Raises Refused.

        On a unix socket there is no token, and every request is admitted.
        """
        if not self.services.token or security.equal_secrets(
            self.services.token, security.bearer(self.request.headers)
        ):
            return
        if security.equal_secrets(self.services.token, self.get_cookie(self.services.cookie, "") or ""):
            return
        if security.equal_secrets(self.services.token, self.get_query_argument("token", "")):
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
        """Whether a token, the host's or the form's, shows that the request comes from no foreign page."""
        token = self.request.headers.get("X-XSRFToken", "") or self.form("_xsrf")
        return bool(security.bearer(self.request.headers)) or security.equal_secrets(self.services.xsrf, token)

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
        """Raise Refused if another site embeds this address, as a picture, say; a link from there is allowed."""
        if self.request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            security.refuse_other_sites(self.request.headers, token_seen=True)

    def form(self, name: str) -> str:
        """Return a field of the posted form, or "" if it is missing."""
        return self.get_body_argument(name, "") or ""

    def site(self, root: str) -> models.Site:
        """Return what every page shows; `root` leads from the page to the gateway's root."""
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
        """The relative link from this address up to the gateway's root."""
        return "../" * (self.request.path.count("/") - 1)

    def check_xsrf_cookie(self) -> None:
        """Do nothing: the form holds a token, as tornado's cookie would clash with Jupyter's of the same name."""

    def wants_json(self) -> bool:
        """Whether the client is a program."""
        accept = self.request.headers.get("Accept", "")
        return self.request.path.startswith("/api/") or ("application/json" in accept and "text/html" not in accept)

    def reply_json(self, data: object) -> None:
        """Reply with JSON."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(data, default=plain))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Show what went wrong, as a page or as JSON."""
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
        """Reply with the page of a problem, or with its JSON."""
        self.set_status(status_of(problem) if self.get_status() == 200 else self.get_status())
        if self.wants_json():
            self.reply_json({"problem": problem.to_json()})
            return
        running = self.services.instances.running() if isinstance(problem, errors.TooManyInstances) else []
        rows = [row(each, self.services.memory_limit) for each in running]
        view = models.ProblemView(problem, name, instance, rows, href, at_viewer=self.request.path.startswith("/view/"))
        self.finish(render.problem(self.site(self.root), view))

    def _handle_request_exception(self, e: BaseException) -> None:
        """Reply to a problem with its status code; tornado handles everything else."""
        if isinstance(e, errors.Problem) and self._finished:  # the reply has been sent already
            return
        if isinstance(e, errors.Problem):
            self.send_error(status_of(e), exc_info=(type(e), e, e.__traceback__))
        elif not isinstance(e, StreamClosedError):  # the client has gone, so no reply is needed
            super()._handle_request_exception(e)


class Broken(Handler):
    """The handler of every address if the gateway's configuration is wrong."""

    def initialize(self, problem: errors.Problem) -> None:  # type: ignore[override]  # there are no services yet
        """Take the problem; tornado calls this for each request."""
        self.problem = problem

    async def prepare(self) -> None:
        """Show what is wrong, whatever was requested."""
        self.show(self.problem)

    def site(self, root: str) -> models.Site:
        """Return what every page shows, as far as it is known."""
        return models.Site("cellxgene", root, "", time.time())


def row(instance: Instance, memory_limit: int) -> models.InstanceRow:
    """Return what the list of instances shows of one instance."""
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
    """Return the average use of processors since the instance began, in percent of one core."""
    return round(100 * now.seconds / max(instance.elapsed, 0.1), 1)


def plain(value: Any) -> Any:
    """Return an object of the gateway as plain data for JSON; raises TypeError for anything else."""
    if isinstance(value, errors.Problem):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is not for JSON")


class Static(StaticFileHandler):
    """The stylesheet, scripts and pictures; they are the same for everybody, so no token is required."""

    def set_default_headers(self) -> None:
        """Set the security headers, on errors too."""
        self.clear_header("Server")
        for name, value in security.HEADERS.items():
            self.set_header(name, value)

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - tornado's signature
        """Let browsers revalidate the file, so that an upgrade shows at once."""
        self.set_header("Cache-Control", "no-cache")


class NotFound(Handler):
    """The handler of every other address."""

    async def prepare(self) -> None:
        """Raise NoSuchPage for any method."""
        self.unlock()
        raise errors.NoSuchPage(self.request.path)
