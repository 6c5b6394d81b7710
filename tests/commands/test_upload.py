"""``ingest upload``: whatever is cut off is resumed, and one job is made of it."""

import json
import os
import re
import signal
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ..support.bundles import FILES, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.ingest_double import DONE, Handler, ReleasedIngest
from ..support.loopback import lasting_port
from ..support.mounts import Mount
from ..support.pacifica_double import Handler as PacificaHandler
from ..support.pacifica_double import PacificaSite
from ..support.serving import Server
from ..support.site import Site, assert_sound
from ..support.terminal import Terminal
from ..support.waiting import until

IDS = ("--submitter", 10, "--project", "1234a", "--instrument", 54)
TLS = Path(__file__).parents[1] / "data" / "tls"
DEFERRED = "the archive is away\nit will be tried again at 2026-11-28 15:00:00 UTC; do not send it again"


@pytest.fixture
def server(environment: Path) -> Iterator[Server]:
    with Server(environment) as server:
        yield server


@pytest.fixture
def released() -> Iterator[ReleasedIngest]:
    with ReleasedIngest() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What an instrument has written."""
    folder = tmp_path / "run7"
    for name, content in FILES.items():
        path = folder / name.removeprefix("data/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture
def large(tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    """A bundle that takes a while at the rate `SLOWLY`; and its files."""
    files = {"data/large.bin": os.urandom(1_500_000)}
    return write_bundle(tmp_path / "large.tar", files), files


SLOWLY = ("--limit-rate", "1M")


def left_behind(site: Site) -> list[Path]:
    """What a client has left where unfinished uploads are noted."""
    uploads = site.settings.upload.folder
    assert uploads is not None
    return sorted(uploads.rglob("*")) if uploads.exists() else []


def arrived(site: Site) -> int:
    """How much of a single upload is at the server."""
    return sum(path.stat().st_size for path in site.settings.spool.glob("resumable-*.tar"))


def names(site: Site) -> list[str]:
    return sorted(path.name for path in site.settings.spool.glob("resumable-*.tar"))


def test_a_bundle_and_a_folder(command: Command, server: Server, site: Site, tmp_path: Path, folder: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar", {"data/of_bundle": b"1"})
    for path, words in ((bundle, ()), (folder, IDS)):
        done = command("upload", "--to", server.url, path, *words)
        assert (done.returncode, done.stdout) == (0, f"job {len(site.jobs())}: {path} is complete\n"), done.stderr
    assert_sound(site, {"data/of_bundle": b"1", **FILES}, jobs=2)
    assert left_behind(site) == []


def test_one_that_fails_does_not_stop_the_others(command: Command, server: Server, site: Site, tmp_path: Path) -> None:
    (tmp_path / "none.tar").write_bytes(b"no tar" * 1000)
    good = write_bundle(tmp_path / "good.tar")
    words = ("absent.tar", tmp_path / "none.tar", tmp_path / ("n" * 300), good)
    done = command("upload", "--json", "--to", server.url, *words)
    assert done.returncode == 3, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(answer["source"], answer.get("status"), answer.get("exit_code")) for answer in answers] == [
        ("absent.tar", None, 1),
        (str(tmp_path / "none.tar"), "failed", 1),
        (str(tmp_path / ("n" * 300)), None, 1),
        (str(good), "complete", None),
    ]
    assert (answers[0]["error"], answers[1]["files"]) == ("cannot read absent.tar: No such file or directory", 0)
    assert (answers[3]["files"], answers[3]["bytes"]) == (len(FILES), sum(map(len, FILES.values())))
    absent, none, long, summary, *again = done.stderr.splitlines()
    assert summary.startswith(f"ingest: 4 uploads: 1 complete, 3 failed; {len(FILES)} files, ")
    assert again == [absent, none, long]
    assert absent == "ingest: absent.tar: cannot read absent.tar: No such file or directory"
    assert long.endswith("File name too long")
    assert none.startswith(f"ingest: {tmp_path}/none.tar: job 1 failed at 'open tar': none.tar is not a tar")
    assert str(site.settings.spool) not in done.stdout + done.stderr, "where the server keeps it concerns nobody"
    assert (site.contents(), left_behind(site)) == (FILES, [])


@pytest.mark.sweep
def test_several_paths_can_be_one_bundle(
    command: Command, server: Server, site: Site, tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "notes").write_text("n")
    done = command("upload", "--to", server.url, folder, tmp_path / "notes", "--together", *IDS, "--key", "a=b")
    assert done.returncode == 0, done.stderr
    wanted = {f"data/run7/{name.removeprefix('data/')}": content for name, content in FILES.items()}
    assert_sound(site, {**wanted, "data/notes": b"n"}, jobs=1)
    assert [(row["key"], row["value"]) for row in site.rows("TransactionKeyValue")] == [("a", "b")]


def kill_midway(starting: Callable[..., Running], server: Server, site: Site, *words: object) -> None:
    """Upload, and kill the client once some has arrived."""
    client = starting("upload", "--to", server.url, *words, *SLOWLY)
    until(lambda: arrived(site) > 200_000)
    client.kill()
    client.wait()


def test_a_client_that_is_killed_resumes(
    command: Command,
    starting: Callable[..., Running],
    server: Server,
    site: Site,
    large: tuple[Path, dict[str, bytes]],
) -> None:
    bundle, files = large
    kill_midway(starting, server, site, bundle)
    before, begun = names(site), arrived(site)
    assert 0 < begun < bundle.stat().st_size
    done = command("upload", "--to", server.url, bundle)
    assert done.returncode == 0, done.stderr
    assert len(before) == 1
    assert_sound(site, files, jobs=1)
    assert site.jobs()[0].source.endswith(before[0])
    assert left_behind(site) == []


@pytest.mark.sweep
def test_a_packed_folder_is_sent_as_it_was_packed(
    command: Command, starting: Callable[..., Running], server: Server, site: Site, folder: Path
) -> None:
    (folder / "large.bin").write_bytes(os.urandom(1_500_000))
    kill_midway(starting, server, site, folder, *IDS)
    packed = [path.stat().st_ino for path in left_behind(site) if path.name == "bundle.tar"]
    (name,) = names(site)
    client = starting("upload", "--to", server.url, folder, *IDS, *SLOWLY)
    until(lambda: client.poll() is not None or arrived(site) > 700_000)
    assert [path.stat().st_ino for path in left_behind(site) if path.name == "bundle.tar"] == packed
    assert client.wait() == 0
    assert site.jobs()[0].source.endswith(name)
    assert (len(site.jobs()), site.jobs()[0].is_done, left_behind(site)) == (1, True, [])


@pytest.mark.sweep
def test_what_was_changed_meanwhile_begins_anew(
    command: Command, starting: Callable[..., Running], server: Server, site: Site, folder: Path
) -> None:
    (folder / "large.bin").write_bytes(os.urandom(1_500_000))
    kill_midway(starting, server, site, folder, *IDS)
    (name,) = names(site)
    (folder / "large.bin").write_bytes(b"small now")
    done = command("upload", "--to", server.url, folder, *IDS)
    assert done.returncode == 0, done.stderr
    assert_sound(site, {**FILES, "data/large.bin": b"small now"}, jobs=1)
    assert (name in names(site), left_behind(site)) == (False, [])


@pytest.mark.sweep
def test_a_bundle_that_is_changed_while_it_is_sent_is_no_job(
    starting: Callable[..., Running], server: Server, site: Site, large: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    bundle, _ = large
    with (tmp_path / "said").open("wb") as said:
        client = starting("upload", "--to", server.url, bundle, *SLOWLY, output=said)
        until(lambda: arrived(site) > 200_000)
        with bundle.open("ab") as file:
            file.write(b"more")
        assert client.wait() == 1
    assert f"ingest: {bundle}: {bundle} was changed while it was sent\n" in (tmp_path / "said").read_text()
    assert (site.jobs(), names(site)) == ([], [])


@pytest.mark.sweep
def test_an_upload_that_the_server_has_forgotten_begins_anew(
    command: Command,
    starting: Callable[..., Running],
    server: Server,
    site: Site,
    large: tuple[Path, dict[str, bytes]],
) -> None:
    bundle, files = large
    kill_midway(starting, server, site, bundle)
    for path in site.settings.spool.glob("resumable-*"):
        path.unlink()
    assert command("upload", "--to", server.url, bundle).returncode == 0
    assert_sound(site, files, jobs=1)
    assert left_behind(site) == []


@pytest.mark.sweep
def test_a_server_that_is_killed_is_waited_for(
    starting: Callable[..., Running], environment: Path, site: Site, large: tuple[Path, dict[str, bytes]]
) -> None:
    bundle, files = large
    with Server(environment, port=lasting_port()) as server:
        client = starting("upload", "--to", server.url, bundle, *SLOWLY)
        until(lambda: arrived(site) > 200_000)
        server.kill()
    (name,) = names(site)
    with Server(environment, port=server.port):
        assert client.wait() == 0
    assert_sound(site, files, jobs=1)
    assert site.jobs()[0].source.endswith(name)


@pytest.mark.sweep
def test_a_server_that_stays_away(command: Command, tmp_path: Path, site: Site) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    done = command("upload", "--to", "http://127.0.0.1:1", "--retry-for", 0, bundle)
    assert done.returncode == 4
    assert "does not answer: Connection refused" in done.stderr


def reached(client: Running, site: Site, length: int) -> bool:
    return client.poll() is not None or arrived(site) >= length


@pytest.mark.sweep
@pytest.mark.parametrize("step", range(12))
def test_both_are_killed_again_and_again(
    starting: Callable[..., Running], environment: Path, site: Site, folder: Path, step: int
) -> None:
    """The one, the other or both, at any moment from the packing to the end of the job."""
    (folder / "large.bin").write_bytes(os.urandom(1_000_000))
    words = ("upload", folder, *IDS, "--limit-rate", "2M")
    port, deaths = lasting_port(), 0
    while True:
        with Server(environment, port=port) as server:
            client = starting(*words, "--to", server.url)
            until(partial(reached, client, site, (deaths * 12 + step) * 30_000))
            if deaths == 3 or client.poll() is not None:
                assert client.wait() == 0
                break
            deaths += 1
            if step % 3 != 1:
                client.kill()
                client.wait()
            if step % 3 != 0:
                server.kill()
            if step % 3 == 1:
                client.kill()
                client.wait()
    until(lambda: all(job.is_done for job in site.jobs()))
    assert len(site.jobs()) == 1
    assert site.contents() == {**FILES, "data/large.bin": (folder / "large.bin").read_bytes()}
    assert left_behind(site) == []


@pytest.mark.sweep
def test_waiting_is_resumed_too(command: Command, released: ReleasedIngest, tmp_path: Path, site: Site) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    released.states = [{"state": "OK", "task": "ingest files", "task_percent": "5.00000"}]
    words = ("upload", "--to", released.url, bundle)
    done = command(*words, "--max-wait", 0)
    assert done.returncode == 4
    assert done.stderr.endswith(
        f"ingest: {bundle}: job 7 is at 'ingest files'; it goes on at the server, and the same command waits for it"
        " again\n"
    )
    released.states = [DONE]
    assert command(*words).stdout == f"job 7: {bundle} is complete\n"
    assert (len(released.bundles), left_behind(site)) == (1, [])
    assert command(*words).returncode == 0
    assert len(released.bundles) == 2, "what is done is no unfinished upload"


@pytest.mark.sweep
def test_a_job_that_the_server_has_forgotten_is_made_anew(
    command: Command, released: ReleasedIngest, tmp_path: Path, site: Site
) -> None:
    released.states = [{"state": "OK", "task": "ingest files"}]
    words = ("upload", "--to", released.url, write_bundle(tmp_path / "b.tar"))
    assert command(*words, "--max-wait", 0).returncode == 4

    def forget(handler: Handler) -> bool:
        if handler.command != "GET" or len(released.bundles) > 1:
            return False
        handler.answer(404, {"message": "there is no job 7"})
        return True

    released.guard, released.states = forget, [DONE]
    assert command(*words).returncode == 0
    assert (len(released.bundles), left_behind(site)) == (2, [])


@pytest.mark.sweep
def test_without_waiting(command: Command, released: ReleasedIngest, tmp_path: Path, site: Site) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    released.states = [{"state": "OK", "task": "UPLOADING"}]
    done = command("upload", "--to", released.url, "--no-wait", "--json", bundle)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["job_id"], answer["task"], answer["source"]) == (7, "UPLOADING", str(bundle))
    assert command("upload", "--to", released.url, "--no-wait", bundle).stdout == f"job 7: {bundle} was sent\n"
    assert left_behind(site) == []


def test_a_server_without_resumable_uploads(command: Command, released: ReleasedIngest, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    done = command("upload", "--to", f"{released.url}/upload", bundle)
    assert (done.returncode, done.stdout) == (0, f"job 7: {bundle} is complete\n"), done.stderr
    assert released.bundles == [bundle.read_bytes()]
    assert released.headers_of("POST")[0]["Content-Type"] == "application/octet-stream"


@pytest.mark.sweep
def test_a_bundle_whose_answer_was_lost_is_not_sent_again_in_one_request(
    command: Command, released: ReleasedIngest, tmp_path: Path
) -> None:
    def take_and_hang_up(handler: Handler) -> bool:
        if handler.command != "POST":
            return False
        released.bundles.append(handler.body())
        handler.drop()
        return True

    released.guard = take_and_hang_up
    done = command("upload", "--to", released.url, write_bundle(tmp_path / "b.tar"))
    assert (done.returncode, len(released.bundles)) == (1, 1)
    assert "all of the bundle was sent, and it may be a job there" in done.stderr


@pytest.mark.sweep
def test_a_bundle_that_was_not_sent_whole_is_sent_again(
    command: Command, released: ReleasedIngest, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "b.tar", {"data/large": os.urandom(8_000_000)})
    cut: list[int] = []

    def hang_up_once(handler: Handler) -> bool:
        if handler.command != "POST" or cut:
            return False
        cut.append(len(handler.rfile.read(100_000)))
        handler.drop()
        return True

    released.guard = hang_up_once
    done = command("upload", "--to", released.url, bundle)
    assert done.returncode == 0, done.stderr
    assert (cut, released.bundles) == ([100_000], [bundle.read_bytes()])


def test_a_deferred_job_is_waited_for(command: Command, released: ReleasedIngest, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    deferred = {"state": "FAILED", "task": "ingest files", "complete": True, "exception": DEFERRED}
    released.states = [deferred, deferred, {"state": "OK", "task": "ingest files"}, DONE]
    done = command("upload", "--to", released.url, bundle)
    assert (done.returncode, done.stdout) == (0, f"job 7: {bundle} is complete\n")
    (said,) = [line for line in done.stderr.splitlines() if "job 7 is deferred" in line]
    assert said == f"{bundle}: job 7 is deferred: {DEFERRED.replace(chr(10), '; ')}"


@pytest.mark.sweep
def test_an_archive_that_is_away_is_waited_for(
    starting: Callable[..., Running], pacific: PacificaSite, environment: Path, site: Site, tmp_path: Path
) -> None:
    away = [True]

    def refuse(handler: PacificaHandler) -> bool:
        if not away or handler.command != "PUT":
            return False
        handler.body()
        handler.answer(503, {"message": "away"})
        return True

    pacific.guard = refuse
    bundle = write_bundle(tmp_path / "b.tar")
    with Server(environment) as server, (tmp_path / "said").open("wb") as said:
        client = starting("upload", "--to", server.url, bundle, output=said)
        until(lambda: "job 1 is deferred: " in (tmp_path / "said").read_text())
        assert client.poll() is None
        away.clear()
        assert client.wait() == 0
    assert (tmp_path / "said").read_text().endswith(f"job 1: {bundle} is complete\n")
    assert (len(site.jobs()), len(pacific.files)) == (1, len(FILES))


@pytest.mark.sweep
def test_a_piece_that_is_changed_on_its_way_is_sent_again(
    command: Command, server: Server, site: Site, tmp_path: Path
) -> None:
    """The file itself would be found to be wrong only when all of it has arrived, and could then be sent once more."""
    changed: list[str] = []

    def pass_on(handler: Handler) -> bool:
        body = bytearray(handler.body())
        if handler.command == "PATCH" and not changed:
            body[len(body) // 2] ^= 1
            changed.append(handler.headers["Upload-Checksum"].partition(" ")[0])
        handler.pass_on(server.url, bytes(body))
        return True

    bundle = write_bundle(tmp_path / "b.tar", {"data/large": os.urandom(100_000)})
    with ReleasedIngest() as proxy:
        proxy.guard = pass_on
        done = command("upload", "--to", proxy.url, bundle)
        pieces = len(proxy.headers_of("PATCH"))
    assert done.returncode == 0, done.stderr
    assert (changed, pieces, len(site.jobs())) == (["sha256"], 2, 1)


@pytest.mark.sweep
@pytest.mark.parametrize("after", [False, True], ids=["unheard", "unanswered"])
def test_any_request_or_answer_can_be_lost(
    command: Command, server: Server, site: Site, tmp_path: Path, after: bool
) -> None:
    """However far it has come when the connection breaks, before or after the server has done it: there is one job."""
    for number in range(1, 9):  # OPTIONS, POST, HEAD, two of PATCH, three of GET
        bundle = write_bundle(tmp_path / f"{number}{after}.tar", {f"data/{number}{after}": os.urandom(600_000)})
        seen: list[str] = []

        def pass_on(handler: Handler, seen: list[str] = seen, lost: int = number) -> bool:
            seen.append(handler.command)
            body = handler.body(1000 if len(seen) == lost and not after else None)
            if len(seen) == lost:
                if after:
                    handler.ask(server.url, body)
                handler.drop()
            else:
                handler.pass_on(server.url, body)
            return True

        with ReleasedIngest() as proxy:
            proxy.guard = pass_on
            done = command("upload", "--to", proxy.url, bundle)
        assert done.returncode == 0, (seen, done.stderr)
        assert len(site.jobs()) == number, seen
    assert left_behind(site) == []


@pytest.mark.sweep
def test_a_disk_that_is_too_small_to_pack_on(
    command: Command, mount: Mount, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "large.bin").write_bytes(os.urandom(3_000_000))
    disk = tmp_path / "disk"
    mount(disk, "-t", "tmpfs", "-o", "size=2000k", "none")
    monkeypatch.setenv("INGEST_UPLOADS", str(disk / "uploads"))
    done = command("upload", "--to", "http://127.0.0.1:1", folder, *IDS)
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    assert [path.name for path in disk.rglob("*.tar")] == []


def test_progress_on_a_terminal(released: ReleasedIngest, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar", {"data/large": os.urandom(500_000)})
    line = Command.line("upload", "--to", released.url, bundle.name, "--limit-rate", "400k")
    terminal = Terminal(tmp_path, line)
    headline, details = terminal.until(lambda lines: len(lines) == 2 and "left" in lines[1])
    assert re.fullmatch(r"b\.tar: sending +\d+%  ━*─+", headline)
    assert re.fullmatch(r"\d+\.\d kB of 512\.0 kB  \d+\.\d kB/s  0:00:0\d left", details)
    assert terminal.end() == 0
    assert terminal.lines == ["job 7: b.tar is complete"]
    assert terminal.cursor_is_shown


@pytest.mark.sweep
def test_quiet(command: Command, released: ReleasedIngest, tmp_path: Path) -> None:
    done = command("upload", "--quiet", "--to", released.url, write_bundle(tmp_path / "b.tar"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_job_that_failed(command: Command, released: ReleasedIngest, tmp_path: Path, site: Site) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    released.states = [{"state": "FAILED", "task": "ingest files", "complete": True, "exception": "why\nand more"}]
    done = command("upload", "--json", "--to", released.url, bundle)
    told = json.loads(done.stdout)
    assert (done.returncode, told["exception"]) == (1, "why\nand more")
    assert told["error"] == "job 7 failed at 'ingest files': why\nand more"
    assert (told["status"], told["files"], told["bytes"], told["duplicate_of"]) == ("failed", None, None, None)
    assert done.stderr == f"ingest: {bundle}: job 7 failed at 'ingest files': why\ningest: and more\n"
    assert left_behind(site) == []


@pytest.mark.sweep
def test_a_server_that_cannot_say_for_a_moment(command: Command, released: ReleasedIngest, tmp_path: Path) -> None:
    released.states = [{"state": "DATA_ACCESS_ERROR", "task": "", "task_percent": "0.0"}, DONE]
    assert command("upload", "--to", released.url, write_bundle(tmp_path / "b.tar")).returncode == 0


@pytest.mark.sweep
def test_a_busy_server_is_asked_again(command: Command, released: ReleasedIngest, tmp_path: Path) -> None:
    """Also where it is the gateway that has no server behind it for a moment: it is not taken for one without tus."""
    refused: list[str] = []

    def refuse_each_once(handler: Handler) -> bool:
        if handler.command in refused:
            return False
        refused.append(handler.command)
        handler.body()
        handler.answer(503, {"message": "full"}, {"Retry-After": "0"})
        return True

    released.guard = refuse_each_once
    assert command("upload", "--to", released.url, write_bundle(tmp_path / "b.tar")).returncode == 0
    assert refused == ["OPTIONS", "POST", "GET"]


@pytest.mark.sweep
def test_a_token_from_a_file(
    command: Command, environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, site: Site
) -> None:
    monkeypatch.setenv("INGEST_SERVER_TOKEN", "secret")
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "wrong").write_text("wrong")
    bundle = write_bundle(tmp_path / "b.tar")
    with Server(environment) as server:
        for words in ((), ("--token-file", tmp_path / "wrong")):
            done = command("upload", "--to", server.url, bundle, *words)
            assert done.returncode == 2
            assert "requires credentials: 401: credentials are required" in done.stderr
        assert command("upload", "--to", server.url, bundle, "--token-file", tmp_path / "token").returncode == 0
    assert_sound(site, FILES, jobs=1)


@pytest.mark.sweep
@pytest.mark.parametrize("where", ["environment", "netrc"])
def test_a_name_and_a_password(
    command: Command, environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, site: Site, where: str
) -> None:
    monkeypatch.setenv("INGEST_SERVER_USERNAME", "ada")
    monkeypatch.setenv("INGEST_SERVER_PASSWORD", "pässword")
    if where == "netrc":
        monkeypatch.setenv("INGEST_SERVER_PASSWORD", "password")
        (environment / "home").mkdir()
        (environment / "home" / ".netrc").write_text("machine 127.0.0.1 login ada password password\n")
        (environment / "home" / ".netrc").chmod(0o600)
    else:
        monkeypatch.setenv("INGEST_UPLOAD_USERNAME", "ada")
        monkeypatch.setenv("INGEST_UPLOAD_PASSWORD", "pässword")
    with Server(environment) as server:
        done = command("upload", "--to", server.url, write_bundle(tmp_path / "b.tar"))
    assert done.returncode == 0, done.stderr
    assert site.jobs()[0].user == "ada"


def test_what_another_user_has_begun_is_not_resumed(
    environment: Path,
    command: Command,
    starting: Callable[..., Running],
    site: Site,
    large: tuple[Path, dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INGEST_TRUSTED_PROXIES", "127.0.0.1")
    bundle, files = large
    with Server(environment) as server:
        client = starting("upload", "--to", server.url, bundle, *SLOWLY, "--user", "ada")
        until(lambda: arrived(site) > 200_000)
        client.kill()
        done = command("upload", "--to", server.url, bundle, "--user", "bob")
        assert done.returncode == 0, done.stderr
    assert [job.user for job in site.jobs()] == ["bob"]
    assert site.contents() == files


@pytest.mark.sweep
def test_a_password_is_not_given_on_the_command_line(command: Command, tmp_path: Path) -> None:
    done = command("upload", "--to", "http://ada:secret@127.0.0.1:1", tmp_path / "b.tar")
    assert done.returncode == 2
    assert "secret" not in done.stderr


@pytest.mark.sweep
def test_the_user_is_named_only_if_someone_has_named_it(
    command: Command, released: ReleasedIngest, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    for words in ((), ("--user", "ada")):
        assert command("upload", "--to", released.url, bundle, *words).returncode == 0
    assert [headers.get("X-Http-Authed-User") for headers in released.headers_of("POST")] == [None, "ada"]


@pytest.mark.sweep
def test_tls(command: Command, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    server = ReleasedIngest()
    server.speak_tls(context)
    bundle = write_bundle(tmp_path / "b.tar")
    with server:
        done = command("upload", "--to", server.url, bundle)
        assert done.returncode == 2
        assert "is not trusted" in done.stderr
        done = command("upload", "--to", server.url, bundle, "--ca-file", TLS / "ca.pem")
        assert done.returncode == 0, done.stderr


@pytest.mark.sweep
def test_a_server_that_has_moved(command: Command, released: ReleasedIngest, tmp_path: Path) -> None:
    def move(handler: Handler) -> bool:
        handler.body()
        handler.answer(301, {}, {"Location": "https://ingest.example.org/"})
        return True

    released.guard = move
    done = command("upload", "--to", released.url, write_bundle(tmp_path / "b.tar"))
    assert done.returncode == 2
    assert "has moved to 'https://ingest.example.org/'" in done.stderr


@pytest.mark.sweep
def test_a_server_that_allows_it_to_others_only_keeps_what_it_has(
    command: Command, released: ReleasedIngest, tmp_path: Path
) -> None:
    def forbid(handler: Handler) -> bool:
        handler.body()
        handler.answer(403, {"message": "this server answers only its trusted proxies"})
        return True

    released.guard = forbid
    done = command("upload", "--to", released.url, write_bundle(tmp_path / "b.tar"))
    assert done.returncode == 2
    assert "does not allow it: 403: this server answers only its trusted proxies" in done.stderr


@pytest.mark.sweep
def test_ctrl_c(
    starting: Callable[..., Running],
    command: Command,
    server: Server,
    site: Site,
    large: tuple[Path, dict[str, bytes]],
    tmp_path: Path,
) -> None:
    bundle, files = large
    with (tmp_path / "said").open("wb") as said:
        client = starting("upload", "--to", server.url, bundle, *SLOWLY, output=said)
        until(lambda: arrived(site) > 200_000)
        client.send_signal(signal.SIGINT)
        assert client.wait() == 130
    assert (tmp_path / "said").read_text().endswith("ingest: interrupted; the same command resumes from here\n")
    (name,) = names(site)
    assert command("upload", "--to", server.url, bundle).returncode == 0
    assert site.jobs()[0].source.endswith(name)
    assert_sound(site, files, jobs=1)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--limit-rate", "fast"), "--limit-rate 'fast' is not a number of bytes a second from 1k, such as 500k or 5M"),
        (("--key", "novalue"), "--key 'novalue' is not of the form KEY=VALUE"),
        (("--project", "1"), "to pack {path}, give --submitter, --instrument, or the uploader.json of a site"),
        (("--pack",), "to pack {path}, give --submitter, --project, --instrument, or the uploader.json of a site"),
        (("--token-file", "/dev/null"), "cannot read /dev/null: it is not a regular file"),
    ],
)
def test_what_is_wrong(command: Command, tmp_path: Path, words: tuple[Any, ...], said: str) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    done = command("upload", "--to", "http://127.0.0.1:1", bundle, *words)
    assert done.returncode == 2
    assert said.format(path=bundle) in done.stderr


@pytest.mark.sweep
def test_without_a_server(command: Command, tmp_path: Path) -> None:
    done = command("upload", write_bundle(tmp_path / "b.tar"))
    assert (done.returncode, done.stderr) == (2, "ingest: no server to send to: give --to, or set url in [upload]\n")


@pytest.mark.sweep
def test_two_clients_of_one_bundle(
    command: Command,
    starting: Callable[..., Running],
    server: Server,
    site: Site,
    large: tuple[Path, dict[str, bytes]],
) -> None:
    bundle, files = large
    client = starting("upload", "--to", server.url, bundle, "--limit-rate", "50k")
    until(lambda: left_behind(site))
    done = command("upload", "--to", server.url, bundle)
    assert (done.returncode, done.stderr) == (4, f"ingest: {bundle}: another process is uploading it\n")
    client.kill()
    client.wait()
    assert command("upload", "--to", server.url, bundle).returncode == 0
    assert_sound(site, files, jobs=1)
