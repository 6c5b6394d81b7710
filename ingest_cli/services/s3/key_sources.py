"""Where the access key of storage that speaks S3 is looked for, where a site has set none: where others look too.
Each place says nothing where it is not set up; where it is, and has no key, ServiceUnavailable is raised."""

import configparser
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from requests import Response, Session

from ...connections import FAILURES, reason_of, session
from ...errors import ServiceUnavailable
from ...settings import Endpoint, S3Access
from ...text import one_line, quoted

# A machine that is none of Amazon's answers nothing at all there.
INSTANCE, INSTANCE_SECONDS = "http://169.254.169.254", 1.0
TOKEN_SECONDS = 21_600
CONTAINER = "http://169.254.170.2"
# To which others is a token sent without TLS?
CONTAINERS = {"localhost", "127.0.0.1", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"}


@dataclass(frozen=True, slots=True)
class Key:
    """An access key, which ends when it ``expires``."""

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: datetime | None = None


def of_a_token(access: S3Access) -> Key | None:
    """That of a role, which the storage's STS gives for the token of another service: of a pod of Kubernetes."""
    file, role = _set("AWS_WEB_IDENTITY_TOKEN_FILE"), _set("AWS_ROLE_ARN")
    if not file or not role:
        return None
    usual = f"https://sts.{access.region}.amazonaws.com"
    url = (_set("AWS_ENDPOINT_URL_STS") or _set("AWS_ENDPOINT_URL") or usual).rstrip("/")
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": role,
        "RoleSessionName": _set("AWS_ROLE_SESSION_NAME") or f"ingest-{os.getpid()}",
        "WebIdentityToken": _read(file),
    }
    with session(Endpoint(url=url, ca_file=access.ca_file)) as asking, _telling(url):
        answer = _good(asking.post(f"{url}/", data=form, timeout=access.timeout))
        found = ElementTree.fromstring(answer.content).find(".//{*}Credentials")
        fields = {} if found is None else {part.tag.rpartition("}")[2]: part.text for part in found}
        return _key(fields, "SessionToken")


def of_a_profile(_access: S3Access) -> Key | None:
    """That of a profile, which files in the home folder have."""
    profile = _set("AWS_PROFILE") or "default"
    read = []
    for file, section in _files(profile):
        values = _section(file, section)
        key = _profiles_key(values or {})
        if key is not None:
            return key
        read += [file] if values is not None else []
    if _set("AWS_PROFILE"):
        where = " and ".join(map(str, read)) or "any file"
        raise ServiceUnavailable(f"the profile {quoted(profile)} has no access key in {where}: see AWS_PROFILE")
    return None


def of_a_container(access: S3Access) -> Key | None:
    """That of a container's role, which the service that runs it gives."""
    relative, full = _set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), _set("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if not relative and not full:
        return None
    url = f"{CONTAINER}{relative}" if relative else full
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in CONTAINERS:
        raise ServiceUnavailable(f"no access key is asked of {url}, which is neither https nor of this machine")
    file = _set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    token = _read(file) if file else _set("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    with _direct() as asking, _telling(url):
        headers = {"Authorization": token} if token else {}
        return _key(_good(asking.get(url, headers=headers, timeout=access.timeout)).json(), "Token")


def of_the_instance(access: S3Access) -> Key | None:
    """That of a machine's role, which its own metadata service gives."""
    if _set("AWS_EC2_METADATA_DISABLED").lower() == "true":
        return None
    given = _set("AWS_EC2_METADATA_SERVICE_ENDPOINT").rstrip("/")
    url, timeout = (given, access.timeout) if given else (INSTANCE, INSTANCE_SECONDS)
    with _direct() as asking, _telling(url):
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
        token = _good(asking.put(f"{url}/latest/api/token", headers=lifetime, timeout=timeout)).text
        roles = f"{url}/latest/meta-data/iam/security-credentials/"
        headers = {"X-aws-ec2-metadata-token": token}
        role = _good(asking.get(roles, headers=headers, timeout=timeout)).text.split("\n")[0].strip()
        return _key(_good(asking.get(f"{roles}{role}", headers=headers, timeout=timeout)).json(), "Token")


def _section(file: Path, section: str) -> dict[str, str] | None:
    """What a file says in a section; None where there is no such file."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        if not parser.read(file, "utf-8"):
            return None
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ServiceUnavailable(f"the access keys of {file} cannot be read: {one_line(str(error))}") from error
    return dict(parser.items(section)) if parser.has_section(section) else {}


def _profiles_key(values: dict[str, str]) -> Key | None:
    key_id, secret = values.get("aws_access_key_id"), values.get("aws_secret_access_key")
    if not key_id or not secret:
        return None
    return Key(key_id, secret, values.get("aws_session_token") or None)


def _files(profile: str) -> Iterator[tuple[Path, str]]:
    """The files that may have a key, and in which section."""
    with suppress(RuntimeError):  # there is no home folder
        yield Path(_set("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser(), profile
        section = profile if profile == "default" else f"profile {profile}"
        yield Path(_set("AWS_CONFIG_FILE") or "~/.aws/config").expanduser(), section


def _set(variable: str) -> str:
    return os.environ.get(variable, "").strip()


def _read(file: str) -> str:
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceUnavailable(f"the token for an access key cannot be read: {error}") from error


def _direct() -> Session:
    """One that goes through no proxy: what is asked is on this machine, or beside it."""
    made = Session()
    made.trust_env = False
    return made


@contextmanager
def _telling(url: str) -> Iterator[None]:
    try:
        yield
    except (*FAILURES, ElementTree.ParseError) as error:
        raise ServiceUnavailable(f"cannot get an access key from {url}: {reason_of(error)}") from error


def _good(answer: Response) -> Response:
    if not answer.ok or answer.is_redirect:
        raise ValueError(f"{answer.status_code} {answer.reason}")
    return answer


def _key(fields: dict[str, Any], token: str) -> Key:
    names = ("AccessKeyId", "SecretAccessKey", token)
    given = [fields.get(name) if isinstance(fields, dict) else None for name in names]
    if not all(isinstance(text, str) and text and text.isprintable() for text in given):
        raise ValueError("its answer has no access key")
    key_id, secret, session_token = map(str, given)
    return Key(key_id, secret, session_token, _moment(fields.get("Expiration")))


def _moment(text: object) -> datetime | None:
    with suppress(ValueError):
        moment = datetime.fromisoformat(str(text))
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return None
