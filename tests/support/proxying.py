"""Real proxies in front of a server, set up by the examples of ingest-deploy(7)."""

import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .loopback import free_port
from .waiting import until

PAGE = (Path(__file__).parents[2] / "man" / "ingest-deploy.7").read_text("utf-8")
PROGRAMS = {"nginx": "nginx", "Apache": "apache2", "Caddy": "caddy"}
USER, PASSWORD = "ada", "s3cret"
# The password's hash by bcrypt, at its least cost, as Caddy wants it.
HASH = "$2b$04$Vv.jfhNOdaOl9aRf1PL.O.gqdO4wfb5zqLMsbn3Zva2/ZHz8KYOWy"
# The address of the server in the examples.
BEHIND = "127.0.0.1:8066"
SHARING = Path(__file__).parents[2] / "ingest_cli" / "deployment" / "cluster" / "ingest-nginx.conf"

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;
events {{ }}
http {{
    access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    {example}
}}
"""
APACHE = """
{modules}
ServerName localhost
Listen 127.0.0.1:{port}
DefaultRuntimeDir {folder}
PidFile {folder}/pid
ErrorLog {folder}/log
User www-data
{example}
"""
APACHE_MODULES = Path("/usr/lib/apache2/modules")
MODULES = (
    *("mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "headers", "proxy"),
    "proxy_http",
)


def is_there(proxy: str) -> bool:
    return shutil.which(PROGRAMS[proxy]) is not None and (proxy != "Apache" or APACHE_MODULES.is_dir())


@contextmanager
def in_front(proxy: str, server: str) -> Iterator[str]:
    """The URL of the example's path at a proxy in front of ``server``, given as the proxy's configuration has it."""
    with _place() as (folder, port):
        line = _CONFIGURED[proxy](folder, port, _example(proxy).replace(BEHIND, server))
        with _running(line, folder, port):
            yield f"http://127.0.0.1:{port}/ingest"


@contextmanager
def sharing_out(servers: Sequence[str]) -> Iterator[str]:
    """The URL of nginx in front of two servers, as `ingest deploy cluster` sets it up."""
    with _place() as (folder, port):
        example = SHARING.read_text("utf-8").replace("listen 8066", f"listen 127.0.0.1:{port}")
        for number, server in enumerate(servers, 1):
            example = example.replace(f"serve{number}:8066", server)
        (folder / "conf").write_text(NGINX.format(folder=folder, example=example))
        with _running(["nginx", "-p", str(folder), "-c", str(folder / "conf")], folder, port):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def _place() -> Iterator[tuple[Path, int]]:
    """A folder, and a port that is free."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # Apache reads it as another user
        yield folder, free_port()


@contextmanager
def _running(line: list[str], folder: Path, port: int) -> Iterator[None]:
    home = str(folder)
    environment = {"HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home, "PATH": "/usr/sbin:/usr/bin"}
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(line, stdout=said, stderr=said, env=environment)
        try:
            until(lambda: process.poll() is not None or _answers(port))
            assert process.poll() is None, (folder / "said").read_text()
            yield
        finally:
            process.terminate()
            process.wait(60)


def _example(proxy: str) -> str:
    found = re.search(rf"^\.Ss {proxy}\n.*?^\.Bd -literal.*?\n(.*?)^\.Ed$", PAGE, re.M | re.S)
    assert found is not None
    return found[1]


def _answers(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def _nginx(folder: Path, port: int, example: str) -> list[str]:
    (folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
    example = re.sub(r"listen .*;", f"listen 127.0.0.1:{port};", example)
    example = re.sub(r"\n *ssl_.*;", "", example).replace("/etc/nginx/ingest.users", str(folder / "users"))
    (folder / "conf").write_text(NGINX.format(folder=folder, example=example))
    return ["nginx", "-p", str(folder), "-c", str(folder / "conf")]


def _apache(folder: Path, port: int, example: str) -> list[str]:
    (folder / "users").write_text(f"{USER}:{_said('openssl', 'passwd', '-apr1', PASSWORD)}\n")
    modules = "\n".join(f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in MODULES)
    example = example.replace("/etc/apache2/ingest.users", str(folder / "users"))
    (folder / "conf").write_text(APACHE.format(folder=folder, port=port, modules=modules, example=example))
    return ["apache2", "-D", "FOREGROUND", "-d", str(folder), "-f", str(folder / "conf")]


def _caddy(folder: Path, port: int, example: str) -> list[str]:
    example = example.replace("ingest.example.org", f"http://127.0.0.1:{port}")
    example = re.sub(r"(?m)^( *ada ).*", rf"\g<1>{HASH}", example)
    version = re.search(r"(\d+)\.(\d+)", _said("caddy", "version"))
    if version and (int(version[1]), int(version[2])) < (2, 8):
        example = example.replace("basic_auth", "basicauth")
    (folder / "Caddyfile").write_text(f"{{\n    admin off\n    auto_https off\n}}\n{example}")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _said(*line: str) -> str:
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


_CONFIGURED: dict[str, Callable[[Path, int, str], list[str]]] = {"nginx": _nginx, "Apache": _apache, "Caddy": _caddy}
