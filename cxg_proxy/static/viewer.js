// Ours inside cellxgene's page: a way back to the list of datasets, and a strip that speaks up only when the viewer
// behind the page is gone, failed, or shows a file that has changed. While the tab is visible it asks how things are,
// which also keeps the viewer from being closed under its reader's eyes. A hidden tab asks nothing.
"use strict";
(() => {
  const EVERY = 60000;
  const SOON = 10000; // when the connection is lost
  const LOGO = 138; // where cellxgene's logo ends, in px from the left
  const own = new URL("./", document.currentScript.src); // …/cxg-proxy/
  const STYLE = `
    :host { all: initial; }
    a, button { font: 13px/20px system-ui, sans-serif; color: #0b6e99; }
    .mark { position: absolute; left: ${LOGO}px; top: 12px; z-index: 2; height: 22px; padding: 0 4px; border-radius: 4px;
      text-decoration: none; white-space: nowrap; }
    .mark:hover { background: #e3f1f7; }
    .mark:focus-visible, button:focus-visible { outline: 2px solid #0b6e99; outline-offset: 1px; }
    .mark.short span { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
    .strip { position: fixed; left: 50%; bottom: 56px; z-index: 30; transform: translateX(-50%); box-sizing: border-box;
      width: max-content; max-width: calc(100vw - 32px); display: flex; align-items: center; gap: 16px; padding: 8px 16px;
      font: 14px/20px system-ui, sans-serif; color: #fff; background: #17212b; border-radius: 6px;
      box-shadow: 0 4px 16px rgb(16 32 48 / 30%); }
    .strip:empty { display: none; }
    .strip button { flex: none; padding: 3px 11px; font-weight: 600; color: #17212b; background: #fff; border: 0;
      border-radius: 4px; cursor: pointer; }
    .strip button:focus-visible { outline-color: #62bde4; }`;

  // What the gateway wrote before this script: the version of the file that this page shows. Every request for data
  // says it, so that neither labels nor colours of one file land on the cells of another that took its place.
  const opened = typeof OPENED === "string" ? OPENED : "";
  const send = window.fetch;
  window.fetch = async (what, options) => {
    const url = what instanceof Request ? null : new URL(what, document.baseURI);
    if (!opened || !url || url.origin !== location.origin || !url.pathname.includes("/api/v0.")) return send(what, options);
    const headers = new Headers(options?.headers);
    headers.set("X-Dataset-Version", opened);
    const reply = await send(what, { ...options, headers });
    if (reply.status === 409) ask();
    return reply;
  };

  const host = document.createElement("cxg-proxy");
  const shadow = host.attachShadow({ mode: "open" });
  const style = new CSSStyleSheet(); // works under a policy that forbids <style>
  style.replaceSync(STYLE);
  shadow.adoptedStyleSheets = [style];
  const mark = Object.assign(document.createElement("a"), { className: "mark", title: "Back to the list of datasets" });
  mark.append("← ", Object.assign(document.createElement("span"), { textContent: "library" }));
  const strip = Object.assign(document.createElement("div"), { className: "strip" });
  strip.setAttribute("role", "status");
  shadow.append(mark, strip);

  // Between cellxgene's logo and its dataset title; a long title leaves room for the arrow only.
  mark.classList.add("short");
  const place = (title) => {
    const room = title.getBoundingClientRect().left + window.scrollX - LOGO;
    mark.classList.toggle("short", room < 68);
  };
  const drawn = new MutationObserver(() => {
    const title = document.querySelector('[data-testid="header"]');
    if (!title) return;
    drawn.disconnect();
    new ResizeObserver(() => place(title)).observe(title);
  });

  let wanted = "";
  const name = () => wanted && document.title !== wanted && (document.title = wanted); // cellxgene sets its own

  let said = "";
  function say(text, action) {
    if (text === said) return; // else it would be read out again
    said = text;
    strip.replaceChildren(...(text ? [text] : []));
    if (!text || !action) return;
    const button = Object.assign(document.createElement("button"), { textContent: action });
    button.addEventListener("click", () => location.reload());
    strip.append(button);
  }

  function judge(state) {
    if (state.library) mark.href = new URL(state.library, own);
    wanted = state.title || "";
    name();
    if (state.problem) say(state.problem.sentence, "What to do");
    else if (["closing", "closed", "failed"].includes(state.phase)) say("This viewer was closed; nothing is lost.", "Reopen");
    else if (state.phase !== "ready") say("This viewer is being opened again.");
    else if (state.changed || (opened && state.version && state.version !== opened)) say("The file of this dataset has changed since it was opened.", "Reload");
    else say("");
  }

  let timer = 0;
  async function ask() {
    clearTimeout(timer);
    if (document.visibilityState !== "visible") return;
    let wait = EVERY;
    try {
      const reply = await fetch(new URL("state", own), { headers: { Accept: "application/json" }, cache: "no-store" });
      if (!reply.ok) throw new Error(String(reply.status));
      const state = await reply.json();
      judge(state);
      if (state.phase !== "ready") wait = SOON;
    } catch {
      say("The connection to the server is lost. What was saved is safe.", "Reload");
      wait = SOON;
    }
    clearTimeout(timer);
    if (document.visibilityState === "visible") timer = setTimeout(ask, wait);
  }

  document.body.append(host);
  drawn.observe(document.getElementById("root") || document.body, { childList: true, subtree: true });
  new MutationObserver(name).observe(document.head, { childList: true, subtree: true, characterData: true });
  document.addEventListener("visibilitychange", ask);
  window.addEventListener("online", ask);
  ask();
})();
