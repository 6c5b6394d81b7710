"""The signature of a request for storage that speaks S3 (AWS Signature Version 4), which it knows its user by."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from ...settings import S3Access

UNRESERVED = "-_.~"


def url_of(access: S3Access, bucket: str, query: Mapping[str, str], key: str = "") -> str:
    """The URL of a bucket, or of an object in it."""
    scheme, _, host = access.endpoint.partition("://")
    top, path = (host, f"/{bucket}/{key}") if access.has_in_path(bucket) else (f"{bucket}.{host}", f"/{key}")
    asked = _query(query)
    return f"{scheme}://{top}{quote(path, safe=f'/{UNRESERVED}')}{'?' if asked else ''}{asked}"


def signed_headers(
    access: S3Access,
    method: str,
    url: str,
    query: Mapping[str, str],
    others: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    now: datetime | None = None,
) -> dict[str, str]:
    """The headers of a request for the URL, which holds the ``query``, with this body.

    The names of ``others`` are in small letters.
    """
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    parts, digest_of_body = urlsplit(url), hashlib.sha256(body).hexdigest()
    headers = {"host": parts.netloc, "x-amz-content-sha256": digest_of_body, "x-amz-date": moment}
    if access.token is not None:
        headers["x-amz-security-token"] = access.token
    headers = dict(sorted({**headers, **(others or {})}.items()))
    names = ";".join(headers)
    canonical = [method, parts.path, _query(query), *(f"{name}:{text}" for name, text in headers.items())]
    digest = hashlib.sha256("\n".join([*canonical, "", names, digest_of_body]).encode()).hexdigest()
    scope = f"{moment[:8]}/{access.region}/s3/aws4_request"
    key = f"AWS4{access.secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}".encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={access.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "Authorization": f"AWS4-HMAC-SHA256 {credential}"}


def _query(query: Mapping[str, str]) -> str:
    return "&".join(f"{quote(key, safe=UNRESERVED)}={quote(query[key], safe=UNRESERVED)}" for key in sorted(query))
