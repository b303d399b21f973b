"""A forker: a parent process that has imported what programs need, and forks a child for each program ordered.

`forking.py` is at the other end of the socket. An order is one JSON packet with four descriptors: standard input,
output and error, and a socket for the replies: `{"pid": …}` at once, and `{"status": …}` when the child has ended.
"""

import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
import warnings
from importlib import import_module


def main(control, *names):
    """Import the named modules, then fork until the other end closes; returns in each child, with its module."""
    warnings.simplefilter("ignore")
    ours = warnings.filters[0]
    for name in names:
        import_module(name)
    if "cxg_proxy.viewer.compute.kernels" in sys.modules:
        for _ in sys.modules["cxg_proxy.viewer.compute.kernels"].compiling():
            pass
    warnings.filters.remove(ours)
    gc.collect()
    gc.freeze()  # a child then collects only what it made itself, and all other memory stays shared
    others = socket.socket(fileno=control)
    poll = select.poll()
    poll.register(others, select.POLLIN)
    children = {}  # by the pidfd of each: its pid, and the socket for its status
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        for descriptor in children.keys() & set(ready):
            poll.unregister(descriptor)
            pid, answers = children.pop(descriptor)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.close(descriptor)
            tell(answers, status=status)
            answers.close()
        if others.fileno() in ready:
            packet, descriptors, *_ = socket.recv_fds(others, 1 << 20, 4)
            if not packet:
                break
            answers = socket.socket(fileno=descriptors.pop())
            assert len(os.listdir("/proc/self/task")) == 1, "a thread would be missing in the child"
            pid = os.fork()
            if pid == 0:
                for each in (others, answers, *(whom for _, whom in children.values())):
                    each.detach()
                return settle(json.loads(packet), descriptors)
            for each in descriptors:
                os.close(each)
            descriptor = os.pidfd_open(pid)
            children[descriptor] = (pid, answers)
            poll.register(descriptor, select.POLLIN)
            tell(answers, pid=pid)
    for descriptor in children:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    return None


def tell(answers, **what):
    try:
        answers.send(json.dumps(what).encode())
    except OSError:  # the other end is closed
        return


def settle(order, descriptors):
    """Make this process like one that was started freshly with this order."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, 1 << 16)
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    os.chdir(order["cwd"])
    sys.argv[1:] = order["arguments"]
    sys.path[0] = order["cwd"]  # as with `python -m`
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    return order["module"]


if __name__ == "__main__":
    if (module := main(int(sys.argv[1]), *sys.argv[2:])) is not None:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
