"""What pacifica-cli is configured with, by a site or a user: ``config.ini`` and ``uploader.json``."""

import os
import sys
from collections.abc import Mapping
from configparser import ConfigParser, Error, SectionProxy
from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingsError
from ..settings import Endpoint, split_http_url
from .target import Target, without_upload

USERS = ".pacifica_cli"
SYSTEMS = (Path("/etc/pacifica-cli"), Path(sys.prefix) / "pacifica-cli")
NONE = {"", "none"}


@dataclass(frozen=True, slots=True)
class PacificaCli:
    """The configuration; ``origin`` is the file that counts most."""

    origin: Path
    endpoints: SectionProxy
    authentication: SectionProxy

    @property
    def policy_url(self) -> str | None:
        """The policy service that is asked for values."""
        return self.endpoints.get("upload_policy_url") or None

    def target(self) -> Target | None:
        """The server to send to, if it names one. Raises SettingsError."""
        url = self.endpoints.get("upload_url", "")
        if not url:
            return None
        if split_http_url(url) is None:
            raise SettingsError(f"{self.origin}: [endpoints] upload_url: it is not an http(s) URL")
        base = without_upload(url)
        return Target(
            endpoint=self._endpoint(base),
            status_url=self.endpoints.get("upload_status_url") or f"{base}/get_state",
            policy_url=self.policy_url,
        )

    @property
    def _kind(self) -> str:
        return self.authentication.get("type", "").lower()

    def _endpoint(self, url: str) -> Endpoint:
        kind, basic, cert, key = self._kind, None, None, None
        if kind == "basic":
            basic = (self._text("username"), self._text("password"))
        elif kind == "clientssl":
            cert, key = Path(self._text("cert")).expanduser(), Path(self._text("key")).expanduser()
        elif kind not in (*NONE, "gssapi"):
            raise SettingsError(f"{self.origin}: [authentication] type: {kind!r} is none of clientssl, basic, gssapi")
        return Endpoint(
            url=url,
            basic=basic,
            negotiate=kind == "gssapi",
            client_cert=cert,
            client_key=key,
            ca_file=self._ca_file(),
        )

    def _text(self, key: str) -> str:
        return os.environ.get(f"AUTHENTICATION_{key.upper()}") or str(self.authentication.get(key, ""))

    def _ca_file(self) -> Path | None:
        bundle = self.endpoints.get("ca_bundle", "True")
        if bundle == "False":
            raise SettingsError(f"{self.origin}: [endpoints] ca_bundle is False: name the CA's certificates there")
        return None if bundle in ("True", "") else Path(bundle).expanduser()


def read_pacifica_cli(environment: Mapping[str, str] = os.environ) -> PacificaCli | None:
    """What pacifica-cli would use, the user's before the system's; None where there is none. Raises SettingsError."""
    systems = [folder / "config.ini" for folder in SYSTEMS]
    own = _users(environment.get("PACIFICA_CLI_INI") or "config.ini")
    paths = [path for path in [next((path for path in systems if path.is_file()), None), own] if path is not None]
    parser = ConfigParser(interpolation=None)
    parser.read_dict({"endpoints": {}, "authentication": {}})
    try:
        read = parser.read(paths, "utf-8")
    except (Error, UnicodeDecodeError) as error:
        raise SettingsError(f"the configuration of pacifica-cli is malformed ({', '.join(map(str, paths))})") from error
    except OSError as error:
        raise SettingsError(f"cannot read {error.filename}: {error.strerror}") from error
    return PacificaCli(Path(read[-1]), parser["endpoints"], parser["authentication"]) if read else None


def find_uploader_config() -> Path | None:
    """The ``uploader.json`` that pacifica-cli would use: the system's or the user's, but none of the current folder."""
    places = [*(folder / "uploader.json" for folder in SYSTEMS), _users("uploader.json")]
    return next((path for path in places if path is not None and path.is_file()), None)


def _users(name: str) -> Path | None:
    try:
        return Path.home() / USERS / name
    except RuntimeError:  # there is no home folder
        return None
