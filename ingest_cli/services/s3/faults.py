"""What the errors of obstore mean for a job: whether to wait, or what to set."""

import re
from http import HTTPStatus

from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from ...errors import ArchiveError, IngestError, ServiceUnavailable
from ...settings import ObjectStore, S3Access
from ...text import one_line, quoted

# What any of its functions may raise that a server or the way to it is to blame for.
FAILURES = (BaseError, FileNotFoundError)
STATUS = re.compile(r"status code: (\d{3})|\b([45]\d{2}) [A-Z][a-z]")
CODE = re.compile(r"<Code>([^<]+)</Code>")
MESSAGE = re.compile(r"<Message>([^<]+)</Message>")
PHRASE = re.compile(r"status code: \d{3} ([A-Z][A-Za-z ]+)")
# What it shows below "Debug source" of the innermost error.
INNERMOST = re.compile(r'(?:message|error): "([^"]+)"')
UNTRUSTED = re.compile(r"InvalidCertificate\(\s*(\w+)")
LATE = "kind: Timeout"
KEYS = "see [s3] access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
# What storage says where settings or rights are wrong, and which: jobs wait until they are mended.
REFUSALS = {
    "NoSuchBucket": "there is no such bucket: see [archiveinterface] url",
    "InvalidBucketName": "the bucket cannot have this name: see [archiveinterface] url",
    "InvalidAccessKeyId": f"the access key is not known: {KEYS}",
    "SignatureDoesNotMatch": f"the access key's secret is another one: {KEYS}",
    "AccessDenied": f"the access key may not do that: {KEYS}",
    "ExpiredToken": "the session of the access key has ended: see [s3] session_token",
    "InvalidToken": "the token is not one of the access key: see [s3] session_token",
    "RequestTimeTooSkewed": "its clock differs from this machine's by too much: set this machine's clock",
    "AuthorizationHeaderMalformed": "it is of another region: see [s3] region",
    "PermanentRedirect": "the bucket is elsewhere: see [s3] region and endpoint",
}
# What it says of a key that it knew, or of one that has ended.
ENDED = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "InvalidAccessKeyId", "RequestExpired"}
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
# What it says where a request came late, in pieces or damaged, where another one was at the same object, or had ended
# the upload.
PASSING_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "NoSuchUpload",
    "OperationAborted",
    "RequestTimeout",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}


class Refused(ServiceUnavailable):
    """Storage refuses what is asked of it, however often it is asked."""


def explained(error: BaseException, place: ObjectStore, access: S3Access, action: str) -> IngestError:
    """The error to raise where storage failed to do ``action``, as in "store file 1"."""
    text = str(error)
    status = _status(text)
    if status is None and isinstance(error, PermissionDeniedError | UnauthenticatedError):
        status = HTTPStatus.FORBIDDEN
    return said(place, access, action, status, code_of(error), _reason(text))


def code_of(error: BaseException) -> str:
    """The code that storage gave its answer; empty where there is none."""
    code = CODE.search(str(error))
    return code[1] if code else ""


def said(place: ObjectStore, access: S3Access, action: str, status: int | None, code: str, reason: str) -> IngestError:
    """The error to raise for an answer of this ``status``, or for none, where ``reason`` says why."""
    what = f"cannot {action} in {place} at {access.endpoint}"
    if code in REFUSALS or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Refused(f"{what}: {REFUSALS.get(code, REFUSALS['AccessDenied'])}")
    told = f"{status} {code or reason}" if status is not None else reason
    # What it says by a code it cannot say where only an object's size is asked for, as that a session has ended.
    is_unexplained = status == HTTPStatus.BAD_REQUEST and not code
    if status is None or is_unexplained or status in PASSING or code in PASSING_CODES or not 400 <= status < 500:
        return ServiceUnavailable(f"{what}: {told}")
    return ArchiveError(f"{what}: {told}")


def is_not_there(error: BaseException) -> bool:
    """Whether it says that there is no such object, in a bucket that may be there."""
    return isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error)


def is_unknown(error: BaseException) -> bool:
    """Whether it says that storage does not know how to do what was asked of it."""
    return _status(str(error)) == HTTPStatus.NOT_IMPLEMENTED


def may_have_ended(error: BaseException) -> bool:
    """Whether the access key may be one that has ended: where only an object's size is asked for, no code says so."""
    code = code_of(error)
    return code in ENDED or (not code and _status(str(error)) in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN))


def may_pass(error: BaseException) -> bool:
    """Whether storage could not say yet whether there is such an object, since another request was at it."""
    return code_of(error) in PASSING_CODES


def was_cut_short(error: IngestError) -> bool:
    """Whether an answer came, but not to its end."""
    return "body" in str(error.__cause__).partition("Debug source")[0].rpartition("HTTP error")[2]


def _status(text: str) -> int | None:
    found = STATUS.search(text)
    return int(found[1] or found[2]) if found else None


def _reason(text: str) -> str:
    """Why, in a line: what storage said, else what the system did, else what obstore did."""
    if (untrusted := UNTRUSTED.search(text)) is not None:
        return f"its certificate is not to be trusted ({untrusted[1]}): see [s3] ca_file"
    if LATE in text:
        return "it did not answer in time"
    told = MESSAGE.search(text) or PHRASE.search(text) or INNERMOST.search(text)
    return quoted(told[1])[1:-1] if told else one_line(text.partition("\n\nDebug source")[0].rpartition(" - ")[2])
