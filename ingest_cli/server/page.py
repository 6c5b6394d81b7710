"""The page for browsers: a single file that loads nothing else and runs only its own script."""

import hashlib
import re
from base64 import b64encode
from importlib.resources import files

PAGE = files(__package__).joinpath("page.html").read_text("utf-8")


def page_below(path: str) -> str:
    """The page, which asks for what is below ``path``; below "/", which a proxy may have added to, for its siblings."""
    return PAGE if path == "/" else PAGE.replace('data-below=""', f'data-below="{path}"', 1)


def _hashes(tag: str) -> str:
    texts = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.S)
    return " ".join(f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts)


PAGE_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    f" frame-ancestors 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
}
