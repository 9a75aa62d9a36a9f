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

from pipeline.stage import Advance, Context, Outcome, Retry, Settings, stage
from stages.abstracts import sheet
from stages.abstracts.forms import structure_of
from stages.abstracts.record import fields_of, record, written
from stages.printing.handout import give_out, tell
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
    await give_out(ctx, products)
    fields = fields_of(data, settings.columns)
    if settings.external_id:
        fields[settings.external_id] = contract.source
    told = await tell(ctx, "crm", settings.sink, fields)
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
