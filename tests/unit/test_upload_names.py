"""What a client calls a bundle is a name that people can be shown, whatever it sends."""

from base64 import b64encode
from encodings.aliases import aliases
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from ingest_cli.server.names import LONGEST_NAME, NAMELESS, name_in, name_of


def sent_with(disposition: str) -> Request:
    headers = [(b"content-disposition", disposition.encode("latin-1"))]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="run 7.tar"', "run 7.tar"),
        ("attachment; filename=run.tar", "run.tar"),
        ("attachment; filename*=UTF-8''na%C3%AFve.tar", "naïve.tar"),
        ('attachment; filename="/home/eve/run.tar"', "run.tar"),
        (r'attachment; filename="C:\\data\\run.tar"', "run.tar"),
        ('attachment; filename=""', NAMELESS),
        ("attachment", NAMELESS),
        ("", NAMELESS),
        ("attachment; filename*=nonsense''%ff.tar", "ÿ.tar"),
        ("attachment; filename*=idna''%ff.tar", NAMELESS),
        ("attachment; filename*=undefined''run.tar", NAMELESS),
        ("attachment; filename*0*=run.tar; filename*", NAMELESS),
    ],
)
def test_the_name_of_a_body(disposition: str, name: str) -> None:
    assert name_in(sent_with(disposition)) == name


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ("filename cnVuLnRhcg==", "run.tar"),
        ("a, name cnVuLnRhcg==,b", "run.tar"),
        ("name eA==, filename cnVuLnRhcg==", "run.tar"),
        ("filename", NAMELESS),
        ("filename A", NAMELESS),
        ("", NAMELESS),
    ],
)
def test_the_name_of_a_resumable_upload(metadata: str, name: str) -> None:
    assert name_of(metadata) == name


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0")))
def test_any_header(value: str) -> None:
    for name in (name_in(sent_with(value)), name_in(sent_with(f"attachment; filename={value}"))):
        assert name.isprintable()
        assert 0 < len(name) <= LONGEST_NAME


@given(st.sampled_from(sorted(set(aliases.values()) | {"undefined"})), st.binary(max_size=40))
def test_any_encoding(encoding: str, value: bytes) -> None:
    name = name_in(sent_with(f"attachment; filename*={encoding}''{quote(value)}"))
    assert name.isprintable()
    assert 0 < len(name) <= LONGEST_NAME


@given(st.binary(max_size=600) | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_any_metadata(value: bytes) -> None:
    name = name_of(f"filename {b64encode(value).decode()}")
    assert name.isprintable()
    assert 0 < len(name) <= LONGEST_NAME
