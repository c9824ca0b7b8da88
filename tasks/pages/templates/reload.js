// Fetches the page again and shows what changed; zoom, open details and the focus stay. A new series reloads it whole.
const regions = (root) => [...root.querySelectorAll("[data-live]")];

function replaceRegion(present, fresh) {
  if (present.innerHTML === fresh.innerHTML) return;
  const open = [...present.querySelectorAll("details")].map((each) => each.open);
  const focused = [...present.querySelectorAll("a, summary")].indexOf(document.activeElement);
  present.innerHTML = fresh.innerHTML;
  present.querySelectorAll("details").forEach((each, place) => { each.open = open[place] ?? false; });
  present.querySelectorAll("a, summary")[focused]?.focus();
}

function replaceCharts(fresh) {
  for (const place of document.querySelectorAll(".chart")) {
    const name = place.id + "-json";
    const text = fresh.getElementById(name).textContent;
    const present = document.getElementById(name);
    if (present.textContent === text) continue;
    present.textContent = text;
    if (window.Plotly) draw(place);
  }
}

async function reload() {
  const clock = document.querySelector("[data-live=clock] p");
  try {
    const reply = await fetch(location.href, {cache: "no-store"});
    if (!reply.ok) throw new Error(reply.statusText);
    const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
    const names = (root) => [...regions(root).map((each) => each.dataset.live), root.querySelectorAll(".chart").length].join();
    if (names(fresh) !== names(document)) return location.reload();
    regions(document).forEach((present, place) => replaceRegion(present, regions(fresh)[place]));
    replaceCharts(fresh);
  } catch {
    const text = "; no connection since then, trying again";
    if (!clock.textContent.endsWith(text)) clock.textContent += text;
  }
}

setInterval(reload, 1000 * Number(document.body.dataset.reloadSeconds));
