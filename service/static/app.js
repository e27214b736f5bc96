// Comfort only: every page does the same without this file.
"use strict";

const root = document.documentElement;

// colours: kept in a cookie, so that the server writes them into the next page and nothing flashes
const toggle = document.querySelector("[data-theme-toggle]");
function dark() {
  const chosen = root.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
if (toggle) {
  toggle.addEventListener("click", (event) => {
    event.preventDefault();
    const theme = dark() ? "light" : "dark";
    root.dataset.theme = theme;
    document.cookie = `surebound_theme=${theme}; path=/; max-age=31536000; samesite=lax`;
  });
}

// asking before something is removed
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

// a part of a page, fetched and put in place; what has the focus and what is unfolded stay so
async function replace(place, address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return false;
  const text = await answer.text();
  if (place.contains(document.activeElement) && document.activeElement.matches("button, summary, a")) {
    const open = [...place.querySelectorAll("a, button, summary")].indexOf(document.activeElement);
    swap(place, text);
    place.querySelectorAll("a, button, summary")[open]?.focus();
  } else {
    swap(place, text);
  }
  return true;
}

function swap(place, text) {
  const open = [...place.querySelectorAll("details")].map((d) => d.open);
  // our own server's markup, escaped there
  place.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.childNodes);
  place.querySelectorAll("details").forEach((d, i) => { if (open[i]) d.open = true; });
  place.querySelectorAll("noscript").forEach((n) => n.remove());
}

// a running job: events say when, the server says what
const body = document.querySelector("[data-live]");
if (body) follow(body, body.dataset.live);

function follow(place, address) {
  const spoken = document.getElementById("spoken");
  const events = new EventSource(`${address}/events`);
  let waiting = false;
  let last = 0;
  let ended = false;

  async function refresh() {
    waiting = false;
    last = Date.now();
    await replace(place, `${address}?part=true`).catch(() => false);
    const word = place.querySelector("[data-word]")?.dataset.word;
    if (word && spoken && spoken.textContent !== word) {
      spoken.textContent = word;
      document.title = `${word} – surebound`;
    }
  }
  function soon() {
    if (waiting || ended) return;
    waiting = true;
    setTimeout(refresh, Math.max(0, 700 - (Date.now() - last)));
  }
  for (const name of ["state", "progress", "bound"]) events.addEventListener(name, soon);
  events.addEventListener("done", () => {
    ended = true;
    events.close();
    refresh();
  });
}

// cancelling without leaving the page
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!("cancel" in form.dataset)) return;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  button.textContent = "Stopping…";
  const answer = await fetch(form.action, { method: "POST" }).catch(() => null);
  if (answer && answer.ok) return;
  button.disabled = false;
  button.textContent = "Cancel";
  form.insertAdjacentText("beforeend", " That did not work; try again.");
});

// a list with jobs that still move
const list = document.querySelector("[data-list]");
if (list) {
  setInterval(() => {
    if (document.hidden || !list.querySelector("[data-moving]")) return;
    replace(list, list.dataset.list).catch(() => false);
  }, 2500);
}

// files dropped anywhere on the page that asks
const ask = document.querySelector("[data-ask]");
if (ask) {
  const places = [
    [/\.onnx(\.gz)?$/i, "model_file", null],
    [/\.vnnlib(\.gz)?$/i, "vnnlib_file", "vnnlib"],
    [/\.npz$/i, "data_file", "sweep"],
    [/\.(npy|csv|json|png|jpe?g)$/i, "point_file", "robustness"],
  ];
  const inputs = [...ask.querySelectorAll("input.drop")];
  const light = (on) => inputs.forEach((i) => i.classList.toggle("over", on));
  addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    light(true);
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) light(false); });
  addEventListener("drop", (event) => {
    light(false);
    if (!event.dataTransfer.files.length) return;
    if (event.target.matches?.("input.drop") && event.dataTransfer.files.length === 1) return;
    event.preventDefault();
    for (const file of event.dataTransfer.files) {
      const found = places.find(([pattern]) => pattern.test(file.name));
      if (!found) continue;
      const one = new DataTransfer();
      one.items.add(file);
      document.getElementById(found[1]).files = one.files;
      if (found[2]) document.getElementById(`kind-${found[2]}`).checked = true;
    }
  });
  // a slow upload must not be started twice
  ask.addEventListener("submit", () => {
    const button = ask.querySelector("button.primary");
    setTimeout(() => { button.disabled = true; button.textContent = "Sending…"; }, 0);
  });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
}

document.getElementById("mistakes")?.focus();
