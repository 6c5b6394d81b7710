"""Names and texts of others reach a terminal, a log or a program as one printable line, wherever they leave this one.

Each scene makes a command print something that somebody else has named. It is played with a tame name and with hostile
ones: there are as many lines and the same exit status, and not a character that a terminal would obey.
"""

import json
import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from ..support.bundles import document_for, file_record, member, transaction, write_bundle, write_tar
from ..support.command import Command
from ..support.ingest_double import Handler as IngestHandler
from ..support.ingest_double import ReleasedIngest
from ..support.pacifica_double import Handler, PacificaSite
from ..support.serving import Server
from ..support.site import Site
from ..support.terminal import Terminal

# What commands a terminal, breaks a line, turns the direction of writing, is rich's markup, or a place in a format.
PIECES = ["\x1b]0;title\x07", "\x1b[31m", "\x9b31m", "\n", "\r", "\u2028", "\u202e", "\x7f", "\t", "\x00", "\ud800"]
PIECES += ["\udce9", "[red]", "[/]", ":warning:", "%s", "{0}", "日本", "é", " ", "'", '"', "\\"]
TAME = "tame"


def hostile_names(seed: int, count: int) -> list[str]:
    chance = random.Random(seed)
    return ["".join(chance.sample(PIECES, k=8)) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a name is to appear: everything is in ``folder``."""

    command: Command
    site: Site
    folder: Path

    def run(self, *words: object) -> str:
        """All that the command writes."""
        done = self.command(*words)
        return f"{done.stdout}{done.stderr}{done.returncode}\n"

    def bundle(self, **how: object) -> Path:
        return write_bundle(self.folder / "b.tar", **how)  # type: ignore[arg-type]


Play = Callable[[Scene, str], str]
SCENES: dict[str, Play] = {}


def scene(play: Play) -> Play:
    SCENES[play.__name__] = play
    return play


def without(name: str, *pieces: str) -> str:
    for piece in pieces:
        name = name.replace(piece, "")
    return name


def file_name(name: str) -> str:
    """What of it a file can be called, and a job store can keep."""
    return without(name, "\x00", "\ud800", "\udce9", "/")


@scene
def a_bundles_own_name(scene: Scene, name: str) -> str:
    bundle = write_bundle(scene.folder / f"{file_name(name)}.tar")
    bad = write_bundle(scene.folder / f"{file_name(name)}-bad.tar", metadata=b"{}")
    said = scene.run(bundle, bad) + scene.run("--queue", bundle, bad) + scene.run("state") + scene.run("state", 1)
    return said + scene.run("check", bundle, bad) + scene.run("--json", bad) + scene.run("stats")


@scene
def a_bundle_whose_name_is_no_text(scene: Scene, name: str) -> str:
    bundle = write_bundle(scene.folder / f"{without(name, chr(0), chr(0xD800), '/')}.tar", {})
    return scene.run("check", bundle) + scene.run("check", "--json", bundle)


@scene
def a_file_in_a_drop_folder(scene: Scene, name: str) -> str:
    drop = scene.folder / f"drop {file_name(name)}"
    drop.mkdir()
    write_bundle(drop / f"{file_name(name)}.tar")
    (drop / f"{file_name(name)}-bad.tar").write_text("no tar")
    (drop / os.fsdecode(os.fsencode(file_name(name)) + b"\xff.tar")).write_text("no text")
    said = scene.run("watch", "--once", "--settle", 0, "--patience", 0, drop)
    for path in drop.iterdir():
        path.unlink()
    return said + scene.run("prune", "--older-than", "0d")


@scene
def what_is_uploaded_and_what_a_server_says(scene: Scene, name: str) -> str:
    clean = without(name, "\x00", "\ud800", "\udce9")

    def refuse(handler: IngestHandler) -> bool:
        handler.body()
        handler.answer(400, {"message": clean})
        return True

    (scene.folder / file_name(name)).write_text("x")
    with ReleasedIngest() as server:
        words = ("upload", "--to", server.url, file_name(name), "absent")
        server.states = [{"state": "FAILED", "task": clean, "exception": without(clean, "\n")}]
        said = scene.run(*words) + scene.run(*words, "--json")
        server.guard = refuse
        return said + scene.run(*words)


@scene
def a_member_and_what_is_listed(scene: Scene, name: str) -> str:
    written = file_name(name)
    listed = document_for({f"data/{written}": b"x", f"data/{written}2": b"y"})
    return scene.run(scene.bundle(files={f"data/{written}": b"x", f"data/{written}3": b""}, document=listed))


@scene
def values_of_a_document(scene: Scene, name: str) -> str:
    clean = without(name, "\x00", "\ud800", "\udce9")
    records = [*transaction(clean), file_record("data/a", b"a", mimetype=clean, hashtype=clean, hashsum=clean)]
    said = scene.run("check", scene.bundle(files={"data/a": b"a"}, document=records))
    records = [*transaction(), {"destinationTable": clean, clean: 1}]
    return said + scene.run(scene.bundle(files={}, document=records)) + scene.run("state", 1) + scene.run("stats")


@scene
def a_link_in_a_tar(scene: Scene, name: str) -> str:
    link = member(f"data/{file_name(name)}", b"", type=b"2", linkname=file_name(name))
    return scene.run(write_tar(scene.folder / "b.tar", [link]))


@scene
def a_damaged_archive(scene: Scene, name: str) -> str:
    said = scene.run("-q", "--receipt", "r.json", scene.bundle(files={f"data/{file_name(name)}": b"x"}))
    scene.site.file(1).unlink()
    said += scene.run("verify", 1) + scene.run("verify", "--receipt", "r.json") + scene.run("verify", "--json", 1)
    return said + scene.run("restore", 1, "-o", f"{file_name(name)}.tar")


@scene
def a_configuration(scene: Scene, name: str) -> str:
    line = without(name, "\n", "\r", "\x00", "\u2028", "\ud800", "\udce9", "%")
    file = scene.folder / f"{file_name(name)}.ini"
    file.write_text(f"[ingest]\nx{line} = 1\n", "utf-8")
    said = scene.run("state", "--config", file)
    file.write_text(f"[ingest]\nvolume_path = /x{line}/y\ndefault_user = me\n", "utf-8")
    return said + scene.run("config", "--config", file)


@scene
def words_of_a_command_line(scene: Scene, name: str) -> str:
    given = without(name, "\x00", "\ud800")
    said = scene.run(f"./{given}") + scene.run("state", f"x{given}") + scene.run("--user", f"x{given}\x1b", "b.tar")
    said += scene.run("help", f"x{given}") + scene.run(f"--x{without(given, '=')}")
    return said + scene.run("restore", 1, "-o", given)


@scene
def a_pack(scene: Scene, name: str) -> str:
    folder = scene.folder / f"run {file_name(name)}"
    folder.mkdir()
    (folder / os.fsdecode(os.fsencode(file_name(name)) + b"\xff")).write_text("no text")
    return scene.run("pack", folder, "--submitter", 1, "--project", "p", "--instrument", 1)


@scene
def a_service(scene: Scene, name: str) -> str:
    with PacificaSite() as server:

        def refuse(handler: Handler) -> bool:
            handler.body()
            handler.answer(412, {"message": name})
            return True

        server.fail("POST", 1, refuse)
        server.fail("POST", 2, refuse)
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in server.environment().items():
                patch.setenv(variable, value)
            said = scene.run("-vv", scene.bundle()) + scene.run("check", scene.bundle())
    return said.replace(server.url, "")


@pytest.mark.parametrize("play", SCENES.values(), ids=SCENES)
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.sweep
def test_a_name_is_shown_within_its_line(command: Command, tmp_path: Path, play: Play, seed: int) -> None:
    lines = None
    for number, name in enumerate([TAME, *hostile_names(seed, 1 if seed == 0 else 3)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_DATA_HOME", str(folder / "data"))
            site = Site(folder / "data" / "pacifica-ingest-cli")
            said = play(Scene(Command(folder), site, folder), name)
        assert all(line.isprintable() for line in said.split("\n")), (name, said)
        lines = lines or said.count("\n")
        assert said.count("\n") == lines, (name, said)


def test_a_name_is_no_markup_and_no_command_in_a_display(tmp_path: Path) -> None:
    name = "[/]\x1b]0;title\x07[bold]\x9b31m.tar"
    (tmp_path / "[").mkdir()
    files = {"data/[/x]\x1b[31m": b"x"}
    write_bundle(tmp_path / name, {**files, "data/[/y]\x1b]0;t\x07": b""}, document_for(files))
    terminal = Terminal(tmp_path, Command.line(name), columns=200)
    assert terminal.end() == 0
    assert terminal.lines[-1] == r"job 1: [/]\x1b]0;title\x07[bold]\x9b31m.tar is complete, 1 file"
    assert terminal.lines[0].startswith(r"ingest: warning: 'data/[/y]\x1b]0;t\x07' is in the bundle")
    assert "\x1b]0;" not in terminal.raw
    assert "\x9b" not in terminal.raw


def test_a_display_knows_the_width_of_what_its_terminal_cannot_show(tmp_path: Path) -> None:
    write_bundle(tmp_path / f"{'日本é' * 20}.tar", {f"data/{number}": bytes(10_000) for number in range(20)})
    terminal = Terminal(tmp_path, Command.line(f"{'日本é' * 20}.tar"), environment={"PYTHONIOENCODING": "ascii"})
    assert terminal.end() == 0
    assert terminal.lines[0].startswith(r"job 1: \u65e5\u672c\xe9")
    assert not [line for line in terminal.lines if "ingest files" in line]


@pytest.mark.parametrize("words", [[], ["--log-format", "json"]], ids=["text", "json"])
def test_what_clients_send_is_one_line_of_the_log(tmp_path: Path, words: list[str]) -> None:
    names = [without(name, "\ud800").encode(errors="surrogateescape") for name in hostile_names(7, 8)]
    paths = [f"/x{quote(name)}" for name in names]
    with Server(tmp_path, *words) as server:
        for path in paths:
            assert requests.get(server.url + path, timeout=60).status_code == 404
    lines = server.log.read_text("utf-8").split("\n")
    assert all(line.isprintable() for line in lines)
    if words:
        assert len([json.loads(line) for line in lines if line.startswith("{")]) == len(paths)
    else:
        assert len([line for line in lines if len(line.split(" ")) == 9 and " GET /x" in line]) == len(paths)


@pytest.mark.sweep
def test_no_line_is_longer_than_a_person_can_use(command: Command, tmp_path: Path) -> None:
    records = document_for({"data/a": b"x"})
    records[-1]["name"] = "a" * 3_000_000
    bundle = write_bundle(tmp_path / "b.tar", {"data/a": b"x"}, records)
    for words in ([bundle], ["check", bundle], ["state", 1], ["stats"]):
        done = command(*words)
        assert max(map(len, f"{done.stdout}{done.stderr}".split("\n"))) <= 6000
    state = json.loads(command("state", "--json", 1).stdout)
    assert len(state["exception"]) <= 64_000


@pytest.mark.sweep
def test_of_many_warnings_the_rest_is_counted(command: Command, tmp_path: Path) -> None:
    listed = {"data/a": b"x"}
    files = {**listed, **{f"data/{number}": b"" for number in range(500)}}
    bundle = write_bundle(tmp_path / "b.tar", files, document_for(listed))
    for words in ([bundle], ["--again", "--json", bundle], ["check", bundle]):
        lines = command(*words).stderr.splitlines()
        assert len([line for line in lines if "is in the bundle but not in the metadata" in line]) == 10
        assert any(line.endswith("and 490 more files in the bundle but not in the metadata") for line in lines)
    assert len(json.loads(command("check", "--json", bundle).stdout)["warnings"]) == 11


def test_a_hosts_name_may_be_any_bytes(tmp_path: Path) -> None:
    alone = ["unshare", "-u" if os.getuid() == 0 else "-ru"]
    rename = "import os, socket, sys; socket.sethostname(b'h\\xe9\\x1b'); os.execv(sys.argv[1], sys.argv[1:])"
    (tmp_path / "drop").mkdir()
    write_bundle(tmp_path / "drop" / "b.tar")
    line = Command.line("watch", "--once", "--settle", 0, "drop")
    done = subprocess.run([*alone, line[0], "-c", rename, *line], cwd=tmp_path, capture_output=True, text=True)
    if "Operation not permitted" in done.stderr:
        pytest.skip("this machine's hosts cannot be renamed")
    assert (done.returncode, done.stderr) == (0, "")
