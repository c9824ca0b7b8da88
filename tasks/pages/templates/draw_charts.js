// Draws each chart from its JSON in the colours of the page's scheme. Without plotly the SVG in the page stays.
const DARK = {
  "#222222": "#e6e6e6", "#9a9a9a": "#9a9a9a", "#ececec": "#2d3338", "#cccccc": "#4a5157", "#f7f7f7": "#20262b",
  "#0072b2": "#58b4f0", "#d55e00": "#ff9a4d", "#56b4e9": "#b5def7", "#009e73": "#2fc99b", "#7f6c00": "#c9b23a",
  "#555555": "#bdbdbd",
};
const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const PRINT_WIDTH = 680;  // pixels of a printed page's text

function chartOf(place, onPaper) {
  const text = document.getElementById(place.id + "-json").textContent;
  const dark = darkScheme.matches && !onPaper;
  const chart = JSON.parse(dark ? text.replace(/#[0-9a-f]{6}\b/gi, (shade) => DARK[shade.toLowerCase()] ?? shade) : text);
  if (onPaper) Object.assign(chart.layout, {width: Math.min(PRINT_WIDTH, place.clientWidth), autosize: false});
  if (place.dataset.zoom && matchMedia("(pointer: fine)").matches) chart.layout.dragmode = "zoom";
  for (const [name, range] of Object.entries(place.zoomed ?? {})) {
    Object.assign(chart.layout[name], {range: range, autorange: false, dtick: null});
  }
  return chart;
}

function draw(place, onPaper = false) {
  const chart = chartOf(place, onPaper);
  const options = {responsive: !onPaper, displayModeBar: false, scrollZoom: false};
  if (!place.drawn) place.replaceChildren();
  place.drawn = true;
  Plotly.react(place, chart.data, chart.layout, options);
}

function drawAll(onPaper = false) {
  for (const place of document.querySelectorAll(".chart")) draw(place, onPaper);
}

// The numbers of a page that stays as it is are compressed; a browser that cannot read them shows the SVG.
async function unpack(place) {
  const bytes = Uint8Array.from(atob(place.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  place.textContent = await new Response(stream).text();
}

async function start() {
  await Promise.all([...document.querySelectorAll("script[type='application/gzip']")].map(unpack));
  drawAll();
  document.querySelectorAll(".tools").forEach(listen);
  darkScheme.addEventListener("change", () => drawAll());
  addEventListener("beforeprint", () => drawAll(true));
  addEventListener("afterprint", () => drawAll());
}

if (window.Plotly) start();

// The page server shows reports below /reports/SERIES/, two folders below the dashboard.
const home = document.querySelector(".home");
if (home && location.protocol.startsWith("http") && /\/reports\/[^/]+\/[^/]+$/.test(location.pathname)) home.hidden = false;

// Zoom of a chart over time: by its buttons or by dragging. The vertical axes follow what is shown.
const DAY = 86400e3;
const time = (text) => Date.parse(/[zZ]$/.test(text) ? text : text.replace(" ", "T") + "Z");
const written = (moment) => new Date(moment).toISOString().slice(0, 19);

function axes(place, letter) {
  return Object.keys(place.layout).filter((name) => name.startsWith(letter + "axis"));
}

function spanOf(place) {
  const times = place.data.flatMap((trace) => [trace.x[0], trace.x.at(-1)]).map(time);
  return [times.reduce((a, b) => Math.min(a, b)), times.reduce((a, b) => Math.max(a, b))];
}

function rangeOf(place, name, [first, last]) {
  const shown = place.data.filter((trace) => (trace.yaxis ?? "y").replace("y", "yaxis") === name).flatMap((trace) =>
    trace.y.filter((value, k) => value !== null && time(trace.x[k]) >= first && time(trace.x[k]) <= last));
  if (!shown.length) return null;
  const scale = place.layout[name].type === "log" ? Math.log10 : (value) => value;
  const low = scale(shown.reduce((a, b) => Math.min(a, b)));
  const high = scale(shown.reduce((a, b) => Math.max(a, b)));
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
}

function zoom(place, range) {
  const change = {};
  for (const name of axes(place, "x")) change[name] = range.map(written);
  for (const name of axes(place, "y")) {
    const found = rangeOf(place, name, range);
    if (found) change[name] = found;
  }
  place.zoomed = change;
  const ranges = Object.entries(change).flatMap(([name, value]) => [[name + ".range", value], [name + ".dtick", null]]);
  Plotly.relayout(place, Object.fromEntries(ranges));
}

function showAll(place) {
  place.zoomed = undefined;
  draw(place);
}

function press(place, button) {
  const [first, last] = place.layout.xaxis.range.map(time);
  const [start, end] = spanOf(place);
  const {days, factor, shift} = button.dataset;
  const middle = (first + last) / 2, half = (last - first) / 2;
  if (days === "0") return showAll(place);
  if (days) return zoom(place, [Math.max(start, end - days * DAY), end]);
  if (factor) {
    const reach = Math.max(half * factor, DAY / 48);
    return reach >= (end - start) / 2 ? showAll(place) : zoom(place, [middle - reach, middle + reach]);
  }
  const step = Math.max(start - first, Math.min(end - last, shift * 2 * half));
  return zoom(place, [first + step, last + step]);
}

function listen(tools) {
  const place = document.getElementById(tools.dataset.chart);
  const buttons = [...tools.querySelectorAll("button")];
  tools.hidden = false;
  tools.addEventListener("click", ({target}) => {
    if (!target.closest("button")) return;
    press(place, target);
    for (const each of buttons.filter((one) => one.dataset.days)) each.setAttribute("aria-pressed", each === target);
  });
  place.on("plotly_relayout", (change) => {
    const [first, last] = ["xaxis", "xaxis2"].flatMap((name) =>
      change[name + ".range[0]"] ? [[change[name + ".range[0]"], change[name + ".range[1]"]]] : [])[0] ?? [];
    if (first) zoom(place, [time(String(first)), time(String(last))]);
  });
  place.on("plotly_doubleclick", () => showAll(place));
}
