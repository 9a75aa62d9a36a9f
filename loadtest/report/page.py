"""
The page: the verdict first, then what the run looked like.

One file and no network: style, pictures and words are in it.  Everything that comes
from a run's files is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from loadtest.report.charts import (
    HALF,
    NARROW,
    WIDE,
    Chart,
    Key,
    Kind,
    Scale,
    drawn,
    finished,
    timeline,
)
from loadtest.report.plot import styled
from loadtest.report.promises import Promise, promises
from loadtest.report.reading import Run
from loadtest.report.series import by_kind, median

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def page(runs: Sequence[Run]) -> str:
    """
    The report of these runs, the second beside the first.

    Raises:
        ValueError: there is none.
    """
    if not runs:
        raise ValueError("a report is of one run at least")
    title = " · ".join(_title(run) for run in runs)
    with styled():
        body = [
            _masthead(runs),
            f'<div class="beside n{len(runs)}">{_each(_verdict, runs)}</div>',
            _figures(runs) if len(runs) > 1 else _tiles(runs[0]),
            _timelines(runs),
            _charts(runs),
            f'<div class="beside n{len(runs)}">{_each(_faults, runs)}</div>',
            f'<div class="beside n{len(runs)}">{_each(_promises, runs)}</div>',
            f'<footer class="beside n{len(runs)}">{_each(_origin, runs)}</footer>',
        ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _(text: object) -> str:
    return escape(str(text))


def _each(part: Any, runs: Sequence[Run]) -> str:
    many = len(runs) > 1
    return "".join(
        f"<section>{f'<h4>{_(run.name)}</h4>' if many else ''}{part(run)}</section>"
        for run in runs
    )


def _title(run: Run) -> str:
    return str(run.summary.get("scenario") or run.name)


# -- the verdict ----------------------------------------------------------------------


def _masthead(runs: Sequence[Run]) -> str:
    names = " and ".join(dict.fromkeys(_title(run) for run in runs))
    return (
        f'<header><p class="kicker">Waybill load test</p><h1>{_(names)}</h1></header>'
    )


def _verdict(run: Run) -> str:
    all_of = promises(run.verdict)
    tried = [p for p in all_of if p.tried]
    broken = [p for p in tried if p.broken]
    if not tried:
        state, said = "none", "No verdict: the checker has not looked at this run"
    elif broken:
        state = "bad"
        said = f"{len(broken)} of {len(tried)} promises broken"
    elif run.summary.get("good") is False:
        state, said = "bad", f"All {len(tried)} promises kept, and the run was not good"
    else:
        state, said = "good", f"All {len(tried)} promises kept"
    rows = sum(line.checked for line in run.verdict)
    looks = max((line.during for line in run.verdict), default=0)
    parts = [f"{rows:,} rows checked"] if rows else []
    parts += [f"{looks:,} looks while faults ran"] if looks else []
    parts += [f"{len(run.faults):,} faults"] if run.faults else []
    parts += [f"{_span(run.seconds)}"]
    mark = {"good": "✓", "bad": "✕", "none": "–"}[state]
    return (
        f'<div class="verdict {state}"><span class="mark">{mark}</span>'
        f"<div><h2>{_(said)}</h2><p>{_(' · '.join(parts))}</p></div></div>"
        + "".join(_broken(p) for p in broken)
    )


def _broken(promise: Promise) -> str:
    rows = "".join(
        f"<li>{_(line.says)}: <b>{line.violations:,}</b>"
        f"<code>{_('; '.join(line.examples))}</code></li>"
        for line in promise.lines
        if line.violations
    )
    return (
        f'<div class="broken"><h3>{_(promise.number)} {_(promise.name)}</h3>'
        f"<ul>{rows}</ul></div>"
    )


def _tiles(run: Run) -> str:
    items: Mapping[str, Any] = run.summary.get("items") or {}
    shown = {**items, **_plain(run.summary.get("results") or {})}
    tiles = "".join(
        f"<div><dd>{_(_value(value))}</dd><dt>{_(name.replace('_', ' '))}</dt></div>"
        for name, value in shown.items()
        if name not in ("faults", "good")
    )
    return f'<dl class="tiles">{tiles}</dl>' if tiles else ""


def _plain(results: Mapping[str, Any]) -> dict[str, Any]:
    """The figures; what is a table in itself stands elsewhere on the page."""
    return {k: v for k, v in results.items() if not isinstance(v, dict | list)}


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


# -- side by side ---------------------------------------------------------------------


def _figures(runs: Sequence[Run]) -> str:
    """Every figure that a run has, of all of them; the change of two."""
    facts = [_facts(run) for run in runs]
    names = dict.fromkeys(name for one in facts for name in one)
    head = "".join(f"<th>{_(run.name)}</th>" for run in runs)
    change = len(runs) == 2
    rows = []
    for name in names:
        values = [one.get(name) for one in facts]
        cells = "".join(f"<td>{_(_value(v))}</td>" for v in values)
        last = f'<td class="change">{_(_change(*values))}</td>' if change else ""
        same = ' class="same"' if len({repr(v) for v in values}) == 1 else ""
        rows.append(f"<tr{same}><th>{_(name)}</th>{cells}{last}</tr>")
    return (
        "<h3>Figures</h3>"
        f'<div class="scroll"><table class="figures"><thead><tr><th></th>{head}'
        f"{'<th>change</th>' if change else ''}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _facts(run: Run) -> dict[str, Any]:
    items = run.summary.get("items") or {}
    results = _plain(run.summary.get("results") or {})
    back = [f.recovered_s for f in run.faults if f.recovered_s is not None]
    facts = {
        **{name.replace("_", " "): v for name, v in {**items, **results}.items()},
        "seconds": round(run.seconds, 1),
        "violations of promises": sum(line.violations for line in run.verdict),
        "faults": len(run.faults),
        "recovery, median s": round(median(back), 2) if back else None,
        "recovery, at most s": round(max(back), 2) if back else None,
        "machine's fixed loop, ms": (run.summary.get("machine") or {}).get("python_ms"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _change(before: Any, after: Any) -> str:
    numbers = [
        v for v in (before, after) if isinstance(v, int | float) and v is not True
    ]
    if len(numbers) < 2 or isinstance(before, bool) or before == after:
        return ""
    return f"× {after / before:.2f}" if before else f"{after - before:+,.4g}"


# -- charts ---------------------------------------------------------------------------


def _timelines(runs: Sequence[Run]) -> str:
    many = len(runs) > 1
    known = [rates for run in runs if (rates := finished(run)) is not None]
    most = max((float(rates.max()) for rates in known), default=0.0)
    seconds = max(run.seconds for run in runs)
    parts = []
    for run in runs:
        wide = timeline(run, Scale(seconds, most, HALF if many else WIDE))
        small = timeline(run, Scale(seconds, most, NARROW))
        if wide is None or small is None:
            continue
        said = run.name if many else "of all stages; shaded while something was done"
        parts.append(
            '<figure class="time"><figcaption><h3>Stages finished a second</h3>'
            f"<small>{_(said)}</small></figcaption>"
            f'<div class="wide">{wide.svg}</div><div class="small">{small.svg}</div>'
            "</figure>"
        )
    whole = "".join(parts)
    return f'<div class="charts n{min(len(runs), 2)}">{whole}</div>' if many else whole


def _charts(runs: Sequence[Run]) -> str:
    rows = drawn(runs)
    if len(runs) == 1:
        cards = "".join(_card(kind, charts[0]) for kind, charts in rows)
        return f'<div class="charts">{cards}</div>' if cards else ""
    return "".join(
        f'<div class="charts n{min(len(runs), 3)}">'
        + "".join(
            _card(kind, chart, run.name)
            for run, chart in zip(runs, charts, strict=True)
        )
        + "</div>"
        for kind, charts in rows
    )


def _card(kind: Kind, chart: Chart | None, run: str = "") -> str:
    of = f'<b class="of">{_(run)}</b>' if run else ""
    head = f"<h3>{_(kind.title)}</h3>{of}<small>{_(kind.unit)}</small>"
    if chart is None:
        return f"<figure><figcaption>{head}<i>not sampled</i></figcaption></figure>"
    return (
        f"<figure><figcaption>{head}<i>{_(chart.note)}</i></figcaption>"
        f"{chart.svg}{_legend(chart.legend)}</figure>"
    )


def _legend(keys: Iterable[Key]) -> str:
    chips = "".join(
        f'<span><i class="{"dash" if key.dashed else f"k{key.colour}"}"></i>'
        f"{_(key.label)}</span>"
        for key in keys
    )
    return f'<div class="legend">{chips}</div>' if chips else ""


# -- faults, promises, origin ---------------------------------------------------------


def _faults(run: Run) -> str:
    rows = []
    for kind, them in by_kind(run.faults).items():
        back = [f.recovered_s for f in them if f.recovered_s is not None]
        lasted = sum(f.until - f.t for f in them)
        rows.append(
            f"<tr><th>{_(kind)}</th><td>{len(them):,}</td>"
            f"<td>{_(_span(lasted)) if lasted >= 0.5 else 'a moment'}</td>"
            f"<td>{f'{median(back):.1f} s' if back else '–'}</td>"
            f"<td>{f'{max(back):.1f} s' if back else '–'}</td></tr>"
        )
    if not rows:
        return ""
    return (
        '<h3>Faults</h3><div class="scroll"><table class="faults"><thead><tr><th></th>'
        "<th>times</th><th>lasted</th><th>recovery, median</th><th>at most</th></tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _promises(run: Run) -> str:
    rows = []
    for promise in promises(run.verdict):
        state = "bad" if promise.broken else "good" if promise.tried else "none"
        mark = {"good": "✓", "bad": "✕", "none": "–"}[state]
        rows.append(
            f'<tr class="promise {state}"><td class="mark">{mark}</td>'
            f"<th>{_(promise.number)}</th><th>{_(promise.name)}</th>"
            "<td></td><td></td></tr>"
        )
        rows += [
            f'<tr class="{"untried" if not line.checked else ""}"><td></td><td></td>'
            f"<td>{_(_sentence(line.says))}</td>"
            f'<td class="number">{line.checked:,}</td>'
            f'<td class="number{" bad" if line.violations else ""}">'
            f"{line.violations:,}</td></tr>"
            for line in promise.lines
        ]
    if not rows:
        return ""
    return (
        '<h3>Promises</h3><table class="promises"><thead><tr><th></th><th></th>'
        '<th></th><th class="number">rows</th><th class="number">broken</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _origin(run: Run) -> str:
    summary, machine = run.summary, run.summary.get("machine") or {}
    facts = {
        "run": run.name,
        "pipeline": summary.get("pipeline"),
        "command": summary.get("command"),
        "version": summary.get("version"),
        "seed": summary.get("seed"),
        "speed": summary.get("speed"),
        "began": _when(summary.get("started_at")),
        "machine": ", ".join(
            f"{_value(v)} {k.replace('_', ' ')}" for k, v in machine.items()
        ),
    }
    rows = "".join(
        f"<dt>{_(k)}</dt><dd>{_(v)}</dd>"
        for k, v in facts.items()
        if v not in (None, "")
    )
    return f"<dl>{rows}</dl>"


def _when(at: Any) -> Any:
    if isinstance(at, int | float):
        return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return at
