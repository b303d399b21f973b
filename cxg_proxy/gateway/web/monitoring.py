"""The monitoring of the gateway by probes: `api/health` and `metrics`."""

from __future__ import annotations

from cxg_proxy import __version__
from cxg_proxy.gateway.workers.usage import usage

from .handler import Handler


class Health(Handler):
    """The health check for probes; it needs no token and reveals nothing but the version."""

    def unlock(self) -> None:
        """Check no token, because a probe has none."""

    async def prepare(self) -> None:
        """Do nothing, because a probe does not count as use of the gateway."""

    def get(self) -> None:
        """Reply that the gateway is alive."""
        self.reply_json({"status": "ok", "version": __version__})

    head = get


class Metrics(Handler):
    """The metrics as Prometheus text."""

    async def prepare(self) -> None:
        """Check access only, because a scrape does not count as use of the gateway."""
        self.unlock()

    def get(self) -> None:
        """Send the number of instances by phase, their memory, and the number of datasets found."""
        phases: dict[str, int] = {}
        for each in self.services.instances:
            phases[each.phase.value] = phases.get(each.phase.value, 0) + 1
        used = sum(now.memory for each in self.services.instances if each.pid and (now := usage(each.pid)))
        lines = ["# TYPE cxg_proxy_instances gauge"]
        lines += [f'cxg_proxy_instances{{phase="{phase}"}} {count}' for phase, count in sorted(phases.items())]
        lines += ["# TYPE cxg_proxy_memory_bytes gauge", f"cxg_proxy_memory_bytes {used}"]
        lines += ["# TYPE cxg_proxy_datasets gauge", f"cxg_proxy_datasets {self.services.catalogue.count}"]
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish("\n".join(lines) + "\n")
