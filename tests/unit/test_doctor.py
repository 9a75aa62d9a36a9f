"""The doctor names what pipelines will miss."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.ocr import OcrSettings
from stages.reading import tesseract
from waybill.commands.doctor import (
    Check,
    _default,
    _languages,
    _left_in_the_inbox,
    _vendors,
)
from waybill.health import seen_here
from waybill.settings import Settings


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


def test_a_default_pipeline_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    """With what to set, and which there are; by name or folder it is found."""
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "pipeline.toml").touch()

    def asked(name: str) -> list[Check]:
        return _default(Settings(home=tmp_path, pipelines=tmp_path, pipeline=name))

    [check] = asked("documents")

    assert (check.ok, check.mark) == (False, "!!")
    assert "there is no pipeline 'documents'" in check.found
    assert "set WAYBILL_PIPELINE " in check.hint
    assert "letters" in check.hint
    assert asked("letters") == asked(str(folder)) == []
    # Nobody has named the one that comes without being named.
    [usual] = _default(Settings(home=tmp_path, pipelines=tmp_path))
    assert (usual.ok, usual.mark) == (True, "--")
    assert "files that name none are not taken" in usual.found


def test_models_are_named_with_where_they_stand(tmp_path: Path) -> None:
    """And what is declared wrongly, with what there may be."""
    settings = Settings(home=tmp_path)
    llm = (
        '[vendor.llm]\nkind = "openai"\nurl = "http://127.0.0.1:1/v1"\ninside = true\n'
    )
    for_llm = '[model.reader]\nvendor = "llm"\n'

    def found(text: str) -> Check:
        settings.vendors_file.write_text(llm + text)
        [check] = [c for c in _vendors(settings) if c.name.startswith("model")]
        return check

    good, bad = found(f'{for_llm}model = "large"'), found(for_llm)

    assert (good.name, good.ok) == ("model reader", True)
    assert good.found == "large of llm, as json_schema"
    assert (bad.name, bad.ok) == ("models", False)
    assert "name its `model`" in bad.found


def test_sinks_are_named_with_where_they_are_and_what_they_lack(tmp_path: Path) -> None:
    """A secret that is nowhere is a fault before the first delivery."""
    settings = Settings(home=tmp_path)
    hooks = '[vendor.hooks]\nurl = "http://127.0.0.1:1"\ninside = true\n'
    hook = '[sink.hook]\nkind = "webhook"\nvendor = "hooks"\nsecret = "secret:hook"\n'

    def found(text: str) -> dict[str, Check]:
        settings.vendors_file.write_text(hooks + text)
        return {c.name: c for c in _vendors(settings) if c.name.startswith("sink")}

    lacking = found(hook)["sink hook"]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "hook.txt").write_text("whsec_c2VjcmV0")
    good = found(hook)
    post = found('[sink.card]\nkind = "http"\nvendor = "hooks"\n')["sink card"]
    astray = found('[sink.box]\nkind = "folder"\npath = "../../x"\n')["sinks"]

    assert (lacking.ok, "secret hook of the sink hook" in lacking.found) == (
        False,
        True,
    )
    assert "secrets/hook.txt" in lacking.hint
    assert good["sink hook"].found == "webhook, vendor hooks"
    assert post.found == "http, vendor hooks; in doubt when an answer is lost"
    assert good["sink print"].found == f"folder, {tmp_path / 'print'}"
    assert (astray.ok, "sink.box.path: " in astray.found) == (False, True)


def test_a_vendor_s_faults_are_named_together(tmp_path: Path) -> None:
    """Its address and its key, at one look."""
    settings = Settings(home=tmp_path)
    settings.vendors_file.write_text(
        '[vendor.crm]\nurl = "http://127.0.0.1:1"\nkey = "secret:crm"\n'
    )

    [check] = [c for c in _vendors(settings) if c.name == "vendor crm"]

    assert not check.ok
    assert "secret crm" in check.found
    assert "an address inside a network" in check.found
    assert "vendors.toml" in check.hint
    assert "secrets/crm.txt" in check.hint


def test_what_is_left_in_the_inbox_is_neither_well_nor_a_fault(tmp_path: Path) -> None:
    """It says what to do, and the exit code stays 0."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "a.pdf.part").write_bytes(b"%PDF")

    [check] = _left_in_the_inbox(Settings(home=tmp_path))

    assert (check.ok, check.mark) == (True, "--")
    assert "a.pdf.part" in check.found
    assert Check("home", True, "/srv").mark == "ok"


def test_a_home_that_nothing_was_stored_in_has_lost_nothing(tmp_path: Path) -> None:
    """The store is made by the first that needs it; later it must be there."""
    settings = Settings(home=tmp_path)

    [found] = seen_here(settings)

    assert "the artifact store is not there" in found.what
    assert seen_here(settings, unused=True) == []
