"""What a batch received, in memory: of an app what results and exports need."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.doubles import MemoryArtifacts
from pipeline.errors import Usage
from pipeline.folder import Pipeline, PipelineFolder
from pipeline.model import Disposal, State
from pipeline.state import Channels
from pipeline.store.rows import BatchRow, ItemRow, ReceivedRow, Standing
from stages.document import Document

NOW = datetime(2026, 12, 1, tzinfo=UTC)
ROW = ItemRow(
    id=7,
    name="a.pdf",
    tenant="t",
    batch="b",
    pipeline_id=1,
    key="k",
    state=State.HELD,
    stage="ocr",
    attempt=0,
    code="LOOK",
    why="",
    received_at=NOW,
    deadline_at=NOW,
    since=NOW,
    until=None,
    pipeline="letters",
)
BATCH = BatchRow(1, "acme", "may", NOW, NOW)


class Store:
    """Receipts, in slices."""

    def __init__(self, *rows: ReceivedRow) -> None:
        self.rows = rows

    async def received(self, batch_id: int, *, after: int, limit: int) -> Any:
        return [row for row in self.rows if row.id > after][:limit]

    async def pipelines_of(self, batch_id: int) -> list[int]:
        return [1, 2]


class Catalogue:
    """Pipeline 1 shows these channels; pipeline 2 cannot be read any more."""

    def __init__(self, *exports: str) -> None:
        folder: Any = PipelineFolder.__new__(PipelineFolder)
        self.pipeline = Pipeline(
            folder, {}, Channels(Document), 1.0, {}, {}, {}, exports
        )

    async def get(self, number: int, store: Any, patience_s: float) -> Pipeline:
        if number == 2:
            raise Usage("it is not in order", code="PIPELINE_HANGS")
        return self.pipeline


class Artifacts(MemoryArtifacts):
    """Whose files lie where nobody looks."""

    def path(self, name: str) -> Path:
        return Path("/nowhere", name)


@dataclass
class Places:
    """Where finished documents go."""

    out_dir: Path = Path("/nowhere")


@dataclass
class Desk:
    """Of an app what results need."""

    store: Store
    catalogue: Catalogue
    artifacts: Artifacts
    settings: Places = field(default_factory=Places)


def became(standing: Standing | None, number: int = 1, **more: Any) -> ReceivedRow:
    facts = {"id": number, "name": "a.pdf", "disposal": Disposal.ITEM, "code": ""}
    item = standing.row.id if standing else None
    return ReceivedRow(**(facts | {"item": item, "standing": standing} | more))
