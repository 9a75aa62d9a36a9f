"""How large a document may be is decided once: at admission, by its pipeline."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.system.command import Home


def stack(path: Path, pages: int) -> Path:
    """A TIFF of so many pages."""
    first, *rest = (Image.new("1", (400, 300), n % 2) for n in range(pages))
    first.save(path, save_all=True, append_images=rest)
    return path


def strict(home: Home) -> Path:
    """A pipeline whose documents have two pages at most."""
    folder = home.pipelines / "strict"
    folder.mkdir(parents=True)
    (folder / "pipeline.toml").write_text(
        'name = "strict"\nstages = ["intake"]\n[stage.intake]\nmax_pages = 2\n'
    )
    return folder


def test_a_pipeline_says_how_many_pages_are_admitted(home: Home, tmp_path: Path):
    """One page too many is quarantined, with the receipt of a refused file."""
    small, large = (stack(tmp_path / f"{n}.tif", n) for n in (2, 3))

    ran = home.run("ingest", small, large, "--pipeline", strict(home), "--wait")

    [refused] = home.ok("quarantine", "ls")
    assert (refused["name"], refused["code"]) == ("3.tif", "TOO_MANY_PAGES")
    assert home.ends() == {"done": 1}, ran


def test_nothing_larger_than_the_service_copies_is_admitted(home: Home, tmp_path: Path):
    """WAYBILL_MAX_FILE_BYTES holds, whatever the pipeline would take."""
    page = stack(tmp_path / "page.tif", 2)
    page.write_bytes(page.read_bytes() + bytes(2000))

    home.run("ingest", page, "--pipeline", strict(home), MAX_FILE_BYTES="1024")

    [refused] = home.ok("quarantine", "ls")
    assert refused["code"] == "FILE_TOO_LARGE"
