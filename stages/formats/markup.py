"""
HTML as a person sees it: its text, without what is hidden from the eye.

Only what stands in the elements themselves is known: rules of a style sheet are
not applied.  Nothing is fetched and no script is run.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

HTML_CHARS_MAX = 4 << 20  # the parser is slow on hostile input; no document is longer
DEPTH_MAX = 2_000  # elements in each other; deeper ones are taken as their parent

UNSEEN = frozenset(
    {"script", "style", "head", "title", "template", "noscript", "object", "svg"}
)
VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input"}
    | {"link", "meta", "source", "track", "wbr"}
)
BLOCKS = frozenset(
    {"address", "article", "blockquote", "div", "dl", "dt", "dd", "fieldset"}
    | {"figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header"}
    | {"hr", "li", "main", "nav", "ol", "p", "pre", "section", "table", "tr", "ul"}
)
WHITE = r"(?:white|#fff(?:fff)?|rgb\(\s*255\s*,\s*255\s*,\s*255\s*\))"
HIDING = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|mso-hide\s*:\s*all"
    r"|(?:^|[;\s])opacity\s*:\s*0(?:\.0+)?\s*(?:;|$|!)"
    r"|font-size\s*:\s*(?:0|[0-2](?:\.\d+)?(?:px|pt))(?![\d.])"
    r"|(?:text-indent|left|top)\s*:\s*-\d{3,}",
    re.I,
)
BACKGROUND = re.compile(
    r"background(?:-color|-image)?\s*:\s*(?!\s*(?:none|transparent|"
    rf"{WHITE}))",
    re.I,
)
WHITE_TEXT = re.compile(rf"(?:^|[;\s])color\s*:\s*{WHITE}\s*(?:;|$|!)", re.I)
COLOURED = re.compile(r"(?:^|[;\s])color\s*:", re.I)


def text_of_html(html: str) -> tuple[str, int]:
    """The text of a page, and the number of characters that nobody sees."""
    visible = _VisibleText()
    visible.feed(html[:HTML_CHARS_MAX])
    visible.close()
    lines = (" ".join(line.split()) for line in "".join(visible.parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), visible.hidden


class _Seen:
    """What an element passes on to those inside it."""

    __slots__ = ("painted", "shown", "spoken", "tag", "white")

    def __init__(self, tag: str, parent: _Seen | None) -> None:
        self.tag = tag
        self.shown: bool = parent is None or parent.shown
        self.spoken: bool = parent is None or parent.spoken  # False: code, not text
        self.white: bool = parent is not None and parent.white
        self.painted: bool = parent is not None and parent.painted


class _VisibleText(HTMLParser):
    """Gathers what is seen."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = 0
        self._open = [_Seen("", None)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br" or tag in BLOCKS:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")
        if tag in VOID or len(self._open) >= DEPTH_MAX:
            return
        given = {name: value or "" for name, value in attrs}
        style = given.get("style", "")
        seen = _Seen(tag, self._open[-1])
        if tag in UNSEEN:
            seen.spoken = False
        if "hidden" in given or HIDING.search(style):
            seen.shown = False
        colour = given.get("color", "").strip()
        if colour or COLOURED.search(style):
            seen.white = bool(
                re.fullmatch(WHITE, colour, re.I) or WHITE_TEXT.search(style)
            )
        background = given.get("bgcolor", given.get("background", "")).strip()
        if BACKGROUND.search(style) or (
            background and not re.fullmatch(WHITE, background, re.I)
        ):
            seen.painted = True
        self._open.append(seen)

    def handle_endtag(self, tag: str) -> None:
        if tag in BLOCKS:
            self.parts.append("\n")
        # An end without a beginning closes nothing.
        for at in range(len(self._open) - 1, max(0, len(self._open) - 100), -1):
            if self._open[at].tag == tag:
                del self._open[at:]
                return

    def handle_data(self, data: str) -> None:
        seen = self._open[-1]
        if not seen.spoken:
            return
        if not seen.shown or (seen.white and not seen.painted):
            self.hidden += sum(not c.isspace() for c in data)
        else:
            # Line breaks of the source are spaces on the page.
            self.parts.append(" ".join(re.split(r"[\r\n\t\f]+", data)))
