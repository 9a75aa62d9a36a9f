"""`waybill moderation suggest`: what people decided, as phrases for new rules."""

from __future__ import annotations

from tests.system.command import Home
from tests.system.commands.test_moderation import RULES

GRAVE = "I make boom. My step dad herts me and I want a "
INNOCENT = "I make boom in my game and I want a "


def test_phrases_come_from_what_people_decided(shared: Home) -> None:
    """Grave is what was rejected, or is answered by a person; the others went on."""
    folder = shared.folder / "made" / "suggest"
    (folder / "rules").mkdir(parents=True)
    (folder / "rules" / "threat.toml").write_text(RULES)
    (folder / "pipeline.toml").write_text(
        'name = "suggest"\ndeadline = "1d"\nstages = ["intake", "ocr", "moderation"]\n'
    )
    letters = {
        f"{name}-{toy}.txt": f"Dear Santa, {text}{toy}"
        for name, text in (("grave", GRAVE), ("fine", INNOCENT))
        for toy in ("bike", "ball")
    }
    for name, text in letters.items():
        (shared.folder / "made" / name).write_text(text)
    files = [shared.folder / "made" / name for name in letters]
    whose = ("--tenant", "suggested")
    shared.run("ingest", *files, "--pipeline", folder, *whose, "--wait")
    held = shared.ok("review", "ls", *whose)
    grave = [r["hold"] for r in held if r["item_name"].startswith("grave")]
    fine = [r["hold"] for r in held if r["hold"] not in grave]
    shared.ok("review", "reject", grave[0], "--reason", "grave")
    shared.ok("review", "edit", grave[1], "--set", "answer_by=person")
    shared.run("review", "approve", fine[0])
    shared.ok("review", "edit", fine[1], "--set", "answer_by=machine")

    report = shared.ok("moderation", "suggest", "--pipeline", folder, *whose)

    assert (report["grave"], report["went_on"], report["left_out"]) == (2, 2, 0)
    [first, *others] = report["phrases"]
    assert (first["phrase"], first["letters"]) == ("my step dad herts me", 2)
    assert (first["kinds"], sorted(first["of"])) == (["threat"], sorted(grave))
    assert not any("boom" in one["phrase"] for one in others)
