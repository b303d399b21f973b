// Added to cellxgene's page by the gateway: links to the list of datasets and to the saved labels, and a strip that
// appears only when the viewer behind the page is gone, failed, prepares gene expression, shows a file that has
// changed, or when somebody else has saved too.
// While the tab is visible, this script requests the viewer's state, which also keeps the viewer from being closed
// while it is looked at. A hidden tab or frame requests nothing.
"use strict";
(() => {
  const EVERY = 60000;
  const SOON = 10000; // ms, when the connection is lost
  const OFTEN = 1000; // ms, while something is being prepared; shorter preparations are not shown
  const LOGO = 138; // where cellxgene's logo ends, in px from the left, as in the labextension's `viewer.css`
  const own = new URL("./", document.currentScript.src); // …/cxg-proxy/

  const opened = globalThis.OPENED || ""; // the version of the file that this page shows: see `saves.js`
  const host = document.createElement("cxg-proxy");
  const shadow = host.attachShadow({ mode: "open" });
  const style = new CSSStyleSheet(); // works under a policy that forbids <style>
  style.replaceSync(globalThis.LOOK); // a line that the gateway puts in front of this script holds `strip.css`
  shadow.adoptedStyleSheets = [style];
  const make = (kind, values) => Object.assign(document.createElement(kind), values);
  const nav = make("nav", { ariaLabel: "cxg_proxy" });
  const back = make("a", { className: "back", title: "Back to the list of datasets", target: window === parent ? "" : "_blank" });
  const labels = make("a", { className: "labels", textContent: "labels", title: "Your saved labels and their versions" });
  back.append("← ", make("span", { textContent: "library" }));
  nav.append(back, labels);
  const strip = make("div", { className: "strip" });
  strip.setAttribute("role", "status");
  shadow.append(nav, strip);

  // Between cellxgene's logo and its dataset title; a long title leaves room for the arrow only.
  nav.classList.add("short", "shorter");
  const place = (title) => {
    const room = title.getBoundingClientRect().left + window.scrollX - LOGO;
    nav.classList.toggle("short", room < 68 + 56);
    nav.classList.toggle("shorter", room < 24 + 56);
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
  function say(text, ...actions) {
    if (text === said) return; // else a screen reader would read it out again
    said = text;
    strip.replaceChildren(...(text ? [text] : []), ...actions);
  }
  const reload = (textContent) => make("button", { textContent, onclick: () => location.reload() });

  // A notice that a person should see once, until it is closed.
  let notice = [""];
  function tell(text, ...actions) {
    const close = make("button", { className: "close", textContent: "×", ariaLabel: "Close" });
    close.addEventListener("click", () => say(...(notice = [""])));
    say(...(notice = [text, ...actions, close]));
  }
  const versions = () => labels.cloneNode(true);
  const named = (names) => names.slice(0, 3).map((name) => `“${name}”`).join(", ") + (names.length > 3 ? " and more" : "");

  let failed = false; // whether the last save failed
  window.addEventListener("cxg-proxy", ({ detail: { late, status, saves, problem, merged, fit, own: columns } }) => {
    if (late || status === 409) ask();
    if (saves && failed && !problem) say(...(notice = [""]));
    if (saves) failed = Boolean(problem);
    if (problem?.message) {
      tell(`${problem.message} ${problem.steps?.[0] || ""}`);
    } else if (merged?.replaced.length) {
      tell(`${named(merged.replaced)} was changed in another window or server of yours too. Yours is saved; the other version is kept.`, versions());
    } else if (merged) {
      tell(`${named([...merged.kept, ...merged.removed])} was changed in another window or server of yours. Yours is saved too.`, reload("Reload to see it"));
    } else if (fit) {
      const gone = fit.gone ? ` ${fit.gone} labelled cells are not in it any more; the old file is kept.` : "";
      tell(`The cells of this dataset have changed: ${fit.without} of ${fit.cells} have no saved label.${gone}`, versions());
    } else if (columns) {
      tell(`${named(columns)} is a column of this file now, and shown as it is there. Your labels of that name are kept.`, versions());
    }
  });

  let [offered, noted, slow] = [false, "", false];
  const preparing = (state) => typeof state.preparing === "number";
  function judge(state) {
    if (state.library) back.href = new URL(state.library, own);
    for (const link of state.labels ? [labels, ...notice, ...strip.children] : []) {
      if (link.className === "labels") link.href = new URL(state.labels, own);
    }
    wanted = (state.title || "").replace(/[\t\n\f\r ]+/g, " ").trim(); // as the browser returns it, else set for ever
    name();
    const closed = ["closing", "closed", "failed"].includes(state.phase);
    if (state.problem) say(state.problem.sentence, reload("What to do"));
    else if (closed && failed) say("This viewer was closed before your last change was saved. Keep this page open: it tries again.");
    else if (closed) say("This viewer was closed; nothing is lost.", reload("Reopen"));
    else if (state.phase !== "ready") say("This viewer is being opened again.");
    else if (state.changed || (opened && state.version && state.version !== opened)) say("The file of this dataset has changed since it was opened.", reload("Reload"));
    else if (preparing(state) && slow && !notice[0]) say(`Preparing gene expression: ${Math.round(100 * state.preparing)} %`);
    else say(...notice);
    if (state.note && state.note !== noted) tell((noted = state.note));
    if (state.offer && !offered) tell("Labels for these very cells were saved under another file name.", versions());
    [offered, slow] = [state.offer, preparing(state)];
  }

  // JupyterLab hides the frame of a tab behind another one, and no event reports that.
  const hidden = () => !document.documentElement.getClientRects().length;
  let timer = 0;
  async function ask() {
    clearTimeout(timer);
    if (document.visibilityState !== "visible") return;
    if (hidden()) return void (timer = setTimeout(ask, OFTEN));
    let wait = EVERY;
    try {
      const reply = await fetch(new URL("state", own), { headers: { Accept: "application/json" }, cache: "no-store" });
      if (!reply.ok) throw new Error(String(reply.status));
      const state = await reply.json();
      judge(state);
      if (state.phase !== "ready") wait = SOON;
      else if (preparing(state)) wait = OFTEN;
    } catch {
      say("The connection to the server is lost. What was saved is safe.", reload("Reload"));
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
