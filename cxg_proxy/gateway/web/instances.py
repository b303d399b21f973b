"""The instances that run: their page, the action that stops or retries one, and the progress of an opening."""

from __future__ import annotations

import json
import os

from tornado.web import HTTPError

from cxg_proxy import errors
from cxg_proxy.gateway.pages import models, render
from cxg_proxy.gateway.workers.instance import Instance
from cxg_proxy.gateway.workers.process import within
from cxg_proxy.gateway.workers.usage import memory
from cxg_proxy.steps import Phase

from .handler import Handler, plain, row

BEAT_SECONDS = 15.0  # an event stream that is silent for longer is cut by some proxies
LAST = {Phase.READY.value, Phase.FAILED.value, Phase.CLOSED.value}


class InstancesPage(Handler):
    """The page of the instances."""

    async def get(self) -> None:
        """Show each instance with the memory and processor time that it uses."""
        rows = [row(each, self.services.memory_limit) for each in self.services.instances]
        if self.wants_json():
            self.reply_json({"instances": rows})
            return
        total, available = memory()
        self.finish(render.instances(self.site(self.root), rows, models.Machine(total, available, os.cpu_count() or 1)))

    head = get


class InstanceAction(Handler):
    """Stop an instance, or try a failed one again."""

    async def post(self, identifier: str, action: str) -> None:
        """Do the action, then redirect to `next`, or to the viewer; the request must hold the token of the form."""
        self.require_token()
        instance = self.services.instances.find(identifier)
        if instance is None and (self.wants_json() or action == "retry"):
            raise errors.NoSuchInstance
        if instance is not None and action == "stop":
            await instance.close()
        elif instance is not None:
            await self._retry(instance)
            return
        self._done(instance, self.form("next").lstrip("./"))

    async def get(self, identifier: str, action: str) -> None:  # noqa: ARG002 - tornado passes both
        """Change nothing; lead a person who reloads the page of a refused form to where it can be sent."""
        if self.wants_json():
            raise HTTPError(405)
        instance = self.services.instances.find(identifier)
        self.redirect(f"../../../view/{instance.dataset.address}/" if instance else "../../../instances")

    async def _retry(self, instance: Instance) -> None:
        address = instance.dataset.address
        dataset = await self.dataset(address)
        try:
            self._done(await self.services.instances.open(dataset, again=True), f"view/{address}/")
        except errors.TooManyInstances as problem:
            self.show(problem, name=dataset.name, href=f"view/{address}/")

    def _done(self, instance: Instance | None, target: str) -> None:
        if self.wants_json():
            self.reply_json(row(instance, self.services.memory_limit) if instance else {})
        else:
            self.redirect("../../../" + _inside(target), status=303)

    def wants_json(self) -> bool:
        """Whether the reply goes to a program; the reply to a form goes to a person."""
        return "text/html" not in self.request.headers.get("Accept", "")


class Progress(Handler):
    """The progress of an opening dataset: once as JSON, or as a stream of events."""

    gone = False

    def on_connection_close(self) -> None:
        """Note that the client has gone."""
        super().on_connection_close()
        self.gone = True

    async def get(self, address: str) -> None:
        """Send the progress; a stream ends when the viewer is ready, failed or closed."""
        dataset = await self.dataset(address)
        instance = self.services.instances.of(dataset.real)
        if instance is None:
            raise errors.Stopped(dataset.label)
        if "text/event-stream" not in self.request.headers.get("Accept", ""):
            self.reply_json(_progress(instance))
            return
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("X-Accel-Buffering", "no")
        while not self.gone:
            change, progress = instance.next_change, _progress(instance)
            self.write(f"data: {json.dumps(progress, default=plain)}\n\n")
            await self.flush()
            if progress["phase"] in LAST:
                return
            instance.touch()  # somebody is looking
            self.services.touched()
            await within(BEAT_SECONDS, change)


def _progress(instance: Instance) -> dict[str, object]:
    return {
        "phase": instance.phase.value,
        "done": instance.done,
        "elapsed": round(instance.elapsed, 1),
        "expected": instance.expected,
        "problem": instance.problem,
    }


def _inside(target: str) -> str:
    """Return the link, or "" if it could lead away from the gateway."""
    return target if target.isascii() and ":" not in target and "//" not in target and "\\" not in target else ""
