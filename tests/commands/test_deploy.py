"""``ingest deploy`` prints what systemd, containers and many hosts take, filled in for the site."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.deployment import Kind, names_of
from ingest_cli.errors import ExitCode
from ingest_cli.jobs.store import open_store
from ingest_cli.server import metrics
from ingest_cli.settings.options import OPTIONS

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.site import Site

ROOT = Path(__file__).parents[2]
UNITS = names_of(Kind.SYSTEMD)
SERVICES = [name for name in UNITS if name.endswith(".service")]
INSTRUCTIONS = {"ARG", "FROM", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def needs_systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed")
    return found


def setting(unit: str, key: str) -> list[str]:
    """The values of a key of a unit."""
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


@pytest.fixture
def odd(environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose name means something to systemd and to YAML, in which everything of the site is."""
    folder = environment / "50% of \"a\" $HOME: 'b' \\ #1"
    folder.mkdir()
    for variable, name in (("INGEST_DB", "db/jobs"), ("VOLUME_PATH", "spool"), ("INGEST_WATCH_DONE", "done")):
        monkeypatch.setenv(variable, str(folder / name))
    for variable, name in (("UNIQUEID_URL", "ids"), ("ARCHIVEINTERFACE_URL", "archive"), ("METADATA_INGEST_URL", "c")):
        monkeypatch.setenv(variable, (folder / name).as_uri())
    return folder


@pytest.mark.parametrize("kind", Kind)
def test_all_are_printed_and_named_by_their_first_line(command: Command, kind: Kind) -> None:
    done = command("deploy", kind)
    assert done.returncode == 0
    assert re.findall(r"^# (\S+): ", done.stdout, re.MULTILINE) == names_of(kind)
    assert re.search(r"\{\{\w+\}\}", done.stdout) is None


def test_they_are_written_as_they_are_printed_and_over_nothing(command: Command, environment: Path) -> None:
    kind = Kind.CONTAINER
    assert command("deploy", kind, "--output", "new/folder").returncode == 0
    folder = environment / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == names_of(kind)
    first = names_of(kind)[0]
    assert (folder / first).read_text() == command("deploy", kind, first).stdout
    (folder / first).write_text("mine")
    refused = command("deploy", kind, "--output", "new/folder")
    assert (refused.returncode, (folder / first).read_text()) == (ExitCode.USAGE, "mine")
    assert f"new/folder/{first} is there already: --force replaces it" in refused.stderr
    assert command("deploy", kind, "--output", "new/folder", "--force").returncode == 0
    assert (folder / first).read_text() != "mine"


def test_how_to_start_them_is_said_for_each_drop_folder(
    command: Command, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("systemd-escape") is None:
        pytest.skip("systemd-escape is not installed")
    drop = environment / "it's a drop"
    monkeypatch.setenv("INGEST_WATCH_FOLDERS", str(drop))
    assert "ingest-events.timer" not in command("deploy", "systemd", "-o", environment / "none").stderr
    monkeypatch.setenv("NOTIFICATIONS_URL", "http://127.0.0.1:9/")
    said = command("deploy", "systemd", "-o", environment / "units").stderr
    for unit in ("ingest.socket", "ingest-prune.timer", "ingest-events.timer"):
        assert f"systemctl enable --now {unit}\n" in said
    shown = re.findall(r"systemctl enable --now (\S*watch@.*)", said)
    typed = subprocess.run(["sh", "-c", f"printf %s {shown[0]}"], capture_output=True, check=True).stdout.decode()
    escaped = subprocess.run(["systemd-escape", "--path", str(drop)], capture_output=True, check=True).stdout.decode()
    assert (len(shown), typed) == (1, f"ingest-watch@{escaped.strip()}")


def test_what_is_not_there_is_named(command: Command) -> None:
    done = command("deploy", "launchd")
    assert (done.returncode, done.stderr) == (
        ExitCode.USAGE,
        "ingest: 'launchd' is none of systemd, container, cluster\n",
    )
    done = command("deploy", "systemd", "ingest-server.service")
    assert done.returncode == ExitCode.USAGE
    assert "there is no file 'ingest-server.service': there are ingest-events.service, " in done.stderr


def test_units_may_write_where_the_settings_say_and_nowhere_else(command: Command, environment: Path) -> None:
    (environment / "config.ini").write_text(
        "[database]\npath = /a/db/jobs\n[ingest]\nvolume_path = /a/spool\n[uniqueid]\nurl = http://127.0.0.1:9\n"
        "[archiveinterface]\nurl = file:///b/archive\n[metadata]\ningest_url = file:///a/db/catalogue\n"
        "[server]\nmove_from = /c\ntoken = hush\n[watch]\nfolders = /b/archive/../d:/e\ndone = /a/db/done\n"
    )
    done = command("deploy", "systemd", "--config", "config.ini", "--json", "--run-as", "nobody")
    for row in json.loads(done.stdout):
        if row["name"] in SERVICES:
            assert setting(row["text"], "ReadWritePaths")[-1].split() == [
                *("/a/db", "/a/spool", "/b/archive", "/b/d", "/c", "/e"),
                *("/tmp", "/var/tmp"),
            ]
            assert setting(row["text"], "Environment") == [f"INGEST_CONFIG={environment / 'config.ini'}"]
            assert setting(row["text"], "User") == ["nobody"]
    assert "hush" not in done.stdout + done.stderr
    assert "there is no folder /a/db yet: install -d -o nobody /a/db" in done.stderr


def test_units_of_a_host_among_many_name_nothing_in_place_of_what_all_share(
    command: Command, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://ingest@db.example.org/ingest"
    (environment / "config.ini").write_text(
        f"[database]\nurl = {url}\n[uniqueid]\nurl = {url}\n[metadata]\ningest_url = {url}\n"
        "[archiveinterface]\nurl = s3://ingest/archive\n[s3]\naccess_key_id = k\nsecret_access_key = hush\n"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.example.org")
    unit = command("deploy", "systemd", "ingest-worker@.service", "--config", "config.ini").stdout
    told = {line.partition("=")[0] for line in setting(unit, "Environment")}
    assert told == {"INGEST_CONFIG", "VOLUME_PATH", "AWS_ENDPOINT_URL_S3"}
    spool = environment / "data" / "pacifica-ingest-cli" / "spool"
    assert setting(unit, "ReadWritePaths") == [f"{spool} /tmp /var/tmp"]


def test_the_configuration_that_is_shown_for_many_hosts_can_be_used(command: Command, environment: Path) -> None:
    page = (ROOT / "man" / "ingest-cluster.7").read_text("utf-8")
    shown = re.findall(r"^\.Bd -literal[^\n]*\n(\[database\].*?)^\.Ed$", page, re.MULTILINE | re.DOTALL)
    (environment / "config.ini").write_text(shown[0])
    done = command("config", "--config", "config.ini")
    assert (done.returncode, "warning" in done.stderr, len(shown)) == (0, False, 1), done.stderr
    assert ":SECRET" not in done.stdout


def test_no_secret_of_the_environment_stands_in_them(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_SERVER_TOKEN", "hush")
    monkeypatch.setenv("METADATA_INGEST_URL", "http://me:hush@127.0.0.1:9/ingest")
    monkeypatch.setenv("UNIQUEID_URL", "http://127.0.0.1:9/$x")
    units, compose = command("deploy", "systemd"), command("deploy", "container", "compose.yaml")
    assert "hush" not in units.stdout + compose.stdout
    assert "warning: INGEST_SERVER_TOKEN is a secret, and stands in no unit: set [server] token" in units.stderr
    assert "warning: METADATA_INGEST_URL is a secret" in units.stderr
    assert "Environment=UNIQUEID_URL=http://127.0.0.1:9/$x\n" in units.stdout
    assert '    UNIQUEID_URL: "http://127.0.0.1:9/$$x"\n' in compose.stdout
    assert "    METADATA_INGEST_URL: ${METADATA_INGEST_URL:?[metadata] ingest_url}\n" in compose.stdout


def test_systemd_takes_every_unit_whatever_its_folders_are_called(
    command: Command, environment: Path, odd: Path
) -> None:
    program = needs_systemd_analyze()
    (environment / "units").mkdir()
    assert command("deploy", "systemd", "--output", "units", "--run-as", "root").returncode == 0
    units = [environment / "units" / name for name in UNITS]
    done = subprocess.run([program, "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_service_is_confined(command: Command, environment: Path) -> None:
    program = needs_systemd_analyze()
    assert command("deploy", "systemd", *SERVICES, "--output", "units").returncode == 0
    units = [str(environment / "units" / name) for name in SERVICES]
    line = [program, "security", "--offline=true", "--no-pager", *units]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze does not look at files")
    levels = re.findall(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert len(levels) == len(SERVICES), done.stdout + done.stderr
    assert max(map(float, levels)) < 3


def unescaped(text: str) -> list[str]:
    """The words of a unit's line, as systemd reads them."""
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(text)]


@pytest.mark.sweep
def test_what_a_unit_runs_needs_nothing_but_what_stands_in_it(command: Command, environment: Path, odd: Path) -> None:
    assert command("-q", write_bundle(environment / "b.tar")).returncode == 0
    unit = command("deploy", "systemd", "ingest-verify.service").stdout
    told = dict(word.split("=", 1) for line in setting(unit, "Environment") for word in unescaped(line))
    (line,) = setting(unit, "ExecStart")
    own = {"HOME": "/nonexistent", "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    # Whatever "ingest" is installed beside this Python, it is this one that is tried.
    words = unescaped(line)
    words = [sys.executable, "-m", "ingest_cli", *words[words.index("verify") :]]
    done = subprocess.run(words, env=own | told, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, "1 job" in done.stdout + done.stderr) == (0, True), done.stderr
    folders = unescaped(setting(unit, "ReadWritePaths")[0])
    assert str(odd) in folders


def test_the_containerfile_has_what_it_copies(command: Command) -> None:
    text = command("deploy", "container", "Containerfile").stdout
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert {line.split()[0] for line in lines} == INSTRUCTIONS
    assert lines[0].startswith("FROM ")
    assert [json.loads(line.split(" ", 1)[1]) for line in lines if line.startswith(("CMD", "ENTRYPOINT"))] == [
        ["ingest"],
        ["serve", "--host", "0.0.0.0"],
    ]
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000:1000"]


def test_the_image_is_made_of_what_the_package_is_made_of(command: Command) -> None:
    kept = re.findall(r"^!(.+)$", command("deploy", "container", ".dockerignore").stdout, re.MULTILINE)
    assert all((ROOT / name).exists() for name in kept)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], *project["project"]["license-files"], "pyproject.toml"}
    assert needed | {project["project"]["readme"]} == set(kept)


def test_compose_takes_the_file(command: Command, monkeypatch: pytest.MonkeyPatch, odd: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    monkeypatch.setenv("INGEST_DEFAULT_USER", "ada: #1 ${HOME}")
    monkeypatch.setenv("POLICY_INGEST_URL", "file:///etc/policy.json")
    done = command("deploy", "container", "compose.yaml")
    compose = yaml.safe_load(done.stdout)
    serve, watch = compose["services"]["serve"], compose["services"]["watch"]
    for service in (serve, watch):
        assert service["environment"]["INGEST_DEFAULT_USER"] == "ada: #1 $${HOME}"
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert "data:/data" in service["volumes"]
    assert {*serve["environment"]} - {*watch["environment"]} == {"INGEST_SERVER_TOKEN"}
    assert str(odd) not in done.stdout
    assert done.stderr == "ingest: left out, as it is of this machine: [policy] ingest_url = file:///etc/policy.json\n"


def yaml_of(text: str) -> Any:
    return pytest.importorskip("yaml", reason="PyYAML is not installed").safe_load(text)


def test_compose_takes_the_file_of_many_hosts_too(command: Command, monkeypatch: pytest.MonkeyPatch, odd: Path) -> None:
    monkeypatch.setenv("INGEST_DEFAULT_USER", "ada")
    monkeypatch.setenv("INGEST_DATABASE_URL", "postgresql://me:hush@db.example.org/ours")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    done = command("deploy", "cluster", "compose-cluster.yaml")
    assert "hush" not in done.stdout
    assert str(odd) not in done.stdout
    services = yaml_of(done.stdout)["services"]
    ours = {name: services[name] for name in ("serve1", "serve2", "worker")}
    known = {name for option in OPTIONS for name in (option.variable, *option.also)}
    for service in ours.values():
        assert service["environment"]["INGEST_DEFAULT_USER"] == "ada"
        assert {*service["environment"]} - known == {"XDG_DATA_HOME", "PGPASSWORD"}
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["build"]["args"] == {"EXTRAS": "[cluster]"}
    assert {service["environment"]["INGEST_DATABASE_URL"] for service in ours.values()} == {
        "postgresql://ingest@database/ingest"
    }
    shared = services["database"]["environment"]["POSTGRES_PASSWORD"]
    assert {service["environment"]["PGPASSWORD"] for service in ours.values()} == {shared}
    files = {volume.split(":")[0][2:] for service in services.values() for volume in service.get("volumes", ())}
    assert {name for name in files if "." in name} <= set(names_of(Kind.CLUSTER)), "what is mounted is written"


def test_the_file_of_many_hosts_has_nothing_of_the_database_and_the_storage_that_a_site_has(
    command: Command, environment: Path
) -> None:
    (environment / "config.ini").write_text(
        "[database]\nurl = postgresql://me:hush@db.example.org/ours\n[ingest]\nshared_spool = s3://ours/spool\n"
        "[archiveinterface]\nurl = s3://ours/archive\n[cluster]\nhost = alpha\npriority = 70\nshared = /srv/shared\n"
        "[s3]\nendpoint = http://s3.example.org\naccess_key_id = ours\nsecret_access_key = hush\n"
        "ca_file = /etc/ca.pem\n"
        "region = ours\naddressing = host\nsession_token = hush\n"
    )
    done = command("deploy", "cluster", "compose-cluster.yaml", "--config", "config.ini")
    environments = re.findall(r"^ +environment:.*\n((?: {4,}.*\n)+)", done.stdout, re.MULTILINE)
    for lines in environments:
        names = re.findall(r"^ +(\w+): ", lines, re.MULTILINE)
        assert len(names) == len({*names}), "compose takes no name twice"
        assert not {"INGEST_HOST", "INGEST_SHARED", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_S3"} & {*names}
    assert 'INGEST_PRIORITY: "70"' in environments[0]
    assert not re.search("ours|hush|example", done.stdout)
    assert [line.partition(" = ")[0] for line in done.stderr.splitlines()] == [
        "ingest: left out, as it is of this machine: [s3] ca_file",
        "ingest: left out, as it is of this machine: [cluster] shared",
    ]


def test_nginx_takes_the_file_of_many_hosts(command: Command, environment: Path) -> None:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    text = command("deploy", "cluster", "ingest-nginx.conf").stdout.replace("serve1", "127.0.0.1")
    (environment / "site.conf").write_text(text.replace("serve2", "127.0.0.2"))
    (environment / "nginx.conf").write_text(f"pid {environment}/pid; events {{}} http {{ include site.conf; }}")
    line = [program, "-t", "-q", "-p", str(environment), "-c", "nginx.conf", "-e", "log"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_alerts_are_about_what_the_server_tells(command: Command, site: Site) -> None:
    text = command("deploy", "cluster", "ingest-alerts.yaml").stdout
    names = set(re.findall(r'_family\("(\w+)"', Path(metrics.__file__).read_text("utf-8")))
    with open_store(site.settings) as store:
        told = metrics.exposition(store)
    for rule in yaml_of(text)["groups"][0]["rules"]:
        assert {"alert", "expr", "labels", "annotations"} <= {*rule}
        for name, label in re.findall(r"\b(ingest_\w+)(?:\{(.*?)\})?", rule["expr"]):
            assert name in names, rule
            assert not label or f"\n{name}{{{label}}} " in told, rule
