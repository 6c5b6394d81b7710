"""A cluster in small: hosts with names, boots and networks of their own, whose ways to what they share can be cut."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from .command import Command
from .hosts import host, new_boot, skip_unless_possible
from .links import Exchange, Link
from .networks import Network, network
from .waiting import PATIENCE

# No host sees the disk of another.
HIDE = 'while [ "$1" != -- ]; do mount -t tmpfs none "$1" || exit; shift; done; shift; exec "$@"'
# The variables of a host that reaches services by these links.
Variables = Callable[[Mapping[str, Link]], Mapping[str, str]]


class Unit:
    """A command that a host is to run for ever: where it ends by itself it is started anew, as systemd would."""

    def __init__(self, place: "Host", words: Sequence[object]) -> None:
        self._place, self._words = place, words
        self.log = place.folder / f"{words[0]}{len(place.units)}.log"
        self.starts = 0
        self._start()

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        return self._process.pid

    def tend(self) -> None:
        """Start it anew where it has ended."""
        if self._process.poll() is not None:
            self._start()

    def send_signal(self, number: int) -> None:
        """Send it, and all that it has started, a signal."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE)

    def stop(self) -> int:
        """Tell it to end, and wait for that; its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(PATIENCE)
        finally:
            self.kill()

    def _start(self) -> None:
        self.starts += 1
        with self.log.open("ab") as log:
            self._process = self._place.popen(*self._words, output=log)


class Host:
    """A machine: its processes have its name, its home and its boot, and reach services by its own links only."""

    def __init__(
        self, name: str, folder: Path, net: Network, links: Mapping[str, Link], others: Sequence[Path] = ()
    ) -> None:
        self.name, self.folder, self.links = name, folder, links
        self.units: list[Unit] = []
        self._net = net
        self.address, inside = net.add(name)
        boot = new_boot(folder / "boot")
        self._place = [
            *inside,
            *host(name, processes=False, boot=boot),
            "sh",
            "-c",
            HIDE,
            "sh",
            *map(str, others),
            "--",
        ]
        self.environment: dict[str, str] = {
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_DATA_HOME": str(folder / "data"),
        }
        # These take the place of the program's own.
        self.timings: dict[str, float] = {}

    def run(self, *words: object, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self._line(*words),
            cwd=self.folder,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience,
        )

    def popen(self, *words: object, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a command, which leads a group of its own."""
        return subprocess.Popen(
            self._line(*words),
            cwd=self.folder,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def shell(self, *line: str) -> int:
        """The exit status of any other program that runs here."""
        return subprocess.run([*self._place, *line], capture_output=True, timeout=PATIENCE).returncode

    def start(self, *words: object) -> Unit:
        """Have a command run for ever."""
        self.units.append(Unit(self, words))
        return self.units[-1]

    def tend(self) -> None:
        """Start anew what has ended by itself."""
        for unit in self.units:
            unit.tend()

    def freeze(self) -> None:
        """Stop all that runs here, as where a machine is suspended."""
        for unit in self.units:
            unit.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        for unit in self.units:
            unit.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End all that runs here at once. `tend` starts it anew."""
        for unit in self.units:
            unit.kill()

    def cut(self, *services: str) -> None:
        """Cut the host off from these services, or from everything where none is named."""
        if self._net.has_cables and not services:
            self._net.pull(self.name)
            return
        for service in services or self.links:
            self.links[service].cut()

    def mend(self) -> None:
        """Let it reach everything."""
        if self._net.has_cables:
            self._net.plug(self.name)
        for link in self.links.values():
            link.mend()

    def _line(self, *words: object) -> list[str]:
        return [*self._place, *Command.line(*words, timings=self.timings)]


class Cluster:
    """Hosts, by their names, that share services."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = {place.name: place for place in hosts}

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def tend(self) -> None:
        """Start anew what has ended by itself on any host."""
        for place in self.hosts.values():
            place.tend()


@contextmanager
def cluster(
    folder: Path, names: Sequence[str], services: Mapping[str, tuple[str, int]], variables: Variables
) -> Iterator[Cluster]:
    """Hosts of these names, whose folders are in ``folder``; all that still runs there at the end is killed.

    ``services`` are what they share, by name, and where it listens.
    """
    skip_unless_possible(host("elsewhere", processes=False, boot=new_boot(folder)))
    with ExitStack() as stack:
        net, exchange = stack.enter_context(network()), stack.enter_context(Exchange())
        hosts, disks = [], [folder / name for name in names]
        for disk in disks:
            disk.mkdir()
        for name in names:
            links = {service: exchange.link(net.address, target) for service, target in services.items()}
            hosts.append(Host(name, folder / name, net, links, [disk for disk in disks if disk.name != name]))
            hosts[-1].environment |= variables(links)
            stack.callback(hosts[-1].kill)
        yield Cluster(hosts)
