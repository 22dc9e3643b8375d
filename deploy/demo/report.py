"""The page that the demonstration leaves: self-contained, pictures inside."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

from PIL import Image

from deploy.demo.figures import AFTER_RATE, RETAINED_LOSS

_STYLE = """
:root{--ink:#1f2430;--soft:#667085;--line:#e4e7ec;--good:#117a3d;--bad:#b42318}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);margin:0;background:#fff}
main{max-width:1080px;margin:0 auto;padding:32px 24px}
h1{font-size:28px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 10px}
p.lead{color:var(--soft);margin:0 0 20px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px}
.card{border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.card b{display:block;font-size:24px;line-height:1.2}.card span{color:var(--soft)}
.good{color:var(--good)}.bad{color:var(--bad)}
figure{margin:0}img{max-width:100%;height:auto;border:1px solid var(--line);
border-radius:8px}figcaption{color:var(--soft);margin-top:6px}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:6px 10px;
border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600}td.n{text-align:right;
font-variant-numeric:tabular-nums}
code{font-size:13px}
@media print{main{padding:0}h2{break-after:avoid}figure,.card{break-inside:avoid}}
"""


def report(
    *,
    figures: Mapping[str, float],
    sheets: Sequence[tuple[str, str, Image.Image]],
    measurements: Sequence[Sequence[str]],
    facts: Sequence[tuple[str, str]],
) -> str:
    """The page as HTML.

    Args:
        figures: of the summary.
        sheets: title, caption and picture of each contact sheet.
        measurements: rows of the worker's proof.
        facts: digests and names, as label and text.
    """
    f = figures
    cards = [
        _card(
            f"{f['before_rate']:.0%} → {f['after_rate']:.0%}",
            f"banned concepts recognised, n = {f['before_rate_n']:.0f} each",
            good=f["after_rate"] <= AFTER_RATE,
        ),
        _card(
            f"{f['retained_before']:.0%} → {f['retained_after']:.0%}",
            f"retained concepts recognised, n = {f['retained_before_n']:.0f} each",
            good=f["retained_before"] - f["retained_after"] <= RETAINED_LOSS,
        ),
        _card(f"{f['seconds_to_mitigation']:.2f} s", "file closed → prompt refused"),
        _card(f"{f['seconds_unlearning']:.0f} s", "unlearning and proof"),
        _card(
            f"{f['requests_failed']:.0f} failed, {f['requests_torn']:.0f} torn",
            f"of {f['requests_served']:.0f} requests served",
            good=f["requests_failed"] + f["requests_torn"] == 0,
        ),
        _card(
            "bit for bit" if f["restored_bit_exact"] else "NOT restored",
            "weights after the policy was deleted",
            good=bool(f["restored_bit_exact"]),
        ),
    ]
    figures_html = "".join(
        f"<h2>{html.escape(title)}</h2><figure><img alt='{html.escape(title)}' "
        f"src='data:image/png;base64,{_png(image)}'>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for title, caption, image in sheets
    )
    proof = _table(
        ("metric", "concept", "model", "value", "95 % interval", "n"), measurements
    )
    digests = _table(("what", "which"), facts)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>Myosotis: the loop on Petal</title><style>{_STYLE}</style><main>"
        "<h1>A policy edit makes a live server forget</h1>"
        "<p class=lead>Five concepts were banned by copying one file, forgotten, "
        "proven, swapped into the running server, and given back by deleting "
        "the file.</p>"
        f"<div class=cards>{''.join(cards)}</div>{figures_html}"
        "<h2>The proof, as the worker measured it before anything was published</h2>"
        f"{proof}<h2>What it can be traced to</h2>{digests}</main></html>"
    )


def _card(value: str, label: str, *, good: bool | None = None) -> str:
    mark = "" if good is None else " class=good" if good else " class=bad"
    return (
        f"<div class=card><b{mark}>{html.escape(value)}</b>"
        f"<span>{html.escape(label)}</span></div>"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
