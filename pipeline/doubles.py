"""
What stands in for the world where a stage is tested: artifacts, vendors and a jail.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
from pydantic import SecretStr

from pipeline.calls import Moment, Request, Usage
from pipeline.errors import NotFound
from pipeline.jail.custom import FileFunction
from pipeline.messages import Beside, ModelAnswer, ModelRequest, Said
from pipeline.outbox import SinkClass, SinkFacts
from pipeline.stage import Artifacts, Context
from pipeline.state import encode
from pipeline.vendors.asking import with_model
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.hearing import Reply
from pipeline.vendors.usage import said_in


class MemoryArtifacts:
    """Bytes by their sha256, in a dictionary; as files only for who asks for a path."""

    def __init__(self, folder: Path = Path("objects")) -> None:
        self.kept: dict[str, bytes] = {}
        self._folder = folder

    async def put(self, data: bytes) -> str:
        """Keep bytes; returns their name."""
        await anyio.lowlevel.checkpoint()
        name = hashlib.sha256(data).hexdigest()
        self.kept[name] = data
        return name

    async def put_file(self, path: Path) -> str:
        """Keep a file's bytes."""
        return await self.put(path.read_bytes())

    async def get(self, name: str) -> bytes:
        """The bytes; raises NotFound."""
        await anyio.lowlevel.checkpoint()
        if name not in self.kept:
            raise NotFound(f"no artifact {name[:12]}")
        return self.kept[name]

    def path(self, name: str) -> Path:
        """A file with these bytes."""
        path = self._folder / name
        if name in self.kept and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.kept[name])
        return path


class Everybody(dict[str, VendorSpec]):
    """Every vendor is declared."""

    def __contains__(self, name: object) -> bool:
        return True

    def get(self, name: str, default: Any = None) -> Any:
        """A vendor of this name."""
        return self[name]

    def __missing__(self, name: str) -> VendorSpec:
        return VendorSpec(name=name, url="http://vendor.test")


class AnySink(dict[str, SinkFacts]):
    """Sinks of every name, of which nothing is known."""

    def get(self, name: str, default: Any = None, /) -> SinkFacts:
        """One whose receiver knows nothing of keys."""
        return SinkFacts(SinkClass.C)


class Call(NamedTuple):
    """What a vendor was asked."""

    vendor: str
    path: str
    body: Any
    key: str
    timeout_s: float


class Answers:
    """
    The vendors' door, which gives these answers in turn.

    An answer is plain data; or an error, which is raised; or a function of the body.
    Asked more often than that is a fault of the test, or of the stage.

    Attributes:
        calls: What it was asked.
    """

    def __init__(self, *answers: Any) -> None:
        self.calls: list[Call] = []
        self._answers = list(answers)

    async def send(
        self,
        spec: VendorSpec,
        request: Request,
        *,
        key: SecretStr | str = "",
        timeout_s: float,
        idempotency_key: str = "",
        artifacts: Artifacts | None = None,
        when: Moment | None = None,
    ) -> Reply:
        """The next answer."""
        await anyio.lowlevel.checkpoint()
        if when is not None:
            await when()
        body = request.form if request.json is None else request.json
        sent = json.loads(encode(with_model(spec, body)))
        secret = key if isinstance(key, str) else key.get_secret_value()
        self.calls.append(Call(spec.name, request.path, sent, secret, timeout_s))
        where = f"{spec.name}{request.path}"
        assert self._answers, f"call {len(self.calls)} has no answer: {where}"
        answer = self._answers.pop(0)
        if callable(answer):
            answer = answer(sent)
        if isinstance(answer, BaseException):
            raise answer
        data = json.loads(encode(answer))
        return Reply(200, data, **said_in(spec.kind, data)._asdict())


class InProcess:
    """Runs jailed functions here: no jail, but JSON goes in and JSON comes out."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    async def run(self, fn: Callable[..., Any] | FileFunction, /, **kwargs: Any) -> Any:
        """Call `fn`; see `pipeline.run.services.Jail`."""
        await anyio.lowlevel.checkpoint()
        assert callable(fn), "a function of a pipeline's file needs a real jail"
        for policy in ("timeout_s", "pool", "owner"):
            kwargs.pop(policy, None)
        return json.loads(encode(fn(**json.loads(encode(kwargs)))))

    async def run_files(
        self, fn: Callable[..., Any] | FileFunction, /, *, keep: Artifacts, **kw: Any
    ) -> tuple[Any, dict[str, str]]:
        """Call `fn`, and keep the files it left in TMPDIR."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(folder)
        try:
            answer = await self.run(fn, **kw)
        finally:
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before
        left = sorted(path for path in folder.iterdir() if path.is_file())
        return answer, {path.name: await keep.put_file(path) for path in left}


Script = Callable[[ModelRequest], Said]
ZERO = Decimal(0)


def scripted(
    name: str, script: Script, tokens: int, cost: Decimal
) -> Callable[[Context], Scripted]:
    """What makes a model of a function, for a context that asks for it."""
    return lambda ctx: Scripted(name, script, ctx, tokens, cost)


class Scripted:
    """A model that is a function; what it says is a step, as a real one's is."""

    def __init__(
        self,
        name: str,
        script: Script,
        ctx: Context,
        tokens: int = 0,
        cost: Decimal = ZERO,
    ) -> None:
        self._usage = Usage(input_tokens=tokens)
        self._cost = cost
        self._name = name
        self._script = script
        self._ctx = ctx

    @property
    def name(self) -> str:
        """As it was asked for."""
        return self._name

    @property
    def longest(self) -> int:
        """Of a function nobody says."""
        return 0

    def beside(self, step: str) -> Beside:
        """A function gives no answer that is none."""
        return Beside(answered=self._ctx.remembered(step) is not None)

    async def ask(
        self, step: str, request: ModelRequest, *, number: int = 1
    ) -> ModelAnswer:
        """What the function says, its calls named by their place."""

        async def answered() -> ModelAnswer:
            await anyio.lowlevel.checkpoint()
            said = self._script(request)
            calls = tuple(
                call.model_copy(update={"id": f"c{number}_{n}"})
                for n, call in enumerate(said.calls, 1)
            )
            named = said.model_copy(update={"calls": calls})
            return ModelAnswer(
                said=named,
                declared=self._name,
                model="scripted",
                usage=self._usage,
                cost=self._cost,
            )

        return await self._ctx.step(step, answered)
