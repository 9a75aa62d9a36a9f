"""
Abstract: what is known of a contract, written down.

Reads   `clauses`, `checks`, `gaps` and `model`, left by the supervisor.
Writes  `files` and, in `facts`, what they come to; as products `record` (CONTRACT.json)
        and `abstract` (PDF), and copies in the batch's output folder.
Steps   none: writing again gives the same bytes and the same names.
Limits  one jailed process.
Ends    Advance; FONT_MISSING and TYPESET_FAILED fail.
Effects `crm`: one upsert a contract, where such a sink is declared.
"""

from pydantic import Field

from pipeline.artifacts.durable import write_atomically
from pipeline.errors import Permanent
from pipeline.stage import Advance, Context, Outcome, Retry, Settings, stage
from pipeline.threads import in_thread
from stages.abstracts import sheet
from stages.abstracts.forms import structure_of
from stages.abstracts.record import fields_of, record, written
from stages.printing.names import slug


class AbstractSettings(Settings):
    """Keys of `[stage.abstract]`."""

    template: str = "templates/abstract.typ"
    paper: str = "a4"
    sink: str = ""
    external_id: str = ""
    columns: dict[str, str] = Field(default_factory=dict)


@stage(settings=AbstractSettings, timeout_s=300, retry=Retry(attempts=4), window=64)
async def abstract(contract, ctx: Context) -> Outcome:
    """CONTRACT.json, the printed abstract, and a record in a CRM."""
    settings = ctx.settings
    structure = structure_of(await ctx.artifacts.get(contract.structure))
    head = {
        "name": ctx.item.name,
        "item": ctx.item.id,
        "source": contract.source,
        "pages": contract.page_count,
        "sections": len(structure.sections),
    }
    data = record(
        head,
        structure.types,
        contract.clauses,
        contract.checks,
        contract.gaps,
        contract.model,
    )
    kept = await ctx.artifacts.put(written(data))
    made, files = await ctx.jailed_files(
        sheet.typeset,
        pool="print",
        record=str(ctx.artifacts.path(kept)),
        template=ctx.folder.text(settings.template),
        paper=settings.paper,
    )
    stem = f"{ctx.item.id:08d}-{slug(ctx.item.name)}"
    products = {
        "record": (kept, f"{stem}/CONTRACT.json"),
        "abstract": (files[sheet.ABSTRACT], f"{stem}/abstract.pdf"),
    }
    for name, (artifact, file) in products.items():
        out = ctx.out_dir / file
        await in_thread(lambda out=out: out.parent.mkdir(exist_ok=True))
        await in_thread(write_atomically, out, await ctx.artifacts.get(artifact))
        ctx.product(name, artifact, file=file)
    told = await tell(data, ctx, kept, contract.source)
    counts = {
        key: data["counts"][key] for key in ("present", "absent", "unclear", "gaps")
    }
    return Advance(
        files={name: file for name, (_, file) in products.items()},
        facts={
            "title": data["title"],
            "model": data["model"],
            "readers": data["readers"],
            **counts,
            "decisions": data["decisions"],
            "abstract_pages": made["pages"],
            "crm": told,
        },
    )


async def tell(data, ctx: Context, kept: str, source: str) -> str:
    """Plan the upsert of this contract; what came of planning it, in words."""
    settings = ctx.settings
    if not settings.sink:
        return "no sink is named"
    fields = fields_of(data, settings.columns)
    if settings.external_id:
        fields[settings.external_id] = source
    try:
        await ctx.effect("crm", settings.sink, fields)
    except Permanent as error:
        if error.code != "NO_SUCH_SINK":
            raise
        return f"not told: no sink {settings.sink} is declared"
    return "planned"
