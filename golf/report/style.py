"""The page's style sheet: light and dark, wide and narrow.

Colours: the series and byte classes use the palette of Okabe and Ito (2008), which stays distinguishable with the
common colour vision deficiencies; no meaning rests on colour alone.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f5; --card: #ffffff; --ink: #1b211d; --soft: #5c665f; --faint: #8d968f; --line: #e0e4df;
  --accent: #12694a; --wash: #eef3ef; --warn: #a33b00;
  --blue: #0072b2; --orange: #d55e00; --green: #00875f; --pink: #b0568a; --sky: #3d9cd2; --amber: #c98a00;
  --mix: 34%;
  --sans: Inter, ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial,
    sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121513; --card: #191d1b; --ink: #e6eae7; --soft: #a3ada6; --faint: #737d76; --line: #2b312d;
    --accent: #63c79b; --wash: #202622; --warn: #ff9d66;
    --blue: #56b4e9; --orange: #f0894a; --green: #3cc49a; --pink: #d98cb8; --sky: #8fd0f5; --amber: #e9b949;
    --mix: 42%;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; scroll-padding-top: 4rem; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 400 16px/1.55 var(--sans);
  font-variant-numeric: tabular-nums; -webkit-font-smoothing: antialiased; }
main, .bar-inner { max-width: 70rem; margin: 0 auto; padding: 0 1.5rem; }
h1, h2, h3, p, dl, dd, figure, ul { margin: 0; padding: 0; }
a { color: inherit; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
nav { position: sticky; top: 0; z-index: 5; background: color-mix(in srgb, var(--page) 88%, transparent);
  backdrop-filter: blur(8px); border-bottom: 1px solid var(--line); }
.bar-inner { display: flex; gap: 1.4rem; overflow-x: auto; scrollbar-width: none; }
nav a { padding: .7rem 0; color: var(--soft); text-decoration: none; font-size: .875rem; white-space: nowrap; }
nav a:hover { color: var(--ink); } nav a:first-child { color: var(--accent); font-weight: 650; }

header { padding: 3rem 0 0; }
.kind { color: var(--accent); font-size: .8125rem; font-weight: 600; letter-spacing: .02em; }
h1 { font-size: clamp(1.75rem, 4.5vw, 2.5rem); line-height: 1.15; letter-spacing: -.022em; font-weight: 680;
  overflow-wrap: anywhere; margin: .3rem 0 .35rem; }
.where { color: var(--soft); font-size: .9375rem; overflow-wrap: anywhere; }
.hero { display: flex; flex-wrap: wrap; gap: 1.5rem 3.5rem; align-items: flex-end; margin: 2.2rem 0 1.8rem; }
.score { display: flex; align-items: flex-end; gap: .9rem; }
.score strong { font-size: clamp(3.4rem, 9vw, 5rem); line-height: .82; letter-spacing: -.045em; font-weight: 640;
  font-variant-numeric: proportional-nums; margin-left: -.04em; }
.score.none strong { color: var(--faint); font-weight: 300; }
.score span { font-size: .9375rem; line-height: 1.3; min-width: 0; max-width: 18rem; overflow-wrap: anywhere; }
.score em { color: var(--soft); font-style: normal; }
.facts { display: grid; flex: 1 1 min(26rem, 100%); gap: .9rem 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(7.6rem, 1fr)); }
.facts .wide { grid-column: 1 / -1; }
dt { color: var(--soft); font-size: .8125rem; } dd { font-weight: 560; overflow-wrap: anywhere; line-height: 1.35; }
.size { display: flex; flex-wrap: wrap; gap: 0 .5rem; align-items: baseline; color: var(--soft); }
.size b { color: var(--ink); font-weight: 620; } .size span { margin-left: auto; }
.size.over span { color: var(--warn); font-weight: 620; }
.byte-bar { position: relative; display: flex; height: .8rem; margin: .5rem 0 0; border-radius: .4rem; overflow: hidden;
  background: color-mix(in srgb, var(--ink) 9%, var(--page)); }
.byte-bar span { background: var(--fill); box-shadow: inset -1px 0 0 var(--page); }
.byte-bar i { position: absolute; top: 0; bottom: 0; width: 3px; background: var(--warn); }
.command { position: relative; margin: 1.6rem 0 0; padding: .8rem 1rem .9rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .7rem; }
.command > span { color: var(--soft); font-size: .8125rem; }
.command pre { margin: .25rem 0 0; font: 400 .875rem/1.6 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere; }
.copy { position: absolute; right: .7rem; top: .6rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--page); color: var(--soft); font: 500 .75rem/1 var(--sans); padding: .4rem .6rem; cursor: pointer; }
.copy:hover { color: var(--ink); }
.notes { margin: 1rem 0 0; padding: .7rem 1rem .7rem 2rem; border-radius: .7rem; font-size: .875rem; color: var(--warn);
  background: color-mix(in srgb, var(--warn) 9%, var(--card)); overflow-wrap: anywhere; }

section { padding: 3.4rem 0 0; }
h2 { font-size: 1.375rem; letter-spacing: -.014em; font-weight: 650; line-height: 1.25; margin: 0 0 1rem; }
.about { color: var(--soft); font-size: .9375rem; margin: -.7rem 0 1rem; max-width: 52rem; }
h3 { font-size: 1rem; font-weight: 620; } h3 small { color: var(--soft); font-weight: 400; font-size: .875rem; }
h3.export { margin: 1.6rem 0 .7rem; font-weight: 450; }
.note, .empty { color: var(--soft); font-size: .875rem; } .note { margin-top: .6rem; }
.empty { padding: 1.1rem 1.2rem; border: 1px dashed var(--line); border-radius: .7rem; }
.aside { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

.chart, .ladder-chart { background: var(--card); border: 1px solid var(--line); border-radius: .8rem;
  padding: 1.1rem 1.2rem 1rem; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; }
.picture { overflow-x: auto; } .picture svg { display: block; min-width: 42rem; width: 100%; height: auto; }
.chart + .pair, .note + .picture, .picture + .note, .note + details, .empty + .pair, .size + .empty {
  margin-top: 1rem; }
.pair > .chart:only-child { grid-column: 1 / -1; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .2rem 1.2rem; align-items: baseline; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; }
.legend, .readout { font-size: .8125rem; color: var(--soft); }
.readout { display: flex; flex-wrap: wrap; gap: 0 1.1rem; min-height: 1.55em; margin: .15rem 0 .7rem; }
.readout b { color: var(--ink); font-weight: 600; }
.key::before { content: ""; display: inline-block; width: .9em; height: 0; border-top: 2.5px solid var(--stroke);
  border-radius: 2px; vertical-align: .27em; margin-right: .45em; }
.key.dots::before { width: .6em; height: .6em; border: 0; background: var(--stroke); border-radius: 50%;
  vertical-align: -.02em; }
.key.guide::before { border-top: 1.5px dashed var(--soft); }
.frame { display: grid; grid-template-columns: 3.1rem minmax(0, 1fr); grid-template-rows: auto 1.5rem auto; }
.plot { position: relative; height: 13.5rem; touch-action: pan-y; cursor: crosshair;
  border-bottom: 1px solid var(--faint); }
.pair .plot { height: 10.5rem; }
.plot svg, .track svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.y-axis, .x-axis { position: relative; font-size: .75rem; color: var(--soft); }
.y-axis span { position: absolute; right: .6rem; transform: translateY(-50%); white-space: nowrap; line-height: 1; }
.x-axis { grid-column: 2; }
.x-axis span { position: absolute; top: .45rem; transform: translateX(-50%); white-space: nowrap; line-height: 1; }
.x-title { grid-column: 2; text-align: right; font-size: .75rem; color: var(--soft); line-height: 1.2;
  padding-top: .35rem; }
path { fill: none; vector-effect: non-scaling-stroke; }
.grid { stroke: var(--line); stroke-width: 1; }
.guide { stroke: var(--soft); stroke-width: 1.25; stroke-dasharray: 5 4; }
.line { stroke: var(--stroke); stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
path.dots { stroke: var(--stroke); stroke-width: 6.5; stroke-linecap: round; }
.band { fill: var(--stroke); opacity: .2; stroke: none; }
.train, .speed { --stroke: var(--blue); } .validation, .time { --stroke: var(--orange); }
.rate { --stroke: var(--green); }
.rung { --stroke: var(--accent); }
.cross { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--faint); pointer-events: none; }
.here { position: absolute; width: 11px; height: 11px; margin: -5.5px 0 0 -5.5px; border-radius: 50%;
  pointer-events: none; background: var(--stroke); border: 2px solid var(--card); }

.ladder-chart { display: grid; grid-template-columns: auto minmax(0, 1fr) auto; grid-template-rows: auto 1.5rem auto;
  column-gap: 1.1rem; margin-bottom: 1rem; }
.rungs, .numbers { display: grid; grid-auto-rows: 1fr; align-items: center; font-size: .9375rem; }
.track { position: relative; border-bottom: 1px solid var(--faint); }
.track .line { stroke-width: 1.5; opacity: .45; } .track .dots { stroke-width: 11; }
.numbers b { font-weight: 620; } .numbers small { display: inline-block; min-width: 4.6em; text-align: right;
  color: var(--soft); font-size: .8125rem; }
.ladder-chart .x-title { grid-column: 1 / 3; }

.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .8rem; }
.scroll + .scroll, .treemap + .scroll, details + details, .scroll + details, .pair + .scroll, .pair + .pair,
.picture + .scroll, .picture + .picture { margin-top: 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .9063rem; }
th, td { padding: .5rem .9rem; text-align: left; font-weight: 400; vertical-align: baseline;
  overflow-wrap: break-word; }
tbody tr + tr > * { border-top: 1px solid var(--line); } tbody th { font-weight: 560; }
tbody tr:hover { background: var(--wash); }
.n { text-align: right; white-space: nowrap; }
thead th { border-bottom: 1px solid var(--line); white-space: nowrap; padding: .35rem .9rem; }
thead button { all: unset; position: relative; cursor: pointer; color: var(--soft); font-size: .8125rem;
  padding: .2rem 0; }
thead button:hover { color: var(--ink); } thead button:focus-visible { outline: 2px solid var(--accent); }
thead button::after { content: "↕"; opacity: 0; position: absolute; left: calc(100% + .2em); font-size: .9em; }
thead button:hover::after { opacity: .5; }
th[aria-sort=ascending] button, th[aria-sort=descending] button { color: var(--ink); font-weight: 600; }
th[aria-sort=ascending] button::after { content: "↑"; opacity: 1; }
th[aria-sort=descending] button::after { content: "↓"; opacity: 1; }
.bar { display: block; min-width: 8rem; height: .55rem; border-radius: .3rem; background: var(--wash); }
.bar span { display: block; height: 100%; border-radius: .3rem; background: var(--accent); min-width: 2px; }
#stage-times td:last-child { width: 50%; vertical-align: middle; }
.flag { font-weight: 600; white-space: nowrap; } .flag.yes { color: var(--accent); } .flag.no { color: var(--warn); }

.c1 { --fill: var(--blue); } .c2 { --fill: var(--orange); } .c3 { --fill: var(--green); } .c4 { --fill: var(--pink); }
.c5 { --fill: var(--sky); } .c6 { --fill: var(--amber); } .c7 { --fill: var(--soft); } .c8 { --fill: var(--faint); }
th:has(.swatch) { white-space: nowrap; }
.swatch { display: inline-block; width: .75em; height: .75em; border-radius: .2em; background: var(--fill);
  margin-right: .6em; }
.treemap { position: relative; width: 100%; border-radius: .8rem; overflow: hidden; }
.treemap.tall { display: none; }
.tile { position: absolute; border: 1.5px solid var(--page); border-radius: .45rem; overflow: hidden;
  container-type: size; background: color-mix(in srgb, var(--fill) var(--mix), var(--card)); }
.tile:hover { background: color-mix(in srgb, var(--fill) calc(var(--mix) + 14%), var(--card)); }
.tile > div { padding: .7rem .8rem; line-height: 1.3; font-size: .875rem; }
.tile b { display: block; font-weight: 620; font-size: 1rem; }
.tile small { display: block; font-size: .8125rem; opacity: .8; }
@container (max-height: 5.2rem) { .tile small { display: none; } .tile > div { padding: .35rem .6rem; } }
@container (max-width: 6.5rem) {
  .tile > div { padding: .35rem .45rem; font-size: .75rem; } .tile b { font-size: .8125rem; }
}
@container (max-height: 2.6rem) { .tile span { display: none; } .tile > div { padding: .15rem .5rem; } }
@container (max-width: 4.2rem) or (max-height: 1.3rem) { .tile > div { display: none; } }

details { background: var(--card); border: 1px solid var(--line); border-radius: .8rem; overflow: hidden; }
summary { padding: .75rem 1.1rem; cursor: pointer; font-size: .9375rem; color: var(--soft); }
summary:hover { color: var(--ink); }
details > .scroll { border: 0; border-top: 1px solid var(--line); border-radius: 0; max-height: 34rem; }
.code { margin: 0; padding: .9rem 1.2rem; border-top: 1px solid var(--line); font: 400 .8125rem/1.6 var(--mono);
  overflow: auto; max-height: 34rem; tab-size: 2; }
.repeat { font: 400 .75rem/1.5 var(--mono); display: block; min-width: 22rem; overflow-wrap: anywhere; }
.soft { color: var(--soft); } #rule-list td:nth-child(3) { min-width: 16rem; } section > .command { margin-top: .8rem; }
#run-list th[scope=row], [id^=entries] th[scope=row], #verdict-list th[scope=row] { min-width: 12rem; }
#run-list td, [id^=entries] td, #verdict-list td { white-space: nowrap; }
#verdict-list .flag { display: block; min-width: 13rem; white-space: normal; }
th small, #rule-list th { font-weight: 400; }
details > .command { margin: 0 1rem .8rem; } h3.export + .command { margin-top: 0; }
section > .scroll + .export, section > .command + .export, .note + .export { margin-top: 2rem; }
.filter { margin: 0 0 .8rem; color: var(--soft); font-size: .875rem; }
.filter input { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; padding: .35rem .7rem; width: min(22rem, 100%); margin: 0 .5rem; }
.code b { font-weight: 400; color: var(--accent); } .code i { color: var(--faint); }
footer { color: var(--faint); font-size: .8125rem; padding: 3rem 0 2.5rem; }

@media (max-width: 46rem) {
  main, .bar-inner { padding: 0 1rem; } header { padding-top: 1.8rem; } section { padding-top: 2.6rem; }
  .hero { margin-top: 1.6rem; }
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .pair { grid-template-columns: minmax(0, 1fr); } .size span { margin-left: 0; width: 100%; }
  .treemap.wide { display: none; } .treemap.tall { display: block; }
  .chart, .ladder-chart { padding: .9rem .9rem .8rem; } .frame { grid-template-columns: 2.7rem minmax(0, 1fr); }
  .plot { height: 12rem; } th, td { padding: .5rem .7rem; } .ladder-chart { column-gap: .7rem; }
  .numbers small { display: none; } #stage-times td:last-child { width: auto; }
  .x-axis span:nth-child(even):nth-last-child(n + 2) { display: none; }
}
@media print { nav, .copy { display: none; } body { background: none; } section, figure { break-inside: avoid; } }
"""
