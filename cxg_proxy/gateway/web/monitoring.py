"""Whether the gateway is well, for probes: `api/health` and `metrics`."""

from __future__ import annotations

from cxg_proxy import __version__
from cxg_proxy.gateway.workers.usage import usage

from .handler import Handler


class Health(Handler):
    """For probes; needs no token and tells nothing."""

    def unlock(self) -> None:
        """A probe has no token."""

    async def prepare(self) -> None:
        """A probe is no use of the gateway."""

    def get(self) -> None:
        """Replies if the gateway is alive."""
        self.say({"status": "ok", "version": __version__})

    head = get


class Metrics(Handler):
    """Prometheus text."""

    async def prepare(self) -> None:
        """A scrape is no use of the gateway."""
        self.unlock()

    def get(self) -> None:
        """Instances by phase, their memory, and the datasets found."""
        phases: dict[str, int] = {}
        for each in self.services.instances:
            phases[each.phase.value] = phases.get(each.phase.value, 0) + 1
        used = sum(found.memory for each in self.services.instances if each.pid and (found := usage(each.pid)))
        lines = ["# TYPE cxg_proxy_instances gauge"]
        lines += [f'cxg_proxy_instances{{phase="{phase}"}} {count}' for phase, count in sorted(phases.items())]
        lines += ["# TYPE cxg_proxy_memory_bytes gauge", f"cxg_proxy_memory_bytes {used}"]
        lines += ["# TYPE cxg_proxy_datasets gauge", f"cxg_proxy_datasets {self.services.catalogue.count}"]
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish("\n".join(lines) + "\n")
