"""
PDF/A-2b: what says that a PDF is one, and Ghostscript, which makes others so.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import Permanent

PROFILE = "srgb.icc"
DEFINITION = """\
%!
[/_objdef {{icc}} /type /stream /OBJ pdfmark
[{{icc}} << /N 3 >> /PUT pdfmark
[{{icc}} ({icc}) (r) file /PUT pdfmark
[/_objdef {{intent}} /type /dict /OBJ pdfmark
[{{intent}} << /Type /OutputIntent /S /GTS_PDFA1 /DestOutputProfile {{icc}}
  /OutputConditionIdentifier (sRGB) >> /PUT pdfmark
[{{Catalog}} << /OutputIntents [ {{intent}} ] >> /PUT pdfmark
"""


def mark(pdf: Any, title: str) -> None:
    """Say of a PDF, whose pages are all right for it, that it is PDF/A-2b."""
    import pikepdf

    profile = pdf.make_stream(srgb())
    profile.N = 3
    pdf.Root.OutputIntents = [
        pikepdf.Dictionary(
            Type=pikepdf.Name.OutputIntent,
            S=pikepdf.Name.GTS_PDFA1,
            OutputConditionIdentifier=pikepdf.String("sRGB"),
            Info=pikepdf.String("sRGB IEC61966-2.1"),
            DestOutputProfile=pdf.make_indirect(profile),
        )
    ]
    with pdf.open_metadata(set_pikepdf_as_editor=False) as metadata:
        metadata["pdfaid:part"] = "2"
        metadata["pdfaid:conformance"] = "B"
        metadata["dc:title"] = title
        metadata["pdf:Producer"] = "Waybill"


@lru_cache(maxsize=1)
def srgb() -> bytes:
    """The colour profile of what has none of its own: the same bytes every day."""
    from PIL import ImageCms

    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Its header has the version, which must not be newer than PDF 1.7 knows, and when
    # it was made: a date of ours.
    day = bytes.fromhex("07d0 0001 0001 0000 0000 0000")
    return made[:8] + bytes.fromhex("04200000") + made[12:24] + day + made[36:]


def by_ghostscript(source: Path, folder: Path, timeout_s: float) -> Path | None:
    """
    A PDF/A-2b of a PDF, written by Ghostscript; None where it cannot make one.

    Raises:
        Permanent: GHOSTSCRIPT_MISSING.
    """
    program = shutil.which("gs")
    if program is None:
        raise Permanent(
            "there is no Ghostscript on this machine",
            code="GHOSTSCRIPT_MISSING",
            hint="install it (Debian, Ubuntu: apt-get install ghostscript), or leave "
            'out pdfa = "ghostscript" in [stage.searchable]',
        )
    profile, definition = folder / PROFILE, folder / "pdfa.ps"
    made = folder / "archival.pdf"
    profile.write_bytes(srgb())
    definition.write_text(DEFINITION.format(icc=profile), encoding="ascii")
    arguments = [
        *("-q", "-dBATCH", "-dNOPAUSE", "-dSAFER", "-sDEVICE=pdfwrite"),
        *("-dPDFA=2", "-dPDFACompatibilityPolicy=2", "-sColorConversionStrategy=RGB"),
        *("-dPassThroughJPEGImages=true", "-dPassThroughJPXImages=true"),
        *("-dAutoRotatePages=/None", "-dPreserveAnnots=true"),
        *(f"--permit-file-read={profile}", f"-sOutputFile={made}"),
        *(str(definition), str(source)),
    ]
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            check=False,
            timeout=timeout_s,
            cwd=folder,
        )
    except subprocess.TimeoutExpired:
        return None
    finally:
        profile.unlink()
        definition.unlink()
    return made if done.returncode == 0 and made.is_file() else None
