"""What is computed of an archive in storage that speaks S3, without asking it anything."""

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_cli.services.s3.keys import FILES_A_FOLDER, MARK_NAME, folder_of, key_of, parsed
from ingest_cli.services.s3.signing import signed_headers, url_of
from ingest_cli.services.s3.sums import PartSums, tag_of
from ingest_cli.settings import S3Access

IDS, FENCES = st.integers(0, 1 << 62), st.integers(1, 1 << 40)


@given(IDS, FENCES)
def test_a_key_says_which_file_and_which_run_it_is_of(file_id: int, fence: int) -> None:
    assert parsed(key_of(file_id, fence)) == (file_id, fence)
    assert key_of(file_id, fence).startswith(f"{folder_of(file_id)}/")


@given(IDS, IDS, FENCES, FENCES)
def test_no_two_files_or_runs_share_a_key(one: int, other: int, fence: int, later: int) -> None:
    assert (key_of(one, fence) == key_of(other, later)) == ((one, fence) == (other, later))


@pytest.mark.parametrize(
    "key", [MARK_NAME, "00/0/01", "00/0/1.1", "01/0/01.1", "00/00/01.1", "00/0/01.01", "00/0/01.x"]
)
def test_other_keys_are_of_no_file(key: str) -> None:
    assert parsed(key) is None


def test_folders_that_follow_one_another_begin_otherwise() -> None:
    firsts = [folder_of(number * FILES_A_FOLDER)[:2] for number in range(256)]
    assert len(set(firsts)) == 256


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1), st.integers(1, 50))
def test_the_tag_of_parts_does_not_depend_on_how_the_bytes_come(chunks: list[bytes], part: int) -> None:
    data, sums = b"".join(chunks), PartSums(part)
    assert b"".join(sums.of(chunks)) == data
    digests = [hashlib.md5(data[start : start + part]).digest() for start in range(0, len(data), part)]
    assert sums.tag == f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"


def test_the_tag_of_an_object() -> None:
    assert tag_of(b"hello") == "5d41402abc4b2a76b9719d911017c592"


def test_a_request_is_signed_as_in_amazons_own_example() -> None:
    access = S3Access(
        endpoint="https://s3.amazonaws.com",
        region="us-east-1",
        key_id="AKIAIOSFODNN7EXAMPLE",
        secret="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        in_path=False,
    )
    query = {"max-keys": "2", "prefix": "J"}
    url = url_of(access, "examplebucket", query)
    assert url == "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J"
    headers = signed_headers(access, "GET", url, query, now=datetime(2013, 5, 24, tzinfo=UTC))
    expected = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    assert headers["Authorization"].endswith(f"Signature={expected}")


def test_a_bucket_in_the_path() -> None:
    access = S3Access(endpoint="http://127.0.0.1:8333", region="x", key_id="k", secret="s")
    assert (
        url_of(access, "data", {"uploadId": "a/b="}, "x/y z") == "http://127.0.0.1:8333/data/x/y%20z?uploadId=a%2Fb%3D"
    )
