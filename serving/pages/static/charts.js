// The drawings: each takes what the server says (figures, and words in the viewer's language) and gives ECharts an option.
// Nothing here knows a figure of its own. Tooltips are drawn on the canvas: no inline style, as the page's policy wants.
"use strict";

const root = document.documentElement;
const language = root.lang;
const rate = Number(root.dataset.rate);
const compact = new Intl.NumberFormat(language, { style: "currency", currency: root.dataset.currency, notation: "compact", maximumFractionDigits: 1 });
const exact = new Intl.NumberFormat(language, { style: "currency", currency: root.dataset.currency, maximumFractionDigits: 0 });
const share = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 });
const plain = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const day = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", timeZone: "UTC" });
const dated = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", year: "2-digit", timeZone: "UTC" });
const formats = { money: (x) => exact.format(x), share: (x) => share.format(x), number: (x) => plain.format(x) };
const shortFormats = { ...formats, money: (x) => compact.format(x) };

// Money comes in base currency, and is drawn in the viewer's.
const worth = (amount) => (amount === null ? null : amount / rate);
const worthOf = (points, ...names) => points.map((p) => ({ ...p, ...Object.fromEntries(names.map((name) => [name, worth(p[name])])) }));

function colours() {
  const probe = document.body.appendChild(document.createElement("i"));
  const read = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
  const found = Object.fromEntries(["text", "quiet", "line", "card", "accent", "good", "bad", "warn", "violet", "teal"].map((name) => [name, read(name)]));
  probe.remove();
  return { ...found, font: getComputedStyle(document.body).fontFamily };
}

const faded = (colour, alpha) => `rgba(${colour.match(/[\d.]+/g).slice(0, 3).join(", ")}, ${alpha})`;

function hatching(colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const pen = tile.getContext("2d");
  pen.strokeStyle = faded(colour, 0.55);
  pen.lineWidth = 1.2;
  for (const shift of [-8, 0, 8]) { pen.beginPath(); pen.moveTo(shift, 8); pen.lineTo(shift + 8, 0); pen.stroke(); }
  return { image: tile, repeat: "repeat" };
}

function base(c, format) {
  const axis = { axisLine: { lineStyle: { color: c.line } }, axisTick: { show: false }, axisLabel: { color: c.quiet, hideOverlap: true }, splitLine: { lineStyle: { color: c.line } } };
  return {
    animation: !matchMedia("(prefers-reduced-motion: reduce)").matches, animationDuration: 300,
    textStyle: { fontFamily: c.font, color: c.text },
    grid: { left: 8, right: 16, top: 40, bottom: 8, containLabel: true },
    legend: { type: "scroll", pageIconColor: c.accent, pageTextStyle: { color: c.quiet }, top: 0, left: 0, itemWidth: 18, itemHeight: 9, textStyle: { color: c.quiet }, inactiveColor: c.line },
    tooltip: { trigger: "axis", renderMode: "richText", confine: true, backgroundColor: c.card, borderColor: c.line, textStyle: { color: c.text, fontFamily: c.font }, axisPointer: { lineStyle: { color: c.quiet } } },
    xAxis: { ...axis, splitLine: { show: false } },
    yAxis: { ...axis, axisLine: { show: false }, axisLabel: { color: c.quiet, formatter: shortFormats[format] } },
  };
}

const drawings = {};

// The company's number through the quarter: range and median by what was said when, what was won, calls, quota.
drawings.quarter = (told, c) => {
  const d = { ...told, points: worthOf(told.points, "p10", "p50", "p90"), won: worthOf(told.won, "amount"), calls: worthOf(told.calls, "amount"), quota: worth(told.quota) };
  const option = base(c, "money");
  const words = d.words;
  const lines = [];
  for (const basis of ["published", "replayed"]) {
    const points = d.points.filter((p) => p.basis === basis || (basis === "published" && p.basis === "live"));
    if (!points.length) continue;
    const replayed = basis === "replayed";
    const area = replayed ? { color: hatching(c.accent), opacity: 1 } : { color: c.accent, opacity: 0.22 };
    const none = { lineStyle: { opacity: 0 }, symbol: "none", silent: true, type: "line", stack: basis, tooltip: { show: false } };
    lines.push({ ...none, name: `${basis} low`, data: points.map((p) => [p.day, p.p10]) });
    lines.push({ ...none, name: `${words.range} (${words[basis]})`, itemStyle: { color: replayed ? hatching(c.accent) : faded(c.accent, 0.35) }, areaStyle: area, data: points.map((p) => [p.day, p.p90 - p.p10]) });
    lines.push({ type: "line", name: `${words.median} (${words[basis]})`, data: points.map((p) => [p.day, p.p50]), symbol: replayed ? "emptyCircle" : "circle", symbolSize: 7, itemStyle: { color: c.accent }, lineStyle: { color: c.accent, width: 2.5, type: replayed ? "dashed" : "solid" } });
  }
  const last = d.points[d.points.length - 1];
  if (last) lines.push({ name: "now low", type: "line", silent: true, symbol: "none", z: 1, lineStyle: { color: last.basis === "replayed" ? hatching(c.accent) : faded(c.accent, 0.45), width: 10, cap: "round" }, data: [[last.day, last.p10], [last.day, last.p90]] });
  lines.push({ type: "line", step: "end", name: words.won, data: d.won.map((p) => [p.day, p.amount]), symbol: "none", itemStyle: { color: c.text }, lineStyle: { color: c.text, width: 1.8 } });
  if (d.calls.length) lines.push({ type: "line", step: "end", name: words.call, data: d.calls.map((p) => [p.day, p.amount]), symbol: "diamond", symbolSize: 9, itemStyle: { color: c.warn }, lineStyle: { color: c.warn, width: 1.8, type: [6, 3] } });
  if (d.quota !== null) lines[lines.length - 1].markLine = { silent: true, symbol: "none", data: [{ yAxis: d.quota }], lineStyle: { color: c.text, type: "dashed", width: 1.2 }, label: { formatter: `${words.quota} ${compact.format(d.quota)}`, position: "insideStartTop", color: c.quiet } };
  option.series = lines;
  option.legend.data = lines.map((line) => line.name).filter((name) => !name.endsWith(" low")).map((name) => name.startsWith(words.range) ? { name, icon: "roundRect" } : name);
  option.xAxis = { ...option.xAxis, type: "time", min: d.period_start, max: d.period_end, axisLabel: { color: c.quiet, hideOverlap: true, formatter: (at) => day.format(new Date(at)) } };
  option.yAxis.max = (range) => Math.max(range.max, d.quota || 0) * 1.05;
  option.yAxis.min = (range) => Math.min(0, range.min);
  option.yAxis.axisLabel.showMaxLabel = false;
  option.tooltip.formatter = (shown) => {
    const at = shown[0].axisValue;
    const point = d.points.find((p) => Date.parse(p.day) === at);
    const named = shown.filter((each) => !each.seriesName.endsWith(" low") && !each.seriesName.startsWith(words.range));
    const rows = named.map((each) => `${each.seriesName}: ${exact.format(each.value[1])}`);
    if (point) rows.push(`${words.range}: ${exact.format(point.p10)} – ${exact.format(point.p90)}`);
    return [day.format(new Date(at)), ...rows].join("\n");
  };
  return option;
};

// From one figure to another: what rose, what fell, and the two ends.
drawings.waterfall = (told, c) => {
  const d = { ...told, bars: worthOf(told.bars, "amount") };
  const option = base(c, "money");
  let level = 0;
  const rows = d.bars.map((bar) => {
    const from = bar.kind === "end" ? 0 : level;
    const to = bar.kind === "end" ? bar.amount : level + bar.amount;
    level = to;
    return { low: Math.min(from, to), size: Math.abs(to - from), colour: bar.kind === "end" ? c.accent : bar.amount < 0 ? c.bad : c.good, bar };
  });
  option.legend = undefined;
  option.grid.top = 24;
  option.xAxis = { ...option.xAxis, type: "category", data: rows.map((row) => row.bar.label), axisLabel: { color: c.quiet, interval: 0, width: 84, lineHeight: 15, overflow: "break", hideOverlap: false } };
  option.yAxis.scale = true;
  option.yAxis.axisLabel.showMinLabel = false;
  option.series = [
    { type: "bar", stack: "all", silent: true, itemStyle: { color: "transparent" }, data: rows.map((row) => row.low) },
    { type: "bar", stack: "all", barMaxWidth: 56, data: rows.map((row) => ({ value: row.size, itemStyle: { color: row.colour, borderRadius: 3 } })), label: { show: true, position: "top", color: c.text, formatter: (each) => compact.format(rows[each.dataIndex].bar.amount) } },
  ];
  const ends = rows.filter((row) => row.bar.kind === "end").map((row) => row.size);
  const lowest = Math.min(...rows.map((row) => row.low + (row.bar.kind === "end" ? row.size : 0)));
  option.yAxis.min = d.from_zero ? 0 : Math.max(0, lowest - 0.5 * (Math.max(...rows.map((row) => row.low + row.size)) - lowest));
  if (!ends.length) option.yAxis.min = undefined;
  option.tooltip.formatter = (shown) => { const bar = rows[shown[0].dataIndex].bar; return `${bar.label}\n${exact.format(bar.amount)}${bar.note ? "\n" + bar.note : ""}`; };
  option.tooltip.axisPointer = { type: "none" };
  option.onclick = (each) => {
    const behind = document.getElementById(`cause-${rows[each.dataIndex].bar.cause}`);
    if (behind) { behind.open = true; behind.scrollIntoView(); behind.querySelector("summary").focus(); }
  };
  return option;
};

// What was said against what came: on the line is right; the bars are how sure so few cases can make us.
drawings.reliability = (d, c) => {
  const option = base(c, "share");
  const ends = d.points.flatMap((p) => [[p.said, p.low], [p.said, p.high], [null, null]]);
  option.xAxis = { ...option.xAxis, type: "value", min: 0, max: 1, name: d.words.said, nameLocation: "middle", nameGap: 28, nameTextStyle: { color: c.quiet }, axisLabel: { color: c.quiet, formatter: shortFormats.share } };
  option.yAxis = { ...option.yAxis, type: "value", min: 0, max: 1, name: d.words.came, nameTextStyle: { color: c.quiet, align: "left" } };
  option.legend = undefined;
  option.grid.bottom = 28;
  const largest = Math.max(...d.points.map((p) => p.n));
  option.series = [
    { type: "line", data: [[0, 0], [1, 1]], symbol: "none", silent: true, lineStyle: { color: c.quiet, type: "dashed", width: 1 } },
    { type: "line", data: ends, symbol: "none", silent: true, lineStyle: { color: faded(c.accent, 0.45), width: 2 } },
    { type: "scatter", data: d.points.map((p) => ({ value: [p.said, p.came], symbolSize: 8 + 16 * Math.sqrt(p.n / largest), text: p.text })), itemStyle: { color: c.accent, borderColor: c.card, borderWidth: 1.5 } },
  ];
  option.tooltip = { ...option.tooltip, trigger: "item", formatter: (each) => each.data.text };
  return option;
};

// Several lines over the same places (weeks, quarters).
drawings.lines = (d, c, place) => {
  const option = base(c, d.format);
  const shades = [c.accent, c.warn, c.bad, c.good, c.violet, c.teal, c.text, c.quiet];
  const dashes = ["solid", [6, 3], [2, 3], [8, 3, 2, 3], "dashed", "dotted", [1, 4], [12, 4]];
  const symbols = ["circle", "diamond", "triangle", "rect", "emptyCircle", "emptyDiamond", "emptyTriangle", "emptyRect"];
  option.xAxis = { ...option.xAxis, type: "category", data: d.places, boundaryGap: false, name: d.words.place, nameLocation: "middle", nameGap: 28, nameTextStyle: { color: c.quiet } };
  option.grid.bottom = 28;
  if (d.lines.length > 3) { // many names: all of them, in as many rows as it takes
    option.legend = { ...option.legend, type: "plain" };
    option.grid.top = 20 + 22 * Math.ceil(d.lines.reduce((width, line) => width + 50 + 6.2 * line.name.length, 0) / place.clientWidth);
  }
  option.series = d.lines.map((line, nth) => ({ type: "line", name: line.name, data: line.values, connectNulls: true, symbol: symbols[nth % 8], symbolSize: nth ? 6 : 8, itemStyle: { color: shades[nth % 8] }, lineStyle: { color: shades[nth % 8], type: dashes[nth % 8], width: nth ? 1.8 : 3 } }));
  if (d.target !== undefined && d.target !== null) option.series[0].markLine = { silent: true, symbol: "none", data: [{ yAxis: d.target }], lineStyle: { color: c.quiet, type: "dashed" }, label: { show: false } };
  option.tooltip.valueFormatter = (value) => value === null || value === undefined ? "–" : formats[d.format](value);
  return option;
};

// A deal's life: what was said of it above, who spoke to whom and what was changed below, the stages behind both.
drawings.timeline = (d, c) => {
  const option = base(c, "share");
  const lanes = d.lanes.length;
  const below = 24 + 26 * lanes;
  const shades = { inbound: c.good, edit: c.warn };
  const time = { type: "time", min: d.from, max: d.to, axisLine: { lineStyle: { color: c.line } }, axisTick: { show: false }, splitLine: { show: false } };
  const stages = d.stays.map((stay, place) => [{ name: stay.stage, xAxis: stay.from, itemStyle: { color: place % 2 ? faded(c.accent, 0.1) : faded(c.accent, 0.03) }, label: { show: (stay.to - stay.from) > 0.07 * (d.to - d.from) } }, { xAxis: stay.to }]);
  option.grid = [{ left: 112, right: 16, top: 44, bottom: below + 16 }, { left: 112, right: 16, bottom: 24, height: 26 * lanes }];
  option.xAxis = [{ ...time, axisLabel: { show: false } }, { ...time, gridIndex: 1, axisLabel: { color: c.quiet, hideOverlap: true, formatter: (at) => dated.format(new Date(at)) } }];
  option.yAxis = [
    { ...option.yAxis, min: 0, max: 1 },
    { type: "category", gridIndex: 1, inverse: true, data: d.lanes.map((lane) => lane.name), axisLine: { show: false }, axisTick: { show: false }, axisLabel: { color: c.quiet, width: 100, overflow: "truncate" }, splitLine: { show: true, lineStyle: { color: c.line } } },
  ];
  option.legend.data = d.lines.map((line) => line.name);
  const bands = { silent: true, label: { color: c.quiet, position: "insideTop", fontSize: 11, overflow: "truncate", width: 90 }, data: stages };
  option.series = [
    { type: "line", data: [], silent: true, markArea: bands },
    ...d.lines.map((line) => ({ type: "line", name: line.name, data: line.points, symbol: line.basis === "replayed" ? "emptyCircle" : "circle", symbolSize: 8, itemStyle: { color: c.accent }, lineStyle: { color: c.accent, width: 2.5, type: line.basis === "replayed" ? "dashed" : "solid" } })),
    ...d.lanes.map((lane, place) => ({ type: "scatter", xAxisIndex: 1, yAxisIndex: 1, symbol: lane.key === "edit" ? "diamond" : "circle", symbolSize: 9, itemStyle: { color: shades[lane.key] || c.accent, opacity: 0.75 }, data: lane.points.map((p) => ({ value: [p[0], place], text: p[1] })) })),
  ];
  option.tooltip = { ...option.tooltip, trigger: "item", formatter: (each) => `${dated.format(new Date(each.value[0]))}\n${each.data.text || `${each.seriesName}: ${share.format(each.value[1])}`}` };
  return option;
};

function draw(within) {
  for (const place of within.querySelectorAll("[data-chart]")) {
    const option = drawings[place.dataset.chart](JSON.parse(place.nextElementSibling.textContent), colours(), place);
    const chart = echarts.getInstanceByDom(place) || echarts.init(place, null, { renderer: "canvas" });
    chart.setOption(option, true);
    chart.off("click");
    if (option.onclick) chart.on("click", option.onclick);
    if (!place.dataset.drawn) new ResizeObserver(() => chart.resize()).observe(place);
    place.dataset.drawn = "yes";
  }
}

if (window.echarts) {
  draw(document);
  document.addEventListener("htmx:load", (event) => draw(event.detail.elt));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(document));
  const theme = root.dataset.theme;
  window.addEventListener("beforeprint", () => { root.dataset.theme = "light"; draw(document); });
  window.addEventListener("afterprint", () => { root.dataset.theme = theme; draw(document); });
}
