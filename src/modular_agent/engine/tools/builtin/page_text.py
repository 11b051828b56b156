"""The readable text of an HTML page, as light Markdown."""

import re
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin

__all__ = ["page_text"]

SKIPPED: Final = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object", "canvas"})
BLOCKS: Final = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset"),
        *("figcaption", "figure", "footer", "form", "header", "hr", "main", "nav", "ol", "p", "pre", "section"),
        *("summary", "table", "tbody", "tfoot", "thead", "title", "tr", "ul"),
    )
)
HEADINGS: Final = {f"h{level}": "#" * level for level in range(1, 7)}


def page_text(html: str, *, url: str = "") -> str:
    """The text that a reader of the page sees; links as `[text](address)`, relative ones made absolute by `url`."""
    page = _Page(url)
    page.feed(html)
    page.close()
    return page.text()


class _Page(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self._url = url
        self._parts: list[str] = []
        self._skipping: list[str] = []
        self._preformatted = 0
        self._links: list[tuple[str, int]] = []

    def text(self) -> str:
        joined = re.sub(r"[ \t]*\n[ \t]*(?=\n)", "\n", "".join(self._parts))
        return re.sub(r"\n{3,}", "\n\n", joined).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SKIPPED:
            self._skipping.append(tag)
        elif self._skipping:
            return
        elif tag in HEADINGS:
            self._parts.append(f"\n\n{HEADINGS[tag]} ")
        elif tag == "br":
            self._parts.append("\n")
        elif tag == "li":
            self._parts.append("\n- ")
        elif tag in ("td", "th"):
            self._parts.append(" | ")
        elif tag == "a":
            self._links.append((dict(attrs).get("href") or "", len(self._parts)))
        elif tag in BLOCKS:
            self._parts.append("\n\n" if tag != "tr" else "\n")
            self._preformatted += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if self._skipping:
            if tag in self._skipping:  # what it holds and did not close ends with it
                del self._skipping[self._skipping.index(tag) :]
        elif tag == "a" and self._links:
            self._end_link()
        elif tag in HEADINGS or (tag in BLOCKS and tag != "tr"):
            self._parts.append("\n\n")
            self._preformatted -= tag == "pre" and self._preformatted > 0

    def handle_data(self, data: str) -> None:
        if self._skipping:
            return
        if self._preformatted:
            self._parts.append(data)
            return
        words = re.sub(r"\s+", " ", data)
        if words.startswith(" ") and (not self._parts or self._parts[-1].endswith((" ", "\n"))):
            words = words[1:]
        if words:
            self._parts.append(words)

    def _end_link(self) -> None:
        href, start = self._links.pop()
        label = "".join(self._parts[start:]).strip()
        if not label or "\n" in label or not href or href.startswith(("#", "javascript:", "data:", "mailto:")):
            return
        try:
            target = urljoin(self._url, href)
        except ValueError:
            return  # not an address: the text stays
        self._parts[start:] = [f"[{label}]({target})"]
