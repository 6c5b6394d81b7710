"""A Chromium without a window, driven by its DevTools protocol over two pipes."""

import base64
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from .waiting import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = os.environ.get("INGEST_TEST_AXE", "")
# Where Chromium expects its ends.
READS, WRITES = 3, 4
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run", "about:blank")
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27}


class Browser:
    """A browser for as long as a ``with`` block lasts."""

    def __init__(self) -> None:
        self._number, self._held = 0, b""
        self._seen: Callable[[dict[str, Any]], None] = lambda _: None

    def __enter__(self) -> Self:
        assert CHROMIUM is not None
        self._folder = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket of its own is in it, whose path must be short
        to_read, self._to = map(_away_from_ends, os.pipe())
        self._from, to_write = map(_away_from_ends, os.pipe())
        # So that nothing it does in the background needs a folder of the user's.
        environment = {**os.environ, "HOME": str(self._folder), "TMPDIR": str(self._folder)}
        words = [CHROMIUM, f"--user-data-dir={self._folder / 'profile'}", *OPTIONS]
        log = (os.O_WRONLY | os.O_CREAT, 0o600)
        actions = [
            (os.POSIX_SPAWN_DUP2, to_read, READS),
            (os.POSIX_SPAWN_DUP2, to_write, WRITES),
            (os.POSIX_SPAWN_OPEN, 2, str(self._folder / "chromium.log"), *log),
        ]
        self._pid = os.posix_spawn(CHROMIUM, words, environment, file_actions=actions, setsid=True)
        os.close(to_read)
        os.close(to_write)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, AssertionError):
            self.ask("Browser.close")
        os.close(self._to)
        os.close(self._from)
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        shutil.rmtree(self._folder, ignore_errors=True)

    def page(self, *, width: int = 1280, height: int = 900, dark: bool = False, script: bool = True) -> "Page":
        """A new page, which is what is looked at from then on."""
        return Page(self, width, height, dark=dark, script=script)

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to a command."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._read(PATIENCE)
            if found.get("id") == self._number:
                assert "error" not in found, f"{method}: {found['error']}"
                answer: dict[str, Any] = found["result"]
                return answer
            self._seen(found)

    def on_event(self, seen: Callable[[dict[str, Any]], None]) -> None:
        """Have what the browser tells by itself noted."""
        self._seen = seen

    def _read(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._from, 1 << 20)
            assert piece, "the browser has ended"
            self._held += piece
        message, _, self._held = self._held.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


class Page:
    """A page of the browser. What its console says, and what fails in it, is in ``complaints``."""

    def __init__(self, browser: Browser, width: int, height: int, *, dark: bool, script: bool) -> None:
        self._browser = browser
        self.complaints: list[str] = []
        self._target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.ask("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        browser.on_event(self._note)
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.ask(f"{domain}.enable")
        phone = {"deviceScaleFactor": 1, "mobile": width < 500}
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, **phone)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=scheme)
        self.ask("Emulation.setScriptExecutionDisabled", value=not script)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to a command about this page."""
        return self._browser.ask(method, self._session, **parameters)

    def go(self, url: str) -> None:
        """Show what is at ``url``, and wait until it is there."""
        self.ask("Page.navigate", url=url)
        self.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def value(self, script: str) -> Any:
        """What the script evaluates to."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until the script is true of the page."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(AssertionError):  # while it goes from one page to the next
                if found := self.value(script):
                    return found
            assert time.monotonic() < deadline, f"never: {script}\n{self.complaints}\n{self.text()}"
            time.sleep(0.02)

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.value("document.body.innerText"))

    def violations(self) -> list[str]:
        """What axe finds, where INGEST_TEST_AXE names the file axe.min.js of axe-core."""
        if not AXE:
            return []
        self.value(f"{Path(AXE).read_text()};true")
        found: list[str] = self.value(
            "axe.run(document).then((found) => found.violations.map((one) => `${one.id} ${one.nodes[0].html}`))"
        )
        return found

    def press(self, key: str) -> None:
        """Press a key."""
        code = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text="\r" if key == "Enter" else "", **code)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **code)

    def choose(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in an input."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", files=list(map(str, files)), nodeId=node)

    def drop(self, paths: Sequence[Path]) -> None:
        """Drag files and folders onto the page, and drop them there."""
        data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.ask("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)

    def close(self) -> None:
        """Leave it, whatever it asks."""
        self._browser.ask("Target.closeTarget", targetId=self._target)

    def picture(self, path: Path) -> None:
        """Write what the page looks like, all of it, to a file."""
        found = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _note(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(event["params"]["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(str(event["params"]["exceptionDetails"]))
            case "Log.entryAdded":
                entry = event["params"]["entry"]
                if "favicon" not in entry.get("url", ""):
                    self.complaints.append(f"{entry['text']} {entry.get('url', '')}")


def _away_from_ends(descriptor: int) -> int:
    """The same, of a number that is not in the way of the browser's."""
    import fcntl

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
