"""The access key of storage that speaks S3, where a site has set none: from the places that other programs read."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from ingest_cli.errors import ServiceUnavailable
from ingest_cli.services.s3.credentials import Credentials
from ingest_cli.settings import S3Access

from ..support.bundles import FILES, write_bundle
from ..support.command import Command
from ..support.key_givers import ROLE, TOKEN, KeyGiver
from ..support.object_stores import EXPIRED, KEY_ID, SECOND_KEY_ID, SECRET, Between, ObjectServer
from ..support.waiting import until

ACCESS = S3Access(endpoint="https://storage.example.org", region="us-east-1", key_id="", secret="", timeout=5.0)
Variables = dict[str, str]


def instance(giver: KeyGiver, _folder: Path) -> Variables:
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": giver.url, "AWS_EC2_METADATA_DISABLED": "false"}


def container(giver: KeyGiver, folder: Path) -> Variables:
    (folder / "token").write_text(f"{TOKEN}\n")
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{giver.url}/container",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(folder / "token"),
    }


def web_identity(giver: KeyGiver, folder: Path) -> Variables:
    (folder / "token").write_text(TOKEN)
    identity = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": str(folder / "token")}
    return {**identity, "AWS_ENDPOINT_URL_STS": giver.url}


def credentials_file(_giver: KeyGiver, folder: Path) -> Variables:
    (folder / "home" / ".aws").mkdir(parents=True, exist_ok=True)
    text = f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key={SECRET}\naws_session_token = session\n"
    (folder / "home" / ".aws" / "credentials").write_text(text)
    return {}


def profile(_giver: KeyGiver, folder: Path) -> Variables:
    text = f"[default]\nregion = x\n[profile at work]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
    (folder / "config file").write_text(f"{text}aws_session_token = session\n")
    return {"AWS_CONFIG_FILE": str(folder / "config file"), "AWS_PROFILE": "at work"}


PLACES = [instance, container, web_identity, credentials_file, profile]
SERVICES = PLACES[:3]


@pytest.fixture
def giver() -> Iterator[KeyGiver]:
    with KeyGiver(lambda _number: (KEY_ID, SECRET)) as giver:
        yield giver


@pytest.fixture
def set_up(giver: KeyGiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_up(place: Callable[[KeyGiver, Path], Variables]) -> None:
        for name, text in place(giver, tmp_path).items():
            monkeypatch.setenv(name, text)

    return set_up


@pytest.mark.parametrize("place", PLACES)
def test_each_place_has_a_key(set_up: Callable[..., None], place: Callable[..., Variables]) -> None:
    set_up(place)
    found = Credentials(ACCESS).access()
    assert (found.key_id, found.secret, found.token) == (KEY_ID, SECRET, "session")


def test_what_is_set_counts(set_up: Callable[..., None], giver: KeyGiver) -> None:
    set_up(instance)
    access = S3Access(endpoint="https://x", region="us-east-1", key_id="own", secret="own")
    assert Credentials(access).access() is access
    assert giver.count == 0


@pytest.mark.parametrize("place", SERVICES)
def test_a_key_is_used_until_it_is_about_to_end(
    set_up: Callable[..., None], giver: KeyGiver, place: Callable[..., Variables]
) -> None:
    set_up(place)
    giver.given = lambda number: (f"key{number}", SECRET)
    credentials = Credentials(ACCESS)
    assert {credentials.access().key_id for _ in range(20)} == {"key0"}
    assert giver.count == 1
    giver.seconds = 1
    ending = Credentials(ACCESS)
    assert ending.access().key_id == "key1"
    until(lambda: ending.access().key_id == "key2")


@pytest.mark.parametrize("place", SERVICES)
def test_a_service_that_fails_is_named_and_asked_again(
    set_up: Callable[..., None], giver: KeyGiver, place: Callable[..., Variables]
) -> None:
    set_up(place)
    credentials, giver.fails = Credentials(ACCESS), True
    with pytest.raises(ServiceUnavailable, match=f"cannot get an access key from {giver.url}.*503"):
        credentials.access()
    giver.fails = False
    assert credentials.access().key_id == KEY_ID


def test_a_key_that_has_not_ended_is_used_while_there_is_no_other(set_up: Callable[..., None], giver: KeyGiver) -> None:
    set_up(instance)
    giver.seconds = 200  # which is soon
    credentials = Credentials(ACCESS)
    assert credentials.access().key_id == KEY_ID
    giver.fails = True
    assert credentials.access().key_id == KEY_ID


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "no access key for https://storage.example.org: none is set; see"),
        ({"AWS_PROFILE": "nobody"}, "the profile 'nobody' has no access key in any file: see AWS_PROFILE"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/x"}, "neither https nor of this machine"),
        ({"AWS_ROLE_ARN": "x", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere"}, "the token for an access key cannot be"),
    ],
)
def test_what_is_missing_is_said(variables: Variables, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ServiceUnavailable, match=said):
        Credentials(ACCESS).access()


@pytest.fixture
def in_storage(lax_storage: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> ObjectServer:
    # The strict one has keys of sessions only from its own STS.
    for name, text in lax_storage.variables(lax_storage.new_bucket()).items():
        if "KEY" not in name:
            monkeypatch.setenv(name, text)
    return lax_storage


@pytest.mark.cluster
@pytest.mark.parametrize("place", PLACES)
def test_a_bundle_goes_in_by_it(
    set_up: Callable[..., None],
    in_storage: ObjectServer,
    command: Command,
    tmp_path: Path,
    place: Callable[..., Variables],
) -> None:
    set_up(place)
    done = command("doctor")
    assert done.returncode == 0, done.stdout
    done = command(write_bundle(tmp_path / "b.tar", FILES))
    assert done.returncode == 0, done.stderr
    assert command("verify", "--all").returncode == 0


@pytest.mark.cluster
@pytest.mark.parametrize("target", ["uploads=", "/archive/00"], ids=["by our own requests", "by obstore"])
def test_a_key_that_has_ended_early_is_got_anew(
    set_up: Callable[..., None],
    giver: KeyGiver,
    in_storage: ObjectServer,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
) -> None:
    set_up(instance)
    giver.given = lambda number: ((KEY_ID, SECOND_KEY_ID)[number % 2], SECRET)
    refused = count()

    def decide(_method: str, asked: str) -> str | None:
        return EXPIRED if target in asked and next(refused) == 0 else None

    bundle = write_bundle(tmp_path / "b.tar", FILES)
    with Between(in_storage, decide) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        if target == "uploads=":
            assert command("doctor").returncode == 0
        else:
            done = command(bundle)
            assert done.returncode == 4
            assert "its access key has ended, and there is another one by now" in done.stderr
        assert giver.count == 2
        assert command(bundle).returncode == 0
