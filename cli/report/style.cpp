#include "cli/report/style.h"

namespace moat::cli::report {

// Series colours: Okabe & Ito 2008 without yellow and black, lightened for the dark page.
const char* const kStyle = R"css(
:root {
  color-scheme: light dark;
  --page: #fcfcfa; --raised: #ffffff; --ink: #1d2126; --muted: #666d76; --rule: #e3e3de;
  --grid: #ecece7; --link: #00598f; --good: #00704f; --bad: #b23c00; --heat: #0072b2;
  --series-0: #0072b2; --series-1: #d55e00; --series-2: #009e73; --series-3: #b8578f;
  --series-4: #56b4e9; --series-5: #e69f00; --series-6: #666d76; --on-heat: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15181c; --raised: #1b1f24; --ink: #e4e6e8; --muted: #98a1ab; --rule: #30363d;
    --grid: #262b31; --link: #6cb6e8; --good: #4cc79f; --bad: #ff9a5c; --heat: #4ba3dc;
    --series-0: #4ba3dc; --series-1: #f08b45; --series-2: #3dc79b; --series-3: #dd8fbb;
    --series-4: #9ad4f5; --series-5: #f0b93f; --series-6: #98a1ab; --on-heat: #0d1013;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 48px 28px 96px; max-width: 1336px;
  background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "Noto Sans", Arial, sans-serif;
}
h1, h2, h3, h4 { line-height: 1.25; font-weight: 650; margin: 0; text-wrap: balance; }
h1 { font-size: 30px; letter-spacing: -0.015em; }
h2 { font-size: 22px; margin-bottom: 14px; letter-spacing: -0.01em; }
h3 { font-size: 16px; margin: 40px 0 12px; }
h4 { font-size: 13px; color: var(--muted); font-weight: 600; margin: 20px 0 10px; }
p { margin: 0 0 10px; max-width: 76ch; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: 2px; }
.lede { color: var(--muted); margin-top: -8px; }
h1 + .lede { margin-top: 6px; }
.note, .missing { color: var(--muted); font-size: 13px; }
.missing { border-left: 3px solid var(--rule); padding: 2px 0 2px 12px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 18px 0 0; font-size: 14px; }
section { margin-top: 48px; }
section.run { margin-top: 72px; padding-top: 28px; border-top: 1px solid var(--rule); }
.scroll { overflow-x: auto; margin: 0 0 14px; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 0 7px 18px; text-align: left; white-space: nowrap; vertical-align: baseline; }
th:first-child, td:first-child { padding-left: 0; }
th { font-size: 12px; font-weight: 600; color: var(--muted); border-bottom: 1px solid var(--ink); }
td { border-bottom: 1px solid var(--rule); }
td:first-child { font-weight: 600; }
.num { text-align: right; }
.wrap td:not(.num) { white-space: normal; }
.wrap td:last-child { min-width: 32ch; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 30px 44px; align-items: start; margin: 6px 0 8px; }
.note + .charts { margin-top: 28px; }
.chart { display: block; width: 100%; height: auto; overflow: visible; font-size: 11px; }
.chart text { fill: var(--ink); font-variant-numeric: tabular-nums; }
.chart .title { font-size: 12.5px; font-weight: 650; }
.chart .tick { fill: var(--muted); }
.chart .legend, .chart .label { fill: var(--ink); }
.chart .grid { stroke: var(--grid); stroke-width: 1; }
.chart .axis { stroke: var(--muted); stroke-width: 1; }
.chart .curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.chart .dashed { stroke-dasharray: 5 4; }
.chart .reach { fill: transparent; }
.chart .dot.hidden { opacity: 0; }
.chart .mark:hover .dot { opacity: 1; stroke: currentColor; stroke-width: 1.2; }
.chart .whisker { fill: none; stroke: var(--ink); stroke-width: 1; opacity: 0.8; }
.chart .cell { fill: var(--heat); }
.chart .on-cell { fill: var(--on-heat); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(196px, 1fr)); gap: 18px 20px; }
figure { margin: 0; }
.triple { display: grid; grid-template-columns: repeat(3, 1fr); gap: 3px; }
.triple img, .sheet { image-rendering: pixelated; }
.triple img { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 3px; background: var(--raised); outline: 1px solid var(--rule); outline-offset: -1px; }
.sheet { max-width: 100%; }
figcaption { display: flex; flex-wrap: wrap; gap: 0 10px; margin-top: 5px; font-size: 12.5px; line-height: 1.45; font-variant-numeric: tabular-nums; }
.fooled { color: var(--bad); }
.held { color: var(--good); }
.route { color: var(--muted); }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); column-gap: 40px; margin: 0 0 10px; font-size: 13px; }
.facts div { display: flex; justify-content: space-between; gap: 18px; padding: 4px 0; border-bottom: 1px solid var(--rule); }
.facts dt { color: var(--muted); white-space: nowrap; }
.facts dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
details { margin: 10px 0; }
summary { cursor: pointer; font-size: 14px; font-weight: 600; padding: 6px 0; }
details > .facts { margin-top: 6px; }
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; }
  section.run { break-before: page; }
  nav { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding-left: 8px; white-space: normal; }
  figure, .chart { break-inside: avoid; }
}
)css";

}  // namespace moat::cli::report
