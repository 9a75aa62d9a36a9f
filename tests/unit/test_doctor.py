"""The doctor names what pipelines will miss."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stages.ocr import OcrSettings
from stages.reading import tesseract
from waybill.commands.doctor import _languages


@pytest.mark.parametrize(
    ("lang", "missing"),
    [("eng", []), ("auto", []), ("eng+deu", ["deu"]), ("script/HanS", ["script/HanS"])],
)
def test_a_language_without_data_is_named_with_its_package(
    lang: str, missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first page is read."""
    monkeypatch.setattr(tesseract, "installed_languages", lambda: ["eng"])
    ocr = SimpleNamespace(settings=OcrSettings(lang=lang))
    pipeline: Any = SimpleNamespace(stages={"ocr": ocr})

    found = _languages("pipeline letters", pipeline)

    assert [check.found for check in found] == [f"no {name}" for name in missing]
    assert not any(check.ok for check in found)
    for check in found:
        assert "apt-get install tesseract-ocr-" in check.hint
        assert check.hint.split()[2].islower()
