"""Folders are sent from the page, in a real browser: dropped or chosen, and packed as they are sent."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.browser import CHROMIUM, Browser, Page
from ..support.bundles import FILES, write_folder
from ..support.serving import Server
from ..support.site import Site

pytestmark = [pytest.mark.sweep, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]
IDS = {"submitter": "10", "project": "1234a", "instrument": "54"}
ASKED = "document.querySelector('#upload form')"
SENT = "[...document.querySelectorAll('#upload li a')].map((link) => link.textContent).join()"
SAID = "document.querySelector('#upload li').innerText"
# What is at the borders of the tar's blocks and of the pieces that are read.
SIZES = (0, 1, 55, 56, 63, 64, 65, 511, 512, 513, (4 << 20) - 1, (4 << 20) + 1)
NAMES = ("a", "\u00e9 \u65e5\u672c", "x" * 95, "x" * 96, "<img src=x>", "-", "a'b\"c", "a\\b", "%41", "e\u0301")


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def shown(browser: Browser, server: Server, width: int = 1280) -> Page:
    page = browser.page(width=width)
    page.go(server.url)
    return page


def answer(page: Page, ids: dict[str, str] = IDS) -> None:
    page.until(f"{ASKED} !== null")
    for name, value in ids.items():
        page.value(f"{ASKED}.elements[{json.dumps(name)}].value = {json.dumps(value)}")
    page.value(f"{ASKED}.requestSubmit()")


def test_a_dropped_folder_is_archived_byte_for_byte(environment: Path, site: Site, browser: Browser) -> None:
    sizes = {f"data/sizes/{size}": bytes(range(251)) * (size // 251 + 1) for size in SIZES}
    files = {name: content[: int(name.rpartition("/")[2])] for name, content in sizes.items()}
    files |= {f"data/{name}/{other}": name.encode() for name in NAMES for other in NAMES}
    files |= {f"data/many/{number}": b"%d" % number for number in range(250)}
    folder = write_folder(environment / "run 5", files)
    os.utime(folder / "a/a", (-5, -5))
    with Server(environment) as server:
        page = shown(browser, server)
        page.drop([folder])
        answer(page)
        page.until(f"{SENT} === 'sent as job 1'")
        assert server.settled(1)["state"] == "OK"
        assert page.complaints == []
    assert site.contents() == files
    (job,) = site.jobs()
    assert job.name == "run 5"


def test_a_folder_is_chosen_by_keyboard(environment: Path, site: Site, browser: Browser) -> None:
    """What was said last is there the next time, and sending takes one key then."""
    folder = write_folder(environment / "run", {**FILES, "data/.DS_Store": b"x"})
    with Server(environment) as server:
        page = shown(browser, server, width=375)
        page.choose("#directory", [folder])
        answer(page)
        page.until(f"{SENT} === 'sent as job 1'")
        assert server.settled(1)["state"] == "OK"
        assert "1 system file left out: .DS_Store" in page.text()
        page = shown(browser, server, width=375)
        page.choose("#directory", [write_folder(environment / "other", {"data/y": b"y"})])
        page.until("document.activeElement?.textContent === 'Send'")
        assert page.violations() == []
        assert page.value("document.documentElement.scrollWidth <= innerWidth")
        page.press("Enter")
        page.until(f"{SENT} === 'sent as job 2'")
        assert server.settled(2)["state"] == "OK"
    assert site.contents() == {**FILES, "data/y": b"y"}


def test_what_a_folder_says_of_itself_and_the_server_does_is_there(
    environment: Path, site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_INSTRUMENT", "54")
    said = {"project": "1234a", "submitter": 10, "keys": {"Taxonomic Family": "bacteria"}}
    folder = write_folder(environment / "run", {"data/x": b"x", "data/.ingest.json": json.dumps(said).encode()})
    (folder / "none/at all").mkdir(parents=True)
    with Server(environment) as server:
        page = shown(browser, server)
        page.drop([folder])
        answer(page, {})
        page.until(f"{SENT} === 'sent as job 1'")
        assert server.settled(1)["state"] == "OK"
        assert "1 empty folder left out: none/at all/" in page.text()
    assert site.contents() == {"data/x": b"x"}
    assert [(row["key"], row["value"]) for row in site.rows("TransactionKeyValue")] == [
        ("Taxonomic Family", "bacteria")
    ]


@pytest.mark.parametrize("is_read", [False, True])
def test_a_file_that_changes_is_refused(environment: Path, site: Site, browser: Browser, *, is_read: bool) -> None:
    """Be it before it is read, or between that and its being sent."""
    folder = write_folder(environment / "run", {"data/x": b"before", "data/y": b"y" * 3_000_000})
    with Server(environment) as server:
        page = shown(browser, server)
        page.drop([folder])
        page.until(f"{ASKED} !== null")
        if is_read:
            page.value("{ const post = Upload.prototype.send; Upload.prototype.send = async function () {"
                       " window.isRead = true; while (!window.goOn) await new Promise((on) => setTimeout(on, 20));"
                       " return post.call(this); }; }")  # fmt: skip
            answer(page)
            page.until("window.isRead")
            (folder / "x").write_bytes(b"behind")
            page.value("window.goOn = true")
        else:
            (folder / "x").write_bytes(b"behind")
            answer(page)
        page.until("document.querySelector('#upload .failed') !== null")
        assert "cannot be read, or has changed" in page.text()
    assert site.jobs() == []


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"data/Thumbs.db": b""}, "there are no files in it"),
        ({"data/.ingest.json": b"{", "data/x": b""}, "its .ingest.json is not JSON"),
        ({"data/.ingest.json": b'{"exclude": ["*.tmp"]}', "data/x": b""}, "send it by 'ingest upload'"),
    ],
)
def test_a_folder_that_cannot_be_sent(environment: Path, browser: Browser, files: dict[str, bytes], why: str) -> None:
    with Server(environment) as server:
        page = shown(browser, server)
        page.drop([write_folder(environment / "run", files)])
        page.until("document.querySelector('#upload .failed') !== null")
        assert why in page.value(SAID)
