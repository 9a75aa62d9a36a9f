"""
Results: a row for each file that a batch received, and what became of it.

The same rows stand in an export and in a manifest.  A pipeline chooses the channels
of its items' state that are columns (`[export]` in its `pipeline.toml`); a product is
a file where its fact `file` names one.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from pipeline.errors import Integrity, NotFound, Permanent, Usage
from pipeline.folder import Pipeline
from pipeline.loading import IMPORT_S
from pipeline.model import Disposal, ItemId
from pipeline.state import update_of
from pipeline.store.rows import ProductRow, ReceivedRow, Standing
from waybill import terminal
from waybill.compose import App

SLICE = 100  # receipts of one statement: an item's updates may be some kilobytes each
FIRST = ("item", "name", "pipeline", "state", "stage", "code", "pages", "confidence")
LAST = ("files",)
# Of a state: what is looked at beside the channels that its pipeline chooses.
LOOKED_AT = ("page_count", "confidence", "facts")

# An item's pipeline, or an artifact, that is not in order: its row is incomplete.
UNREADABLE = (Integrity, NotFound, Permanent, Usage)

# What a spreadsheet takes for a formula, also in the full-width forms, at the
# beginning of a cell, and where a cell begins for one that splits at semicolons,
# tabs and line breaks, whatever is quoted.
FORMULA = re.compile(r"(^|[;\t\n])([^\S\t\n]*)(?=[=+\-@＝＋－＠])")
FORBIDDEN = re.compile(r'[\\:*?"<>|]')  # in the name of a file, on some system
NAME_BYTES_MAX = 255


class File(NamedTuple):
    """
    A product as a file: its name, beneath the batch's folder, and its bytes.

    `file` is "" where the stage named none, or none that could lie there: such a
    product is in the artifact store alone, and gets a name where it is exported.
    """

    product: str
    file: str
    artifact: str


class Result(NamedTuple):
    """
    What became of one file; None and "" stand for what there is not (yet).

    `state` is an item's, or `duplicate` or `quarantined`; `item` of a duplicate is
    the one that it duplicates.  `confidence` is of the whole document, 0-100.
    `channels` are by column.  Of an `incomplete` one something could not be read.
    """

    item: ItemId | None
    name: str
    pipeline: str
    state: str
    stage: str
    code: str
    pages: int | None
    confidence: float | None
    channels: dict[str, Any]
    files: list[File]
    incomplete: str = ""


async def results(app: App, batch_id: int) -> AsyncIterator[list[Result]]:
    """The batch's results, in the order in which they were received, in slices."""
    last = 0
    while rows := await app.store.received(batch_id, after=last, limit=SLICE):
        last = rows[-1].id
        made = [await _result(app, row) for row in rows]
        yield [one for one in made if one is not None]


async def columns(app: App, batch_id: int) -> list[str]:
    """The columns of a batch: ours, and those that its items' pipelines choose."""
    chosen: dict[str, None] = {}
    for number in await app.store.pipelines_of(batch_id):
        with suppress(*UNREADABLE):
            pipeline = await app.catalogue.get(number, app.store, IMPORT_S)
            chosen |= {_column(path): None for path in pipeline.exports}
    return [*FIRST, *chosen, *LAST]


def record(result: Result, names: Iterable[str]) -> dict[str, Any]:
    """A result as data, by these columns; what there is not is None."""
    own = result._asdict()
    own["files"] = [file._asdict() for file in result.files]
    return {n: own[n] if n in own else result.channels.get(n) for n in names}


def csv_lines(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as RFC 4180 has them: no cell is a formula, none steers a terminal."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(
        [_cell(value) for value in row] for row in rows
    )
    return text.getvalue()


def csv_values(result: Result, names: Iterable[str]) -> list[Any]:
    """The values of a result's line, by these columns."""
    of = record(result, names)
    of["files"] = [file.file for file in result.files if file.file]
    return list(of.values())


def _cell(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and not any(isinstance(v, list | dict) for v in value):
        value = "; ".join(map(str, value))
    text = value if isinstance(value, str) else to_json(value).decode()
    return FORMULA.sub(r"\1\2'", terminal.visible(text, lines=True))


async def _result(app: App, row: ReceivedRow) -> Result | None:
    if row.standing is not None:
        return await _of_item(app, row.standing)
    word = "duplicate" if row.disposal is Disposal.DUPLICATE else "quarantined"
    return Result(row.item, row.name, "", word, "", row.code, None, None, {}, [])


async def _of_item(app: App, standing: Standing) -> Result | None:
    """None of a part, where its pipeline gives parts no row."""
    number = standing.row.pipeline_id
    try:
        pipeline = await app.catalogue.get(number, app.store, IMPORT_S)
        if standing.row.parent_id is not None and not pipeline.exports_parts:
            return None
        return shaped(standing, pipeline, await _state(app, standing, pipeline))
    except UNREADABLE as error:
        return shaped(standing, None, {})._replace(incomplete=error.code)


async def _state(app: App, standing: Standing, pipeline: Pipeline) -> dict[str, Any]:
    """Of an item's state what its row shows, and no channel that was never set."""
    only = {*LOOKED_AT, *(path.partition(".")[0] for path in pipeline.exports)}
    updates = [await update_of(c, app.artifacts) for c in standing.updates]
    state = pipeline.channels.fold(from_json(standing.input), updates, only)
    return state.model_dump(mode="json", include=only & state.model_fields_set)


def shaped(
    standing: Standing, pipeline: Pipeline | None, state: Mapping[str, Any]
) -> Result:
    """The result of an item whose state, as JSON data, is `state`."""
    row = standing.row
    pages, confidence = state.get("page_count"), state.get("confidence")
    if not isinstance(pages, int):
        pages = _at(state, "facts.pages")
    exports = pipeline.exports if pipeline else ()
    return Result(
        item=row.id,
        name=row.name,
        pipeline=row.pipeline,
        state=row.state.value,
        stage=row.stage,
        code=row.code,
        pages=pages if isinstance(pages, int) else None,
        confidence=round(confidence, 1) if isinstance(confidence, float) else None,
        channels={_column(path): _at(state, path) for path in exports},
        files=[_file(product) for product in standing.products],
    )


def _at(state: Any, path: str) -> Any:
    """The value at `channel.key.key`; None where there is none."""
    for key in path.split("."):
        state = state.get(key) if isinstance(state, dict) else None
    return state


def _column(path: str) -> str:
    """A channel's column; ours keep their names."""
    return f"state.{path}" if path in (*FIRST, *LAST) else path


def _file(product: ProductRow) -> File:
    """A product's name as a file, which leads nowhere else, whatever a stage said."""
    file = writable(str(product.facts.get("file", "")))
    fits = all(_is_component(part) for part in file.split("/"))
    return File(product.name, file if fits else "", product.artifact)


def writable(name: str) -> str:
    """The same, without what some system has in no file's name."""
    return FORBIDDEN.sub("_", terminal.visible(name))


def _is_component(part: str) -> bool:
    return bool(part.strip(". ")) and len(part.encode()) <= NAME_BYTES_MAX
