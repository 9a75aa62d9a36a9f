"""HTML as a reader sees it."""

from __future__ import annotations

import pytest

from stages.formats.markup import text_of_html


@pytest.mark.parametrize(
    ("html", "seen"),
    [
        ("<p hidden>x</p>", ""),
        ("<span style='font-size:0'>x</span>", ""),
        ("<span style='font-size: 1px'>x</span>", ""),
        ("<span style='font-size: 12px'>x</span>", "x"),
        ("<span style='visibility:hidden'>x</span>", ""),
        ("<span style='opacity:0'>x</span>", ""),
        ("<span style='opacity:0.9'>x</span>", "x"),
        ("<span style='color:#fff'>x</span>", ""),
        ("<font color='white'>x</font>", ""),
        ("<div style='background:#0000aa'><b style='color:white'>x</b></div>", "x"),
        ("<div style='background:#fff'><b style='color:white'>x</b></div>", ""),
        ("<div style='color:#fff'><b style='color:#000'>x</b></div>", "x"),
        ("<div style='display:none'>a<p>b</div>x", "x"),
        ("<p>1 &lt; 2 &amp; x</p>", "1 < 2 & x"),
        ("</div></p>x", "x"),
    ],
)
def test_html_is_seen_as_a_reader_sees_it(html: str, seen: str) -> None:
    """What plainly cannot be seen is left out; what can be seen never is."""
    text, hidden = text_of_html(html)

    assert text == seen
    assert bool(hidden) == ("x" not in seen or "none" in html)
