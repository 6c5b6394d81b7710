"""Bundles are sent from the page, in a real browser: chosen or dropped, resumed, and stopped."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.browser import CHROMIUM, Browser, Page
from ..support.bundles import write_bundle
from ..support.loopback import lasting_port
from ..support.serving import Server
from ..support.site import Site

pytestmark = [pytest.mark.sweep, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]
LARGE = bytes(range(256)) * 12_000
SENT = "[...document.querySelectorAll('#upload li a')].map((link) => link.textContent).join()"


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def shown(browser: Browser, server: Server) -> Page:
    page = browser.page()
    page.go(server.url)
    return page


def slow_down(page: Page) -> None:
    """Have what it sends take some seconds."""
    page.ask("Network.enable")
    rates = {"downloadThroughput": -1, "uploadThroughput": 400_000}
    page.ask("Network.emulateNetworkConditions", offline=False, latency=0, **rates)


def is_under_way(page: Page) -> None:
    page.until("document.querySelector('#upload progress')?.value > 400000")


def sent_names(site: Site) -> list[str]:
    return [job.name for job in site.jobs()]


def test_bundles_are_chosen(environment: Path, site: Site, browser: Browser) -> None:
    bundles = [write_bundle(environment / f"\u00f6 {n}.tar", {"data/x": bytes([n])}) for n in range(2)]
    with Server(environment) as server:
        page = shown(browser, server)
        page.choose("#bundles", bundles)
        page.until(f"{SENT} === 'sent as job 1,sent as job 2'")
        assert server.settled(2)["state"] == "OK"
        page.until("document.querySelector('#job-2 .badge')?.textContent === 'complete'")
        assert sent_names(site) == ["\u00f6 1.tar", "\u00f6 0.tar"]
        assert page.value("localStorage.length") == 0
        assert page.complaints == []


def test_a_bundle_is_dropped(environment: Path, site: Site, browser: Browser) -> None:
    content = list(write_bundle(environment / "b.tar").read_bytes())
    name = "<img src=x onerror=alert(1)>.tar"
    with Server(environment) as server:
        page = shown(browser, server)
        page.value(
            f"""{{
            const moved = new DataTransfer(), how = {{ dataTransfer: moved, bubbles: true, cancelable: true }};
            moved.items.add(new File([new Uint8Array({content})], {json.dumps(name)}));
            document.body.dispatchEvent(new DragEvent("dragover", how));
            document.body.dispatchEvent(new DragEvent("drop", how));
            }}"""
        )
        page.until(f"{SENT} === 'sent as job 1'")
        assert server.settled(1)["state"] == "OK"
        assert page.value("document.querySelector('#upload li b').textContent").startswith("<img")
        assert page.complaints == []


@pytest.mark.parametrize("is_killed", [True, False])
def test_an_upload_outlives_the_server(environment: Path, site: Site, browser: Browser, *, is_killed: bool) -> None:
    bundle = write_bundle(environment / "b.tar", {"data/x": LARGE})
    with Server(environment, port=lasting_port()) as server:
        page = shown(browser, server)
        slow_down(page)
        page.choose("#bundles", [bundle])
        is_under_way(page)
        server.process.send_signal(signal.SIGKILL if is_killed else signal.SIGTERM)
        server.process.wait(20)
    with Server(environment, port=server.port) as again:
        page.until(f"{SENT} === 'sent as job 1'")
        assert again.settled(1)["state"] == "OK"
    assert sent_names(site) == ["b.tar"]


def test_an_upload_is_resumed_on_another_page(environment: Path, site: Site, browser: Browser) -> None:
    bundle = write_bundle(environment / "b.tar", {"data/x": LARGE})
    with Server(environment) as server:
        page = shown(browser, server)
        slow_down(page)
        page.choose("#bundles", [bundle])
        is_under_way(page)
        page.close()
        page = shown(browser, server)
        assert page.value("localStorage.length") == 1
        page.choose("#bundles", [bundle])
        page.until(f"{SENT} === 'sent as job 1'")
        assert server.settled(1)["state"] == "OK"
    assert server.log.read_text().count(" POST /files ") == 1


def test_an_upload_is_stopped(environment: Path, site: Site, browser: Browser) -> None:
    with Server(environment) as server:
        page = shown(browser, server)
        slow_down(page)
        page.choose("#bundles", [write_bundle(environment / "b.tar", {"data/x": LARGE})])
        is_under_way(page)
        page.value("document.querySelector('#upload li button').click()")
        page.until("document.querySelector('#upload li').textContent.includes('stopped')")
        page.until("localStorage.length === 0")
        assert not list(site.settings.spool.glob("*.tar"))
    assert site.jobs() == []


def test_the_server_says_why_not(environment: Path, browser: Browser) -> None:
    with Server(environment, "--max-upload", 100) as server:
        page = shown(browser, server)
        page.choose("#bundles", [write_bundle(environment / "b.tar")])
        page.until("document.querySelector('#upload li').textContent.includes('the limit is 100 bytes')")
