"""
From a `Request` to what is sent: a URL below the vendor's, headers, one body.

What a stage gives may come from a document.  It cannot leave the vendor's URL, set a
header that is ours, or bring one header in the value of another.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode

from pydantic import SecretStr

from pipeline.calls import FilePart, Kind, Request
from pipeline.errors import Usage as UsageError
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.failures import unsendable
from pipeline.vendors.target import HEADER_NAME, HEADER_VALUE, OURS, Target, target_of

ANTHROPIC_VERSION = "2023-06-01"
QUERY_CHARS_MAX = 16_384
_KEY = re.compile(r"[\x21-\x7e]{1,4096}")


class Sent(NamedTuple):
    """What goes over the wire, but for the address."""

    path: str
    headers: dict[str, str]
    body: bytes


def sent(
    spec: VendorSpec,
    request: Request,
    *,
    key: SecretStr | str = "",
    idempotency_key: str = "",
) -> Sent:
    """
    The request, made ready.

    Raises:
        Usage: VENDOR_URL, VENDOR_KEY.
        CallPermanent: VENDOR_REQUEST, what the stage asks cannot be sent.
    """
    target = target_of(spec.url)
    body, media_type = _body(spec, request)
    headers = {
        "host": target.netloc,
        "accept": "application/json" if request.answer == "json" else "*/*",
        "accept-encoding": "gzip",
        "user-agent": "waybill",
    }
    if media_type:
        headers["content-type"] = media_type
    ours = OURS | {spec.key_header.lower(), spec.idempotency_header.lower()}
    for name, value in (*spec.headers.items(), *request.headers.items()):
        small = name.lower()
        if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            raise unsendable(spec, "a header that is none")
        if small in ours or (small == "content-type" and request.files):
            raise unsendable(spec, f"the header {small}, which is the door's")
        headers[small] = value
    headers.update(_credentials(spec, key))
    if spec.idempotency_header and idempotency_key:
        headers[spec.idempotency_header.lower()] = idempotency_key
    return Sent(_path(spec, target, request), headers, body)


def _path(spec: VendorSpec, target: Target, request: Request) -> str:
    path = request.path
    # Some servers take `..;x` for `..`: what follows a semicolon is no part of a step.
    parts = unquote(path).replace("\\", "/").split("/")
    steps = [part.partition(";")[0] for part in parts]
    if re.search(r"[?#\x00-\x1f\x7f\\]", path) or ".." in steps or "." in steps:
        raise unsendable(spec, "a path that leaves the vendor's URL, or has a query")
    below = quote(path.lstrip("/"), safe="/:@!$&'()*+,;=~%", errors="replace")
    whole = f"{target.path}/{below}" if below else target.path or "/"
    if request.query:
        query = urlencode(request.query, quote_via=quote, errors="replace")
        whole = f"{whole}?{query}"
    if len(whole) > QUERY_CHARS_MAX:
        raise unsendable(spec, f"more than {QUERY_CHARS_MAX} characters of path")
    return whole


def _body(spec: VendorSpec, request: Request) -> tuple[bytes, str]:
    """The one body, and its media type; b"" and "" where there is none."""
    forms = request.form is not None or bool(request.files)
    given = [request.json is not None, forms, request.content is not None]
    if sum(given) > 1:
        raise unsendable(spec, "more than one body: json, form and files, or content")
    if request.json is not None:
        what = request.json
        what = with_model(spec, what)
        try:
            text = json.dumps(what, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise unsendable(spec, "what is no JSON") from None
        return text.encode("ascii"), "application/json"
    if request.files:
        return _multipart(spec, request.form or {}, request.files)
    if request.form is not None:
        text = urlencode(request.form, errors="replace")
        return text.encode("ascii"), "application/x-www-form-urlencoded"
    if request.content is not None:
        return request.content, "application/octet-stream"
    return b"", ""


def with_model(spec: VendorSpec, body: Any) -> Any:
    """The body with the model that is declared, where the vendor's shape names one."""
    if spec.model and spec.kind != "http" and isinstance(body, dict):
        return {**body, "model": spec.model}
    return body


def _multipart(
    spec: VendorSpec, form: Any, files: tuple[FilePart, ...]
) -> tuple[bytes, str]:
    parts: list[tuple[str, bytes]] = [
        (f'form-data; name="{_name(name)}"', value.encode("utf-8", "replace"))
        for name, value in form.items()
    ]
    for file in files:
        if not HEADER_VALUE.fullmatch(file.media_type) or "/" not in file.media_type:
            raise unsendable(spec, "a file whose media type is none")
        head = f'form-data; name="{_name(file.field)}"; filename="{_name(file.name)}"'
        parts.append((f"{head}\r\nContent-Type: {file.media_type}", file.content))
    # Of the content, so that a call that is repeated sends the same bytes, and that
    # no content can hold it.
    digest = hashlib.sha256()
    for head, content in parts:
        digest.update(head.encode("utf-8", "replace"))
        digest.update(content)
    boundary = digest.hexdigest()[:40]
    whole = bytearray()
    for head, content in parts:
        lines = f"--{boundary}\r\nContent-Disposition: {head}\r\n\r\n"
        whole += lines.encode("utf-8", "replace") + content + b"\r\n"
    whole += f"--{boundary}--\r\n".encode()
    return bytes(whole), f"multipart/form-data; boundary={boundary}"


def _name(text: str) -> str:
    # As browsers do (WHATWG): a name cannot end its own quotes or its line.
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def _credentials(spec: VendorSpec, key: SecretStr | str) -> dict[str, str]:
    headers: dict[str, str] = {}
    kind: Kind = spec.kind
    secret = key.get_secret_value() if isinstance(key, SecretStr) else key
    # A bad header would be quoted, key and all, in somebody's error.
    if secret and not _KEY.fullmatch(secret):
        raise UsageError(
            f"the key of {spec.name or 'the vendor'} has characters no key has",
            code="VENDOR_KEY",
            hint="look for a line break or quotes around it where it is kept",
        )
    if kind == "anthropic" and "anthropic-version" not in map(str.lower, spec.headers):
        headers["anthropic-version"] = ANTHROPIC_VERSION
    if not secret:
        return headers
    if spec.key_header:
        return {**headers, spec.key_header.lower(): secret}
    if kind == "anthropic":
        headers["x-api-key"] = secret
    else:
        headers["authorization"] = f"Bearer {secret}"
    return headers
