// Improves the pages, which also work without it: copying, the key "/", menus, forms that leave no page in the history,
// lists that refresh themselves while they are visible, and the progress of a dataset that is being opened.
"use strict";
document.documentElement.classList.add("js");

const here = () => location.pathname + location.search;

// --- copying ---

async function copy(text) {
  if (window.isSecureContext && navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea"); // plain http has no clipboard interface
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser refused to copy");
}

async function copyFrom(button) {
  const source = document.getElementById(button.dataset.copyFrom);
  const link = "copyLink" in button.dataset;
  const text = link ? button.href : source ? source.textContent : button.dataset.copy;
  const label = button.querySelector(".needs-js") || button;
  const before = label.textContent;
  try {
    await copy(text);
    label.textContent = "Copied";
  } catch {
    label.textContent = link ? "Copy this address: " + text : "Select the text and copy it";
  }
  document.getElementById("said").textContent = label.textContent;
  if (label.textContent === "Copied") setTimeout(() => (label.textContent = before), 2000);
}

document.addEventListener("click", (event) => {
  const slow = event.target.closest("[data-prepare]");
  if (slow) setTimeout((text) => (slow.textContent = text), 20000, slow.textContent);
  if (slow) slow.textContent = slow.dataset.prepare;
  const button = event.target.closest("[data-copy], [data-copy-from], [data-copy-link]");
  if (button) {
    event.preventDefault();
    copyFrom(button);
  }
  for (const menu of document.querySelectorAll(".menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// --- keys, and times in the reader's own time zone ---

document.addEventListener("keydown", (event) => {
  const search = document.getElementById("q");
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "/" && search && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.select();
  }
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll(".menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
});

document.addEventListener("pointerover", (event) => {
  const time = event.target.closest("time[datetime]");
  if (time) time.title = new Date(time.dateTime).toLocaleString();
});

// --- lists that refresh themselves: only while visible, and not for ever, because the server must be able to idle ---

function place(element) {
  const home = element.closest("[id]");
  return "#" + CSS.escape(home.id) + (home === element ? "" : " " + element.localName);
}

async function renew() {
  const reply = await fetch(here(), { headers: { Accept: "text/html" } }).catch(() => null);
  if (!reply?.ok) return;
  const next = new DOMParser().parseFromString(await reply.text(), "text/html").querySelector("main");
  const main = document.querySelector("main");
  if (!next || main.querySelector(".menu[open], :required:valid")) return; // nor while a file is chosen
  for (const log of main.querySelectorAll("details[id][open]")) {
    next.querySelector("#" + CSS.escape(log.id))?.setAttribute("open", "");
  }
  const focused = main.contains(document.activeElement) ? place(document.activeElement) : null;
  main.replaceWith(document.adoptNode(next));
  if (focused) document.querySelector(focused)?.focus({ preventScroll: true });
}

async function keepFresh(rounds) {
  const main = document.querySelector("main[data-refresh]");
  if (!main || rounds >= Number(main.dataset.rounds)) return;
  const wanted = document.visibilityState === "visible" && !main.querySelector(".menu[open]");
  if (wanted && rounds >= 0) await renew();
  setTimeout(keepFresh, 1000 * Number(main.dataset.refresh), rounds + (wanted ? 1 : 0));
}
keepFresh(-1); // the page itself is round 0

// --- forms whose page should not stay in the history: Back must not restart a viewer that was stopped ---

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.dataset.soft === undefined) return;
  event.preventDefault();
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  const body = new URLSearchParams(new FormData(form));
  const reply = await fetch(form.action, { method: "POST", body, redirect: "manual" }).catch(() => null);
  form.closest(".menu")?.removeAttribute("open");
  if (!reply?.ok && reply?.type !== "opaqueredirect") form.submit(); // the server's reply shows what is wrong
  else if (form.dataset.soft === "#") renew();
  else location.replace(form.dataset.soft || here());
});

// --- an opening dataset ---

function follow(page) {
  const phases = JSON.parse(page.dataset.phases);
  const [phase, bar, done, elapsed] = ["phase", "bar", "done", "elapsed"].map((id) => document.getElementById(id));
  let since = performance.now() - 1000 * Number(elapsed.dataset.seconds);
  const leave = () => location.replace(here());
  const tell = (step) => {
    const words = phases[step.phase];
    if (words && phase.textContent !== words) phase.textContent = words; // else a screen reader would read it out again
    if (typeof step.done === "number") bar.value = step.done;
    else bar.removeAttribute("value");
    done.textContent = typeof step.done === "number" ? `${Math.round(100 * step.done)}\u202f%` : "";
    if (typeof step.elapsed === "number") since = performance.now() - 1000 * step.elapsed;
  };
  const source = new EventSource(page.dataset.progress);
  source.onmessage = (event) => {
    const step = JSON.parse(event.data);
    tell(step);
    if (["ready", "failed", "closed"].includes(step.phase)) {
      source.close();
      leave();
    }
  };
  source.onerror = () => source.readyState === EventSource.CLOSED && setTimeout(leave, 2000);
  setInterval(() => {
    const s = Math.max(0, Math.round((performance.now() - since) / 1000));
    elapsed.textContent = s < 60 ? `${s}\u00a0s` : `${Math.floor(s / 60)}\u00a0min ${s % 60}\u00a0s`;
  }, 1000);
}
const opening = document.getElementById("opening");
if (opening) follow(opening);
