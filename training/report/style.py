"""The page's look: type, spacing, and the colours of both themes.

Text colours have a contrast of at least 4.5 to their ground in either theme.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --ink: #1b2126; --muted: #59636c; --line: #dcdfe1;
  --greedy: #6b747c; --pass: #0072b2; --majority: #a86500; --verify: #007a59;
  --wrong: #c24e12; --good: #007a59; --bad: #b8430c; --shade: #f0f1ee;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
    "Liberation Sans", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181b; --card: #1c2125; --ink: #e7eaec; --muted: #a2acb4; --line: #363d43;
    --greedy: #a5afb7; --pass: #5cb3ea; --majority: #e8a93c; --verify: #3ec79b;
    --wrong: #ff8f5e; --good: #3ec79b; --bad: #ff8f5e; --shade: #252b30;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 var(--sans); font-variant-numeric: tabular-nums;
}
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 72px; }
h1, h2, h3 { line-height: 1.2; text-wrap: balance; }
h1 { font-size: 2.1rem; letter-spacing: -.02em; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; letter-spacing: -.01em; margin: 3.2rem 0 .4rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
p { max-width: 70ch; margin: 0 0 1rem; }
.lead, .note, figcaption, caption, dt { color: var(--muted); }
.note { font-size: .9rem; }
nav { margin: 1.2rem 0 0; font-size: .9rem; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; }
a { color: var(--pass); text-underline-offset: .2em; }
.grid {
  display: grid; gap: 20px; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr));
}
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; min-width: 0;
}
.grid > .card:only-child { max-width: 680px; }
figure { margin: 0; }
figcaption { font-size: .9rem; margin-top: .6rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: var(--sans) !important; }
.big { font-size: 2.6rem; font-weight: 650; letter-spacing: -.03em; line-height: 1.1; }
.big small { font-size: .95rem; font-weight: 400; letter-spacing: 0; color: var(--muted); }
.ranges { margin: 1rem 0 .4rem; display: grid; gap: .4rem .8rem; align-items: center;
  grid-template-columns: max-content 1fr max-content; font-size: .9rem; }
.track { position: relative; height: 14px; border-radius: 7px; background: var(--shade); }
.track i { position: absolute; top: 3px; bottom: 3px; border-radius: 4px; opacity: .38; }
.track b { position: absolute; top: 0; bottom: 0; width: 4px; margin-left: -2px;
  border-radius: 2px; }
.finding { margin: .7rem 0 0; padding-left: .8rem; border-left: 3px solid var(--line);
  font-size: .95rem; }
.finding.good { border-color: var(--good); }
.finding.bad { border-color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
th, td { text-align: right; padding: .5rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { font-weight: 600; color: var(--muted); white-space: nowrap; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
tbody th { font-weight: 500; min-width: 7rem; overflow-wrap: anywhere; }
tbody tr:last-child > * { border-bottom: 0; }
td small { display: block; color: var(--muted); white-space: nowrap; }
td.text { text-align: left; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .35rem 1.2rem;
  margin: 0; font-size: .95rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.bars { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr max-content;
  gap: .45rem .8rem; align-items: center; font-size: .92rem; }
.card > * + h3, .card > dl + *, .bars + dl { margin-top: 1.2rem; }
.bar { display: flex; height: 16px; border-radius: 4px; overflow: hidden;
  background: var(--shade); }
.bar i { display: block; height: 100%; }
.bar i + i { border-left: 1px solid var(--card); }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .9rem;
  margin: 0 0 .9rem; color: var(--muted); }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 3px;
  margin-right: .4em; }
.right { color: var(--pass); font-weight: 600; }
.wrong, .failed { color: var(--wrong); font-weight: 600; }
details { margin: .8rem 0; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; overflow-wrap: anywhere; }
.case { margin: 0 0 20px; }
.kind { font-size: .78rem; font-weight: 650; letter-spacing: .05em; text-transform: uppercase;
  color: var(--muted); margin: 0 0 .5rem; }
.kind.good { color: var(--good); }
.kind.bad { color: var(--bad); }
blockquote { margin: 0 0 1rem; font-size: 1.05rem; max-width: 70ch; white-space: pre-line;
  overflow-wrap: anywhere; unicode-bidi: isolate; }
.pair { display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); }
.pair > * { min-width: 0; }
pre { margin: .3rem 0 0; padding: 12px 14px; background: var(--shade); border-radius: 8px;
  overflow-x: auto; font: .85rem/1.5 var(--mono); tab-size: 4; unicode-bidi: isolate; }
.votes { margin-top: 1rem; max-width: 34rem; }
@media (max-width: 560px) {
  main { padding: 24px 14px 48px; }
  h1 { font-size: 1.6rem; }
  h2 { margin-top: 2.4rem; }
  .card { padding: 14px; }
  dl:not(.short) { grid-template-columns: 1fr; gap: 0; }
  dl:not(.short) dd { margin-bottom: .6rem; }
  .bars { grid-template-columns: minmax(5rem, max-content) 1fr max-content; gap: .4rem .5rem; }
}
@media print { .card { break-inside: avoid; } }
"""
