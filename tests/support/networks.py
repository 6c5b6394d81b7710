"""Networks for the hosts of a test: one for each with a cable to the others, or loopback for all."""

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from .links import LOOPBACK


class Network:
    """Loopback for all hosts: none has an address of its own, and no cable can be pulled."""

    has_cables = False

    def __init__(self) -> None:
        # Where services are offered to hosts.
        self.address = LOOPBACK

    def add(self, name: str) -> tuple[str, list[str]]:
        """A host more: its address, and what stands before a command line that is to run there."""
        return LOOPBACK, []

    def pull(self, name: str) -> None:
        """Pull a host's cable: nothing gets to it or from it, and nobody is told."""
        raise NotImplementedError

    def plug(self, name: str) -> None:
        """Put the cable back."""
        raise NotImplementedError


class Cables(Network):
    """A network of 10.0.0.0/8 that only exists here: a bridge, and a cable from it to each host's namespace."""

    has_cables = True

    def __init__(self) -> None:
        self._mark = secrets.token_hex(3)
        self._subnet = f"10.{secrets.randbelow(256)}.{secrets.randbelow(256)}"
        self._numbers: dict[str, int] = {}
        self.address = f"{self._subnet}.1"
        self._bridge = f"br{self._mark}"
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def add(self, name: str) -> tuple[str, list[str]]:
        number = self._numbers[name] = len(self._numbers) + 2
        space, address = self._space(name), f"{self._subnet}.{number}"
        _ip("netns", "add", space)
        _ip("link", "add", self._end(name), "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", self._end(name), "master", self._bridge, "up")
        _ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", space, "link", "set", device, "up")
        return address, ["ip", "netns", "exec", space]

    def pull(self, name: str) -> None:
        _ip("link", "set", self._end(name), "down")

    def plug(self, name: str) -> None:
        _ip("link", "set", self._end(name), "up")

    def remove(self) -> None:
        """Leave nothing of it."""
        for name in self._numbers:
            subprocess.run(["ip", "netns", "delete", self._space(name)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True, check=False)

    def _space(self, name: str) -> str:
        return f"ingest-{self._mark}-{name}"

    def _end(self, name: str) -> str:
        # An interface's name has 15 characters at most.
        return f"ve{self._mark}{self._numbers[name]}"


@contextmanager
def network() -> Iterator[Network]:
    """Cables where this account and kernel give them, else loopback."""
    if shutil.which("ip") is None:
        yield Network()
        return
    try:
        cables = Cables()
    except subprocess.CalledProcessError:
        yield Network()
        return
    try:
        yield cables
    finally:
        cables.remove()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, check=True)
