"""
Formulas of Word documents on one line, as a person would type them.

`(a+b)/2`, `x^2`, `√(y)`: what is above and below, left and right, stays told apart.
"""

from __future__ import annotations

from typing import Any

M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"


def formula(node: Any) -> str:
    """A formula, or a piece of it, on one line."""
    parts = {name(inner): formula(inner) for inner in node}
    of = parts.get
    match name(node):
        case "t":
            return node.text or ""
        case "f":
            return f"{grouped(of('num', ''))}/{grouped(of('den', ''))}"
        case "sSup" | "sSub" | "sSubSup" | "sPre":
            return of("e", "") + scripts(parts)
        case "rad":
            degree = of("deg", "")
            return f"{'' if not degree else degree + ' '}√({of('e', '')})"
        case "nary":
            what = f"{character(node, 'chr', '∫')}{scripts(parts)}"
            return f"{what} {of('e', '')}"
        case "d":
            between = character(node, "sepChr", "|")
            held = between.join(formula(inner) for inner in node if name(inner) == "e")
            left, right = character(node, "begChr", "("), character(node, "endChr", ")")
            return f"{left}{held}{right}"
        case "m" | "eqArr":
            rows = [formula(inner) for inner in node if name(inner) in ("mr", "e")]
            return f"[{'; '.join(rows)}]"
        case "mr":
            return ", ".join(formula(inner) for inner in node if name(inner) == "e")
        case "limLow" | "limUpp":
            return f"{of('e', '')}_{grouped(of('lim', ''))} "
        case "func":
            return f"{of('fName', '')} {of('e', '')}"
        case other if other.endswith("Pr"):
            return ""
        case _:
            return "".join(formula(inner) for inner in node)


def name(node: Any) -> str:
    """The name of an element of a formula; of any other the last part of its name."""
    return str(node.tag).rpartition("}")[2]


def scripts(parts: dict[str, str]) -> str:
    """What stands below and above."""
    low, high = parts.get("sub", ""), parts.get("sup", "")
    return (f"_{grouped(low)}" if low else "") + (f"^{grouped(high)}" if high else "")


def grouped(text: str) -> str:
    """In brackets, when it is more than one number or letter."""
    return text if text.isalnum() or len(text) == 1 else f"({text})"


def character(node: Any, key: str, otherwise: str) -> str:
    """A sign that an element sets for itself."""
    for found in node.iter(M + key):
        return str(found.get(M + "val", ""))
    return otherwise
