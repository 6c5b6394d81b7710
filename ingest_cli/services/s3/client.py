"""Requests of our own to storage that speaks S3, which obstore cannot make: they are sent again as it does it."""

from xml.etree import ElementTree

from requests import PreparedRequest, Response

from ...connections import FAILURES as NO_ANSWER
from ...connections import reason_of, session
from ...errors import ServiceUnavailable
from ...settings import Endpoint, ObjectStore, S3Access
from .credentials import Credentials
from .faults import CODE, ENDED, said
from .patience import Patience
from .signing import signed_headers, url_of

# What is sent or received at once may take this long for each byte, besides the timeout.
SECONDS_A_BYTE = 1 / (1 << 20)
NOT_FOUND = 404


class Client:
    """Asks the storage that is reached by ``access`` about ``place``, or about another bucket.

    Raises ServiceUnavailable where storage does not answer or fails, or where settings are to be mended; ArchiveError
    where it cannot do what it is asked for.
    """

    def __init__(self, place: ObjectStore, access: S3Access, credentials: Credentials, connections: int) -> None:
        self.place, self.access, self._credentials = place, access, credentials
        self._session = session(Endpoint(url=access.endpoint, ca_file=access.ca_file), connections)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def ask(
        self,
        method: str,
        query: dict[str, str],
        action: str,
        at: tuple[str, str] | None = None,
        *,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        size: int = 0,
    ) -> Response:
        """The answer of an object ``at`` a bucket and a key, or of the bucket of the place, to a request for ``action``
        that moves ``size`` bytes.

        One that is of an upload in parts which is not there is an answer, too, as is one of an object that is not.
        """
        patience = Patience(self.access.timeout)
        bucket, key = at or (self.place.bucket, "")
        url = url_of(self.access, bucket, query, key)
        allowed = self.access.timeout + max(size, len(body)) * SECONDS_A_BYTE
        while True:
            keyed = self._credentials.access()
            signed = signed_headers(keyed, method, url, query, headers, body)
            try:
                answer = self._session.request(method, url, headers=signed, data=body, auth=_signed, timeout=allowed)
            except NO_ANSWER as error:
                trouble = said(self.place, self.access, action, None, "", reason_of(error))
            else:
                code = code_of(answer)
                is_done = answer.ok and not code
                if is_done or code == "NoSuchUpload" or (method == "HEAD" and answer.status_code == NOT_FOUND):
                    return answer
                if code in ENDED and self._credentials.renew(keyed.key_id):
                    continue
                # What takes long is answered before it is known whether it can be done.
                status = None if answer.ok else answer.status_code
                trouble = said(self.place, self.access, action, status, code, code or answer.reason)
            patience.wait(trouble)

    def parsed(self, answer: Response, action: str) -> ElementTree.Element:
        """What an answer says. Raises ServiceUnavailable where that cannot be read."""
        try:
            return ElementTree.fromstring(answer.content)
        except ElementTree.ParseError as error:
            trouble = f"cannot {action} in {self.place} at {self.access.endpoint}: its answer cannot be read: {error}"
            raise ServiceUnavailable(trouble) from error


def code_of(answer: Response) -> str:
    """What an answer says that went wrong, as a code of S3; empty where it says nothing of the kind."""
    code = CODE.search(answer.text)
    return code[1] if code else ""


def _signed(request: PreparedRequest) -> PreparedRequest:
    """Takes the place of a session's own credentials."""
    return request
