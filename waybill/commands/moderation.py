"""`waybill moderation`: what the rules make of a text, and how often they are right."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import typer
from anyio.lowlevel import checkpoint

from pipeline.errors import Unacceptable, Usage
from pipeline.folder import Pipeline
from pipeline.model import Advance, Hold, Reject
from stages.document import Span, Verdict
from stages.formats.kinds import TXT, type_of
from stages.formats.text import pages
from stages.moderation import ModerationSettings, action_of, outcome_of
from stages.moderation import moderation as built_in
from stages.rules.compiler import rulebook
from stages.rules.rulebook import Rulebook
from waybill import terminal
from waybill.commands.missed import moderation_stats
from waybill.commands.options import Header, Json
from waybill.commands.run import run_async
from waybill.compose import pipeline_folder
from waybill.evals.holding import Weighed, scored
from waybill.evals.texts import LabelledText, read_texts
from waybill.inbox import glance
from waybill.settings import read_settings

moderation = typer.Typer(
    help="Moderation: why a text is held, and how often that is right.",
    no_args_is_help=True,
)

LETTERS = "letters"  # the pipeline that is meant where none is named
STAGE = "moderation"
STDIN = "-"
TEXT_BYTES_MAX = 16 << 20  # arbitrary, and more than any stage reads
LINES_SHOWN = 40  # of texts that were wrong; --json has them all
OUTCOMES = {"allow": "passes", "hold": "held", "block": "rejected"}
COLUMNS = ("rule", "does", "severity", "matched", "where")
RATES = ("recall", "precision", "f1", "innocent_held")
RATE_COLUMNS = ("kind", "care", "innocent", *(rate.replace("_", " ") for rate in RATES))
WRONG_COLUMNS = ("line", "label", "kinds", "rules", "text")

OfPipeline = Annotated[
    str, typer.Option("--pipeline", help="Whose rules: a name or a folder.")
]


class Rules(NamedTuple):
    """The moderation stage of a pipeline, as it would read a text."""

    pipeline: Pipeline
    settings: ModerationSettings
    book: Rulebook

    def data(self) -> dict[str, str]:
        """Whose rules they are, for a report."""
        folder = self.pipeline.folder
        return {"pipeline": folder.name, "version": folder.version}


def rules_of(name: str) -> Rules:
    """
    The rules of a pipeline, by its name or folder.

    Raises:
        Usage: there is no such pipeline, it is broken, or its moderation is not ours.
    """
    terminal.keep_stdout()  # a pipeline's own file may print
    pipeline = glance(pipeline_folder(read_settings(), name))
    bound = pipeline.stages.get(STAGE)
    if bound is None:
        raise Usage(
            f"the pipeline {pipeline.name} has no stage {STAGE!r}",
            hint=f"its stages: {', '.join(pipeline.stages)}",
        )
    if bound.stage.run is not built_in.run:
        raise Usage(
            f"the pipeline {pipeline.name} has a moderation stage of its own",
            hint=f"`waybill pipelines run {STAGE} FILE --pipeline {name}` runs it",
        )
    settings = bound.settings
    assert isinstance(settings, ModerationSettings)
    return Rules(pipeline, settings, rulebook(pipeline.folder, settings.rules))


moderation.command("stats")(moderation_stats)


# -- test ------------------------------------------------------------------------------


@moderation.command("test")
def moderation_test(
    file: Annotated[
        str, typer.Argument(help="A plain text; - reads stdin.", metavar="[FILE]")
    ] = "",
    text: Annotated[
        str | None, typer.Option(help="The text itself, in the place of a file.")
    ] = None,
    pipeline: OfPipeline = LETTERS,
    header: Header = False,
    json: Json = False,
) -> None:
    """Say what moderation would do with a text, and which rules matched where."""
    if bool(file) == (text is not None):
        raise Usage("name a file, or give --text", hint="one of them, not both")
    rules = rules_of(pipeline)
    text = _read(file) if text is None else text

    async def main() -> Advance | Hold | Reject:
        return await outcome_of(text, rules.book, rules.settings)

    report = {**rules.data(), **_explained(text, run_async(main), rules.book)}
    if json:
        terminal.print_json(report)
    else:
        _print_test(report, header)


def _read(file: str) -> str:
    """
    A plain text as a pipeline reads it, its pages parted by form feeds.  Blocking.

    Raises:
        Usage: NO_SUCH_FILE; NO_PLAIN_TEXT, what it is; TEXT_TOO_LONG.
    """
    if file != STDIN:
        if not Path(file).is_file():
            raise Usage(
                f"there is no file {file}",
                code="NO_SUCH_FILE",
                hint="name one text; - reads stdin, --text takes the text itself",
            )
        return _text_of(Path(file))
    with TemporaryDirectory(prefix="waybill-text-") as folder:
        path = Path(folder) / "stdin"
        data = sys.stdin.buffer.read(TEXT_BYTES_MAX + 1) if sys.stdin else b""
        path.write_bytes(data)
        return _text_of(path)


def _text_of(path: Path) -> str:
    if path.stat().st_size > TEXT_BYTES_MAX:
        raise Usage(
            f"the text has more than {TEXT_BYTES_MAX >> 20} MiB",
            code="TEXT_TOO_LONG",
            hint="moderation would hold it unread; try a part of it",
        )
    try:
        kind = type_of(str(path))
    except Unacceptable as error:
        raise _no_text(error.message) from None
    if kind != TXT:
        raise _no_text(f"the content is {kind}")
    read = pages(str(path), kind)
    return "\f".join(page.text for page in read if not isinstance(page, bytes))


def _no_text(why: str) -> Usage:
    return Usage(
        f"it is no plain text: {why}",
        code="NO_PLAIN_TEXT",
        hint=f"`waybill pipelines run {STAGE} FILE` reads a document first, and shows "
        "what moderation makes of it",
    )


def _explained(
    text: str, outcome: Advance | Hold | Reject, rules: Rulebook
) -> dict[str, Any]:
    """What would be done with a text, and every match behind it, in its order."""
    verdict: Verdict | None = outcome.updates.get("verdict")
    code = why = ""
    if not isinstance(outcome, Advance):
        code, why = outcome.code, outcome.why
    action = verdict.action if verdict else "hold"  # it was too long to be read
    spans = [] if verdict is None else verdict.spans
    noted = [] if verdict is None else [s for s in verdict.personal if s not in spans]
    found = [_match(text, span, rules) for span in spans]
    found += [{**_match(text, span, rules), "action": "allow"} for span in noted]
    return {
        "outcome": OUTCOMES[action],
        "code": code,
        "why": why,
        "categories": [] if verdict is None else verdict.categories,
        "characters": len(text),
        "matches": sorted(found, key=lambda match: (match["start"], match["end"])),
    }


def _match(text: str, span: Span, rules: Rulebook) -> dict[str, Any]:
    """Lines and columns from 1; `start` and `end` are [start, end) of the text."""
    known = rules.categories.get(span.category)
    before = text[: span.start]
    return {
        "rule": _id(span),
        "category": span.category,
        "action": action_of(span.category, rules),
        "severity": None if known is None else known.severity,
        "text": text[span.start : span.end],
        "start": span.start,
        "end": span.end,
        "line": before.count("\n") + 1,
        "column": span.start - before.rfind("\n"),
    }


def _id(span: Span) -> str:
    return f"{span.category}/{span.rule}"


def _print_test(report: Mapping[str, Any], header: bool) -> None:
    """The outcome and why beside the table of matches, which is the data."""
    head = " ".join(filter(None, (report["outcome"], report["code"])))
    terminal.err.print(f"[bold]{terminal.safe(head)}[/bold]")
    why = report["why"]
    if not why:
        why = "What matched is noted, and holds nothing." * bool(report["matches"])
    terminal.say(why or "No rule matched.", to=terminal.err)
    terminal.print_table(COLUMNS, map(_row, report["matches"]), header=header)


def _row(match: Mapping[str, Any]) -> list[Any]:
    severity = "" if match["severity"] is None else match["severity"]
    last = match["column"] + match["end"] - match["start"] - 1
    where = f"line {match['line']}, {match['column']}-{last}"
    words = " ".join(match["text"].split())
    return [match["rule"], match["action"], severity, words, where]


# -- eval ------------------------------------------------------------------------------


@moderation.command("eval")
def moderation_eval(
    file: Annotated[Path, typer.Argument(help="Labelled texts, JSON lines.")],
    pipeline: OfPipeline = LETTERS,
    show: Annotated[
        bool, typer.Option("--show", help="Print the texts that were taken wrongly.")
    ] = False,
    header: Header = False,
    json: Json = False,
) -> None:
    """Score moderation by labelled texts: recall, precision, what is held wrongly."""
    texts, repeated = read_texts(file)
    rules = rules_of(pipeline)
    began = time.monotonic()

    async def main() -> list[Weighed]:
        found = []
        with terminal.progress("texts", len(texts)) as note:
            for done, known in enumerate(texts, 1):
                found.append(await _weighed(known, rules))
                note(done)
                await checkpoint()
        return found

    found = run_async(main)
    report = {
        **rules.data(),
        "file": str(file),
        "texts": len(texts),
        "repeated": repeated,
        **scored(found, show=show),
        "took_s": round(time.monotonic() - began, 3),
    }
    if json:
        terminal.print_json(report)
    else:
        _print_eval(report, show=show, header=header)


async def _weighed(known: LabelledText, rules: Rules) -> Weighed:
    outcome = await outcome_of(known.text, rules.book, rules.settings)
    if isinstance(outcome, Advance):
        return Weighed(known, "")
    verdict: Verdict | None = outcome.updates.get("verdict")
    spans = verdict.spans if verdict else []
    names = {_id(s) for s in spans if action_of(s.category, rules.book) != "allow"}
    return Weighed(known, outcome.code, tuple(sorted(names)))


def _print_eval(report: Mapping[str, Any], *, show: bool, header: bool) -> None:
    rows = [*report["kinds"].items(), ("all", report["all"])]
    lines = ([kind, *_cells(rates)] for kind, rates in rows)
    terminal.print_table(RATE_COLUMNS, lines, header=header)
    again = f", {report['repeated']} lines had one of them again"
    terminal.err.print(
        f"texts    {report['texts']}{again if report['repeated'] else ''}"
    )
    for word, wrong in (
        ("missed", report["missed"]),
        ("wrongly held", report["held_by_mistake"]),
    ):
        if wrong:
            terminal.say(f"{word:8} {_by_line(wrong)}", to=terminal.err)
    if show:
        shown = _shown([*report["missed"], *report["held_by_mistake"]])
        terminal.print_table(WRONG_COLUMNS, shown, header=header)


def _cells(rates: Mapping[str, Any]) -> Iterator[str]:
    yield str(rates["care"])
    yield str(rates["innocent"])
    for name in RATES:
        yield terminal.rate(rates[name], rates["intervals"].get(name))


def _by_line(wrong: Sequence[Mapping[str, Any]]) -> str:
    numbers = ", ".join(str(one["line"]) for one in wrong[:LINES_SHOWN])
    more = len(wrong) - LINES_SHOWN
    return f"{len(wrong)}, of lines {numbers}" + (
        f" and {more} more" if more > 0 else ""
    )


def _shown(wrong: Iterable[Mapping[str, Any]]) -> Iterator[list[str]]:
    for one in wrong:
        kinds, rules = ", ".join(one["kinds"]), ", ".join(one["rules"])
        yield [one["line"], one["label"], kinds, rules, " ".join(one["text"].split())]
