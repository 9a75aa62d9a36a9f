"""
`python -m loadtest vendors`: a world of vendors on loopback, until it is enough.

It imports nothing but itself and its server, so that a scenario has it in no time.
"""

from __future__ import annotations

import json as jsonlib
import os
import sys
import tempfile
import tomllib
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from pydantic import ValidationError

from loadtest.vendors.book import Book
from loadtest.vendors.settings import World
from loadtest.vendors.world import Playing

SETTLE_S = 0.25  # how old a row may become before it is in the book's file

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def vendors(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0: any free one.")
    ] = 8808,
    config: Annotated[
        Path | None, typer.Option(help="TOML or JSON: the vendors and their ways.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME.KEY=VALUE, e.g. llm.latency=2; again."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn.")] = None,
    bad: Annotated[
        float, typer.Option(min=0, max=1, help="Share of bad answers of models.")
    ] = 0.0,
    book: Annotated[
        Path | None, typer.Option(help="SQLite file of what was accepted.")
    ] = None,
    for_s: Annotated[
        float, typer.Option("--for", "--for-s", min=0.1, max=86_400, help="Then end.")
    ] = 600,
    parent: Annotated[int, typer.Option(help="End with this process.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Addresses as JSON.")] = False,
) -> None:
    """Models, OCR, moderation, CRM, ERP, print and mail on 127.0.0.1, misbehaving."""
    with ExitStack() as stack:
        if book is None:
            place = tempfile.TemporaryDirectory(prefix="waybill-vendors-")
            book = Path(stack.enter_context(place)) / "book.sqlite"
        try:
            world = read(config, setting or [], seed, bad)
            playing = Playing(world, Book(book))
            anyio.run(
                partial(_play, playing, port, for_s, parent, json),
                backend_options={"use_uvloop": True},
            )
        except (OSError, ValueError) as error:
            print(f"{error}", file=sys.stderr)
            raise typer.Exit(2) from None


async def _play(
    playing: Playing, port: int, for_s: float, parent: int, as_json: bool
) -> None:
    """Until it is enough, or nobody wants it any more."""
    with anyio.move_on_after(for_s):
        async with playing.at(port):
            shown = playing.shown()
            if as_json:
                print(jsonlib.dumps(shown), flush=True)
            else:
                for vendor in shown["vendors"].values():
                    print(f"{vendor['kind']:11} {vendor['url']}", file=sys.stderr)
                print(f"{'':11} {shown['control']}  {for_s:.0f} s", file=sys.stderr)
            while not parent or os.getppid() == parent:
                await anyio.sleep(SETTLE_S)
                playing.book.settle()


def read(
    config: Path | None, settings: list[str], seed: int | None, bad: float
) -> World:
    """
    The world of a file, with what the options say beside it.

    Raises:
        ValueError: it cannot be read, or holds what is unknown.
    """
    raw: dict[str, Any] = {}
    if config is not None:
        text = config.read_text(encoding="utf-8")
        raw = jsonlib.loads(text) if config.suffix == ".json" else tomllib.loads(text)
    vendor = raw.setdefault("vendor", {})
    if bad:
        mix = ["error_429", "error_500", "error_503", "cut", "bad_json", "html"]
        mix += ["refusal", "wrong_schema", "length"]
        for name in ("llm", "claude", "vision"):
            share = {fault: bad / len(mix) for fault in mix}
            vendor.setdefault(name, {}).setdefault("faults", share)
    for each in settings:
        path, _, value = each.partition("=")
        name, _, key = path.partition(".")
        vendor.setdefault(name, {})[key] = _value(value)
    if seed is not None:
        raw["seed"] = seed
    try:
        return World.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}") from None


def _value(text: str) -> Any:
    """A TOML value; a bare word is text."""
    try:
        return tomllib.loads(f"it = {text}")["it"]
    except tomllib.TOMLDecodeError:
        return text


if __name__ == "__main__":
    app()
