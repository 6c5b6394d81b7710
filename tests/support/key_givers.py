"""A service that gives access keys, as those of Amazon's machines, containers and roles do."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

from .loopback import LoopbackServer, QuietHandler

ROLE, TOKEN = "ingest role", "a token of this session"
XML = """\
<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
<Credentials><AccessKeyId>{AccessKeyId}</AccessKeyId><SecretAccessKey>{SecretAccessKey}</SecretAccessKey>
<SessionToken>{Token}</SessionToken><Expiration>{Expiration}</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""
Given = Callable[[int], tuple[str, str]]


class KeyGiver(LoopbackServer):
    """Gives the id and the secret that ``given`` has for each time that it is asked, for ``seconds``."""

    def __init__(self, given: Given, seconds: float = 3600) -> None:
        super().__init__(_Giving)
        self.given, self.seconds, self.fails = given, seconds, False
        self.count, self._lock = 0, threading.Lock()

    def next(self) -> dict[str, str]:
        with self._lock:
            key_id, secret = self.given(self.count)
            self.count += 1
        ends = datetime.now(UTC) + timedelta(seconds=self.seconds)
        fields = {"AccessKeyId": key_id, "SecretAccessKey": secret, "Token": ""}
        return {**fields, "Token": "session", "Expiration": ends.isoformat().replace("+00:00", "Z")}


class _Giving(QuietHandler):
    server: KeyGiver

    def do_PUT(self) -> None:
        is_asked = self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self._say(200 if is_asked else 404, TOKEN)

    def do_GET(self) -> None:
        roles = "/latest/meta-data/iam/security-credentials/"
        if self.path == "/container" and self.headers.get("Authorization") == TOKEN:
            self._say(200, json.dumps(self.server.next()))
        elif self.headers.get("X-aws-ec2-metadata-token") == TOKEN and self.path == roles:
            self._say(200, ROLE)
        elif self.headers.get("X-aws-ec2-metadata-token") == TOKEN and self.path.startswith(roles):
            self._say(200, json.dumps(self.server.next()))
        else:
            self._say(401, "")

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        is_known = (form["RoleArn"], form["WebIdentityToken"]) == ([ROLE], [TOKEN])
        self._say(200 if is_known else 403, XML.format(**self.server.next()))

    def _say(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(503 if self.server.fails else status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
