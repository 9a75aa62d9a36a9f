"""What the hostile tests run jailed: one page looked at, as a stage would."""

from __future__ import annotations

from typing import Any

from stages.reading.picture import open_page
from stages.reading.protocol import PageRequest


def look(path: str, media_type: str, index: int) -> dict[str, Any]:
    """A page's text or picture and its layer, as numbers and words."""
    request = PageRequest(path=path, media_type=media_type, index=index)
    with open_page(request) as page:
        text = page.text()
        if text is not None:
            return {"text": len(text), "hidden": page.hidden}
        picture, dpi = page.picture()
        layer = page.layer({})
        return {
            "mode": picture.mode,
            "pixels": picture.width * picture.height,
            "dpi": dpi,
            "why": "" if layer is None else layer.why,
        }
