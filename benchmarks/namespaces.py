"""Several machines' network on one machine: hosts with addresses of their own behind one switch, links with a delay.

A host is a network namespace of Linux, the switch a bridge in another one, so the machine's own network stays as it is.
Each link is a pair of TAP devices and a process that carries the frames between them after the delay; tc's netem would
do so too, but many kernels lack it. Needs root, `ip` and /dev/net/tun.

python -m benchmarks.namespaces LEFT RIGHT SECONDS carries between two devices until its standard input ends.
"""

import fcntl
import os
import selectors
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path

from seqkd.utils.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
TUN, TUNSETIFF, TAP, NO_INFO = "/dev/net/tun", 0x400454CA, 0x0002, 0x1000
FRAME = 1 << 16  # bytes; none is longer
ADDRESS = "198.18.77.{}"  # of a range that is kept for such tests (RFC 2544)


class Network:
    """A switch and its hosts; stack takes them away again. delay: seconds that each link adds, each way."""

    def __init__(self, delay: float) -> None:
        self.delay, self.stack, self.hosts = delay, ExitStack(), list[str]()
        self.mark = f"seqkd{os.getpid()}"
        require()
        self._namespace("switch")
        self._ip("switch", "link", "add", "bridge", "type", "bridge")
        self._ip("switch", "link", "set", "bridge", "up")

    def add(self, host: str) -> str:
        """Connect a new host to the switch, unless it is there; return its address."""
        if host not in self.hosts:
            self.hosts.append(host)
            self._connect(host, len(self.hosts))
        return ADDRESS.format(self.hosts.index(host) + 1)

    def command(self, host: str, command: list[str]) -> list[str]:
        """Return the command that runs another one on a host."""
        return ["ip", "netns", "exec", f"{self.mark}-{host}", *command]

    def _connect(self, host: str, number: int) -> None:
        self._namespace(host)
        left, right = f"left{number}", f"right{number}"
        command = [sys.executable, "-m", "benchmarks.namespaces", left, right, str(self.delay)]
        link = subprocess.Popen(
            self.command("switch", command), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.stack.callback(_end, link)
        assert link.stdin is not None
        self.stack.callback(link.stdin.close)
        assert link.stdout is not None
        assert link.stdout.readline() == b"ready\n", f"no link to {host}"
        self._ip("switch", "link", "set", left, "master", "bridge", "up")
        self._ip("switch", "link", "set", right, "netns", f"{self.mark}-{host}")
        self._ip(host, "address", "add", f"{ADDRESS.format(number)}/24", "dev", right)
        self._ip(host, "link", "set", right, "up")
        self._ip(host, "link", "set", "lo", "up")

    def _namespace(self, host: str) -> None:
        _run("ip", "netns", "add", f"{self.mark}-{host}")
        self.stack.callback(_run, "ip", "netns", "delete", f"{self.mark}-{host}")

    def _ip(self, host: str, *arguments: str) -> None:
        _run("ip", "-netns", f"{self.mark}-{host}", *arguments)


def require() -> None:
    """Raise InputError where this machine cannot have such a network."""
    lacks = [
        what
        for what, there in (("root", os.geteuid() == 0), ("ip", shutil.which("ip")), (TUN, os.path.exists(TUN)))
        if not there
    ]
    if lacks:
        raise InputError(f"network namespaces need {' and '.join(lacks)} here; leave --namespaces out, or add them.")


def carry(left: str, right: str, delay: float) -> None:
    """Carry frames between two new TAP devices, each after so many seconds, until standard input ends."""
    ends = (_tap(left), _tap(right))
    print("ready", flush=True)
    waiting, selector = deque[tuple[float, int, bytes]](), selectors.DefaultSelector()
    for source, target in (ends, ends[::-1]):
        selector.register(source, selectors.EVENT_READ, target)
    selector.register(sys.stdin, selectors.EVENT_READ)
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for key, _ in selector.select(timeout):
            if key.data is None:
                return
            with suppress(BlockingIOError):
                waiting.append((time.monotonic() + delay, key.data, os.read(key.fd, FRAME)))
        while waiting and waiting[0][0] <= time.monotonic():
            _, target, frame = waiting.popleft()
            with suppress(OSError):  # the device is not up, or full: the frame is lost, as on any network
                os.write(target, frame)


def _tap(name: str) -> int:
    device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP | NO_INFO))
    return device


def _end(link: "subprocess.Popen[bytes]") -> None:
    try:
        link.wait(5)
    except subprocess.TimeoutExpired:
        link.kill()
        link.wait()


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


if __name__ == "__main__":
    carry(sys.argv[1], sys.argv[2], float(sys.argv[3]))
