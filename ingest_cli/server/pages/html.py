"""HTML that is escaped by construction: what is not `Html` is somebody's text, and is shown as that."""

from collections.abc import Iterable
from html import escape
from urllib.parse import urlencode

from ...text import printable

VOID = {"input", "link", "meta"}


class Html(str):
    """What may stand in a page as it is."""

    __slots__ = ()


Child = Html | str | int | None
Attribute = str | int | float | bool | None


def element(tag: str, *children: Child, **attributes: Attribute) -> Html:
    """An element. Of the attributes, those that are None or False are left out, and True stands by its name alone.

    An underscore at the end of a name is for Python's sake, and any other is a hyphen.
    """
    given = "".join(_attribute(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    return Html(f"<{tag}{given}>" if tag in VOID else f"<{tag}{given}>{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Html:
    """The children, one after the other; None is none."""
    return Html("".join(_child(child) for child in children))


def text(value: str) -> Html:
    """The text, in which all that is not printable is escaped as in the log, but for line ends."""
    return Html(escape(printable(value, "\n")))


def link(href: str, *children: Child, **attributes: Attribute) -> Html:
    """A link."""
    return element("a", *children, href=href, **attributes)


def address(path: str, **query: str | int | None) -> str:
    """The path with a query, of what is not empty."""
    given = {name: value for name, value in query.items() if value not in ("", None)}
    return f"{path}?{urlencode(given, errors='replace')}" if given else path


def _child(child: Child) -> Html:
    if child is None:
        return Html()
    return child if isinstance(child, Html) else text(str(child))


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{text(str(value))}"'
