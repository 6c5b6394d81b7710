"""What is made of the errors of obstore, whose texts are all that it tells."""

import pytest

from ingest_cli.errors import ArchiveError, IngestError, ServiceUnavailable
from ingest_cli.settings import ObjectStore, S3Access

PLACE = ObjectStore("data", "x")
ACCESS = S3Access(endpoint="https://host", region="r", key_id="k", secret="s")
BEGIN = "Generic S3 error: Error performing PUT https://host/data/x/a in 4ms, after 2 retries - "
STATUS = BEGIN + "Server returned non-2xx status code: {}"
XML = "{}: <Error><Code>{}</Code><Message>{}</Message></Error>\n\nDebug source:\nGeneric"
SENDING = BEGIN + "HTTP error: error sending request\n\nDebug source:\nGeneric {{ {} }}"
CASES: dict[str, tuple[type[IngestError], str]] = {
    STATUS.format(XML.format("503 Service Unavailable", "SlowDown", "later")): (ServiceUnavailable, "503 SlowDown"),
    STATUS.format("429 Too Many Requests: \n\nDebug source: x"): (ServiceUnavailable, "429 Too Many Requests"),
    STATUS.format(XML.format("404 Not Found", "NoSuchBucket", "no")): (
        ServiceUnavailable,
        "see [archiveinterface] url",
    ),
    STATUS.format(XML.format("403 Forbidden", "InvalidAccessKeyId", "no")): (ServiceUnavailable, "see [s3] access_key"),
    STATUS.format("403 Forbidden: \n\nDebug source: x"): (ServiceUnavailable, "the access key may not do that"),
    STATUS.format(XML.format("403 Forbidden", "RequestTimeTooSkewed", "no")): (ServiceUnavailable, "clock"),
    STATUS.format(XML.format("400 Bad Request", "RequestTimeout", "no")): (ServiceUnavailable, "400 RequestTimeout"),
    STATUS.format(XML.format("400 Bad Request", "BadDigest", "no")): (ServiceUnavailable, "400 BadDigest"),
    STATUS.format(XML.format("404 Not Found", "NoSuchUpload", "no")): (ServiceUnavailable, "404 NoSuchUpload"),
    STATUS.format("400 Bad Request: \n\nDebug source: x"): (ServiceUnavailable, "400 Bad Request"),
    STATUS.format("307 Temporary Redirect: \n\nDebug source: x"): (ServiceUnavailable, "307 Temporary Redirect"),
    STATUS.format(XML.format("400 Bad Request", "EntityTooLarge", "no")): (ArchiveError, "400 EntityTooLarge"),
    SENDING.format('message: "Connection refused"'): (ServiceUnavailable, ": Connection refused"),
    SENDING.format('error: "failed to lookup address information"'): (ServiceUnavailable, ": failed to lookup address"),
    SENDING.format("InvalidCertificate(\n  UnknownIssuer,\n)"): (
        ServiceUnavailable,
        "(UnknownIssuer): see [s3] ca_file",
    ),
    SENDING.format("kind: Timeout"): (ServiceUnavailable, ": it did not answer in time"),
    SENDING.format("kind: Other"): (ServiceUnavailable, ": HTTP error: error sending request"),
}


@pytest.mark.parametrize("text", CASES)
def test_an_error_says_whether_to_wait_and_what_to_set(text: str) -> None:
    pytest.importorskip("obstore")
    from obstore.exceptions import GenericError

    from ingest_cli.services.s3.faults import explained

    kind, said = CASES[text]
    error = explained(GenericError(text), PLACE, ACCESS, "store 'a'")
    assert isinstance(error, kind)
    assert str(error).startswith("cannot store 'a' in s3://data/x at https://host: ")
    assert said in str(error)
    assert "Debug" not in str(error)
    assert "\n" not in str(error)
