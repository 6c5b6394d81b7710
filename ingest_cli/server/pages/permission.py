"""Who may do something with a job on a page, and whether it is a page of this server that asks for it."""

import hmac
from urllib.parse import urlsplit

from starlette.requests import Request

from ...jobs.job import Job
from ...settings import Settings
from ..access import ALL_USERS, Access
from ..authentication import Peer, Refusal

# By these a proxy tells that it asks for somebody else. One that is not trusted has everybody come from this machine.
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
ANOTHER_SITE = "this server does only what its own pages ask for"
NOT_AT_HAND = "only who sits at the server's own machine may act, where its configuration does not say who visitors are"
OLD_FORM = "the page was made before this server began, or for somebody else: look at it again"


class Permission:
    """The rules of a site. Users may act on the jobs that were submitted in their names, and administrators on all.

    Forms are signed by the ``key``: those of any server that has the same one are taken.
    """

    def __init__(self, settings: Settings, access: Access, key: bytes) -> None:
        self._server, self._access, self._key = settings.server, access, key

    def refusal(self, request: Request, job: Job) -> str | None:
        """Why the visitor may not retry, cancel or discard the job; None for who may.

        Where nothing says who may use the server, only who sits at its machine may.
        """
        if not self._is_known and not _is_at_hand(request):
            return NOT_AT_HAND
        administrators = self._server.administrators
        if ALL_USERS in administrators or request.state.user in administrators:
            return None
        return None if self._access.own_name(request) == job.user else f"job {job.job_id} was not submitted by you"

    def require(self, request: Request, job: Job, token: str) -> None:
        """Raise Refusal unless the visitor may act on the job, and a page made for that visitor asks for it."""
        if not _is_of_this_site(request):
            raise Refusal(403, ANOTHER_SITE)
        if (why := self.refusal(request, job)) is not None:
            raise Refusal(403, why)
        if not hmac.compare_digest(token.encode(), self.token(request, job).encode()):
            raise Refusal(403, OLD_FORM)

    def token(self, request: Request, job: Job) -> str:
        """What a form about the job has to bring, which the pages of other sites cannot read."""
        message = f"{job.job_id} {request.state.user}".encode()
        return hmac.new(self._key, message, "sha256").hexdigest()

    @property
    def _is_known(self) -> bool:
        """Whether it is known of each visitor who that is."""
        server = self._server
        return server.has_proxies or server.token is not None or server.basic is not None


def _is_at_hand(request: Request) -> bool:
    peer: Peer = request.state.peer
    return peer.is_local and not any(name in request.headers for name in FORWARDED)


def _is_of_this_site(request: Request) -> bool:
    """Whether the browser says that a page of this very address asks: another port of it may be somebody else's.

    Browsers that do not say it, or do so only over TLS, name the page's own address, and that of the server.
    """
    fetched_from = request.headers.get("sec-fetch-site")
    if fetched_from is not None:
        return fetched_from == "same-origin"
    origin, peer = request.headers.get("origin"), request.state.peer
    if origin is None or peer.is_trusted:  # a proxy may have taken its own port off the host, whose name was compared
        return True
    return urlsplit(origin).netloc == request.headers.get("host")
