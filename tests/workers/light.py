"""A light fork server: the real one with almost nothing to load; its workers are fakes, or describe themselves.

`light.py KIND preload --control N ROOM` is the parent, `light.py KIND BEHAVIOUR …` a worker started without it.

KIND
plain     forks as it should
old       has another version
threaded  has a second thread
mute      never becomes ready
doomed    its workers end before they write anything

BEHAVIOUR
describe  writes one JSON line about its process, then waits for the end of its standard input (the leash)
crash N   writes a line, then kills itself with signal N, or exits with status N if N is not a signal's name
others    those of fake.py
"""

import gc
import json
import os
import resource
import signal
import sys
import threading

import fake

import cxg_proxy
from cxg_proxy.viewer import fork_server


def describe(arguments):
    with open("/proc/self/status") as status:
        masks = dict(line.split(":\t") for line in status if line.startswith("Sig") and "Q" not in line)
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))
    umask = os.umask(0)
    os.umask(umask)
    said = {
        "arguments": arguments,
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        "umask": umask,
        "signals": masks,
        "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
        "descriptors": descriptors,
        "inherited": [os.get_inheritable(number) for number in range(3)],
        "limits": [resource.getrlimit(each) for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA)],
        "collects": gc.isenabled(),
        "threads": threading.active_count(),
    }
    print(json.dumps(said), flush=True)
    sys.stdin.read()
    return 0


def crash(how):
    print("up", flush=True)
    if how.startswith("SIG"):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), getattr(signal, how))
    return int(how)


def work(arguments):
    behaviour, *more = arguments
    if KIND == "doomed" and os.getppid() != STARTED_BY:
        return 1
    if behaviour == "describe":
        return describe(more)
    if behaviour == "crash":
        return crash(more[0])
    sys.argv[1:] = arguments
    fake.main()
    return 0


def load():
    if KIND == "threaded":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    if KIND == "mute":
        sys.stdin.read()


KIND, STARTED_BY = sys.argv[1], os.getppid()
if KIND == "old":
    cxg_proxy.__version__ = "0.0.9"
if sys.argv[2] == "preload":
    sys.exit(fork_server.preload(int(sys.argv[4]), work, load, lambda: iter(())))
sys.exit(work(sys.argv[2:]))
