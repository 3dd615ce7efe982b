"""Colours of the light and the dark theme, and the style sheet of a page: light, dark and paper."""

# Name of the variable -> colour on white and on black. The eight colours of lines are Okabe and
# Ito's, which colour-blind readers can tell apart; on black they are lighter.
SERIES = tuple(f"series{index}" for index in range(8))
COLOURS = {
    "ink": ("#1a1f26", "#e8ebef"),
    "muted": ("#59636f", "#a0aab5"),
    "line": ("#e1e5ea", "#2c323a"),
    "page": ("#f5f6f8", "#0f1216"),
    "card": ("#ffffff", "#181c22"),
    "accent": ("#0b62a8", "#6cb6f5"),
    "right": ("#17703a", "#6fcf8e"),
    "wrong": ("#b3261e", "#ff8f85"),
    "series0": ("#0072b2", "#4aa3e0"),
    "series1": ("#d55e00", "#f0843c"),
    "series2": ("#009e73", "#2fc79a"),
    "series3": ("#cc79a7", "#e09ac1"),
    "series4": ("#e69f00", "#f0b429"),
    "series5": ("#56b4e9", "#a5d8f7"),
    "series6": ("#8a8a8a", "#b0b0b0"),
    "series7": ("#8c6d00", "#cfb04a"),
}


def _variables(theme: int) -> str:
    return " ".join(f"--{name}: {colours[theme]};" for name, colours in COLOURS.items())


STYLE = f"""
:root {{
  color-scheme: light dark;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  {_variables(0)}
  --hit: 11 98 168; --miss: 213 94 0;
}}
@media screen and (prefers-color-scheme: dark) {{
  :root {{ {_variables(1)} --hit: 66 140 205; --miss: 222 110 30; }}
}}
"""
STYLE += """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 var(--sans); }
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
footer { padding-bottom: 2.5rem; color: var(--muted); font-size: .85rem; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 .75rem; font-size: 1.25rem; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--accent); }
code, pre { font-family: var(--mono); font-size: .86em; overflow-wrap: anywhere; }
nav { margin: 1rem 0 0; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; font-size: .92rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.25rem 1.4rem; margin: 1.25rem 0; }
.note { color: var(--muted); font-size: .9rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1px 2.2rem; align-items: stretch;
  margin: 1.4rem 0 1.25rem; }
.key { display: flex; flex-direction: column; justify-content: flex-end; }
.key b { font-size: 1.35rem; line-height: 1.25; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.key span { color: var(--muted); font-size: .85rem; }
.key.main { padding-right: 2.2rem; border-right: 1px solid var(--line); }
.key.main b { font-size: 3rem; line-height: 1.05; color: var(--accent); letter-spacing: -.02em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.5rem; margin: 0; }
dt { color: var(--muted); overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; align-items: flex-start;
  margin-top: 1rem; }
.beside > div { min-width: 0; max-width: 100%; }
.beside > div:last-child { flex: 1 1 22rem; }
.beside h3:first-child { margin-top: 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); font-size: .9rem; padding-bottom: .5rem; }
table.data { width: 100%; }
.data th, .data td { padding: .38rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline; }
.data thead th { color: var(--muted); font-weight: 600; font-size: .85rem; vertical-align: bottom; }
.data tbody th { font-weight: 600; min-width: 5.5rem; overflow-wrap: anywhere; }
.data .n { text-align: right; white-space: nowrap; }
.data thead th.n { white-space: normal; }
.data code { font-size: .85em; overflow-wrap: break-word; }
.bar { display: inline-block; width: 7rem; height: .55rem; margin-right: .6rem;
  background: var(--line); border-radius: 3px; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--accent); }
.bar, .matrix td { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr));
  gap: 1rem 1.5rem; }
.curves figure.wide { grid-column: 1 / -1; }
figure { margin: 0; }
figcaption { font-size: .9rem; }
.curves figcaption { font-weight: 600; margin-bottom: .25rem; }
.curves figure { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 20rem; height: auto; }
figure.wide svg { min-width: 40rem; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
.matrix { border-collapse: separate; border-spacing: 2px; }
.matrix th { font-weight: 500; color: var(--muted); padding: .1rem .45rem; font-size: .85rem; }
.matrix th.axis { font-size: .8rem; font-weight: 600; text-align: center; }
.matrix tbody th { text-align: right; white-space: nowrap; }
.matrix thead th.tall { writing-mode: vertical-rl; transform: rotate(180deg);
  text-align: left; white-space: nowrap; padding: .45rem .1rem; }
.matrix td { min-width: 2.3rem; height: 2.1rem; padding: 0 .3rem; text-align: center;
  border-radius: 3px; }
.matrix td { background: rgb(var(--miss) / calc(var(--p, 0) * .55)); }
.matrix td.d { background: rgb(var(--hit) / calc(var(--p, 0) * .55)); font-weight: 600; }
.matrix td.z { color: var(--muted); background: rgb(128 128 128 / .07); }
.matrix.dense { border-spacing: 1px; }
.matrix.dense td { min-width: .85rem; width: .85rem; height: .85rem; padding: 0; border-radius: 0; }
.matrix.dense th { font-size: .7rem; padding: 0 .25rem; line-height: 1; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); gap: 1rem;
  list-style: none; margin: 0; padding: 0; }
.samples li { border: 2px solid var(--right); border-radius: 8px; padding: .6rem; min-width: 0;
  font-size: .84rem; line-height: 1.35; overflow-wrap: anywhere; break-inside: avoid; }
.samples li.wrong { border: 2px dashed var(--wrong); }
.samples img { display: block; width: 96px; max-width: 100%; height: auto; aspect-ratio: 1;
  object-fit: contain; margin: 0 auto .5rem; image-rendering: pixelated; }
.samples strong { display: block; color: var(--right); }
.samples .wrong strong { color: var(--wrong); }
.samples.plain li { border: 1px solid var(--line); }
img.small { vertical-align: middle; image-rendering: pixelated; border-radius: 3px; }
.samples span { color: var(--muted); display: block; }
details { margin-top: .75rem; }
summary { cursor: pointer; color: var(--accent); width: fit-content; }
details > :not(summary) { margin-top: .75rem; }
pre { margin: 0; padding: 1rem; background: var(--page); border-radius: 6px;
  white-space: pre-wrap; }
@media (max-width: 40rem) {
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  section { padding: 1rem; } .key.main { border: 0; } .bar { display: none; }
}
@media print {
  :root { --page: #ffffff; font-size: 12px; }
  @page { margin: 14mm; }
  body { font-size: 1rem; }
  header { padding-top: 0; } main, header, footer { max-width: none; padding: 0; }
  nav { display: none; }
  section { border-width: 1px 0 0; border-radius: 0; padding: .9rem 0; margin: 0; }
  h2, caption { break-after: avoid; }
  figure, tr, .matrix, dl, .figures { break-inside: avoid; }
  .scroll, .curves figure { overflow: visible; }
  .matrix td { min-width: 1.6rem; }
  pre { padding: 0; border: 0; }
  .note, h3 { break-after: avoid; }
  .note, .scroll, .beside, .beside > div { break-inside: avoid; }
  .figures { gap: 1px 1.3rem; } .key.main { padding-right: 1.3rem; }
  .data th, .data td { padding: .25rem .45rem; }
}
"""
