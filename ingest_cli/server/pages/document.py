"""A page as a document: one that loads nothing, runs only its own script, and sends forms only here."""

import hashlib
from base64 import b64encode
from importlib.resources import files

from starlette.responses import Response

from .html import Html, element, join

STYLE = Html(files(__package__).joinpath("page.css").read_text("utf-8"))
UPLOADING = ("sha1", "tar", "upload", "folder")
SCRIPTS = {name: Html(files(__package__).joinpath(f"{name}.js").read_text("utf-8")) for name in ("page", *UPLOADING)}


def _source_of(content: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'self';"
    f" frame-ancestors 'none'; script-src {' '.join(map(_source_of, SCRIPTS.values()))}; style-src {_source_of(STYLE)}",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # without any, a form would come from nowhere, and be refused
    "Cache-Control": "no-store",
    "Vary": "Accept",
}


def respond(
    title: str, main: Html, *, below: str, status: int = 200, job: int | None = None, uploads: bool = False
) -> Response:
    """The page as the answer to a request.

    What the server has is ``below`` this path. The page may be of a ``job``, and take ``uploads``.
    """
    scripts = [SCRIPTS[name] for name in ("page", *(UPLOADING if uploads else ()))]
    return Response(_document(title, main, below, status, job, scripts), status, HEADERS, "text/html")


def _document(title: str, main: Html, below: str, status: int, job: int | None, scripts: list[Html]) -> Html:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} - ingest"),
        element("style", STYLE),
    )
    body = element(
        "body",
        element("a", "Skip to the content", class_="skip", href="#main"),
        element("header", element("a", "ingest", class_="home", href=below or "./"), _status()),
        element("main", main, id="main", tabindex="-1"),
        *(element("script", script) for script in scripts),
        data_below=below,
        data_job=job,
        data_live=status == 200,
    )
    return join([Html("<!doctype html>\n"), element("html", head, body, lang="en")])


def _status() -> Html:
    """Where the script says what has changed, and whether the page is up to date."""
    return join(
        [
            element("p", "", id="live", class_="quiet"),
            element("p", "", id="said", role="status", aria_live="polite", class_="unseen"),
        ]
    )
