// Puts a live viewer into the output of a notebook cell: `cxg_proxy.show` writes this function there, and calls it with
// the script's own element and the options of the call. The text before the script is shown where no script runs, and
// on pages that belong to no Jupyter server; here it is replaced by the viewer, or by a problem.
function show(script, told) {
  const text = script?.previousElementSibling;
  const config = document.getElementById("jupyter-config-data"); // JupyterLab and Notebook 7 have it
  if (!text || !config) return;
  const base = JSON.parse(config.textContent).baseUrl;
  if (!base) return;
  const gateway = new URL(`${base.replace(/\/*$/, "/")}cellxgene/`, location.href);
  const NARROWEST = 1240; // pixels: the smallest width of cellxgene's page, so in a narrower output it is scaled down
  const SMALLEST = 0.6; // the smallest scale that stays readable
  const shown = make("div", null, { "data-lm-suppress-shortcuts": "true" }); // or JupyterLab would handle Enter itself
  text.before(shown);

  function make(name, content, attributes, style) {
    const element = document.createElement(name);
    element.append(...[content ?? []].flat());
    for (const [key, value] of Object.entries(attributes ?? {})) element.setAttribute(key, value);
    // Set here and not in a stylesheet, which would apply to the whole page; the colours are those of the page's theme.
    Object.assign(element.style, { color: "inherit", font: "inherit" }, style);
    return element;
  }

  function say(nodes, otherwise) {
    shown.replaceChildren(...nodes);
    text.hidden = !otherwise;
  }

  // Text between backquotes is a command to copy.
  const sentence = (words) =>
    words.split("`").map((part, n) => (n % 2 ? make("code", part, {}, { font: "", fontFamily: "monospace" }) : part));

  function wrong(heading, steps, otherwise) {
    const style = { background: "none", border: "1px solid", borderRadius: "3px", cursor: "pointer", padding: "4px 12px" };
    const again = make("button", "Try again", { type: "button" }, style);
    again.addEventListener("click", () => ask(true));
    const list = make("ol", steps.map((step) => make("li", sentence(step))));
    const said = make("div", [make("p", sentence(heading)), ...(steps.length ? [list] : [])], { role: "alert" });
    say([said, again], otherwise);
    return again;
  }

  function view(found) {
    const address = new URL(found.view, gateway).href;
    const frame = make("iframe", null, { src: address, title: `cellxgene: ${found.title}`, loading: "lazy" });
    Object.assign(frame.style, { border: "0", display: "block", transformOrigin: "0 0" });
    const place = make("div", frame, {}, { height: `${told.height}px`, overflow: "hidden" });
    new ResizeObserver(([{ contentRect }]) => {
      const scale = Math.min(1, Math.max(SMALLEST, contentRect.width / NARROWEST));
      const [width, height] = [contentRect.width / scale, told.height / scale].map((size) => `${size}px`);
      if (contentRect.width) Object.assign(frame.style, { width, height, transform: scale < 1 ? `scale(${scale})` : "" });
    }).observe(place);
    const tab = make("a", "Open in a tab of its own", { href: address, target: "_blank", rel: "noopener" });
    tab.style.textDecoration = "underline";
    say([make("p", [found.title, " · ", tab], {}, { margin: "0 0 4px" }), place], false);
    return frame;
  }

  // Returns the element that receives the focus if a person asked for the dataset.
  async function answer() {
    let reply;
    try {
      reply = await fetch(new URL(`api/find?path=${told.path}`, gateway), { headers: { Accept: "application/json" } });
    } catch {
      return wrong("The Jupyter server does not answer.", ["Wait until it runs again.", "Then try again."], false);
    }
    const said = (await reply.json().catch(() => null)) ?? {};
    if (reply.ok && said.view) return view(said);
    if (said.problem) return wrong(said.problem.sentence, said.problem.steps, false);
    if ([401, 403].includes(reply.status) || reply.redirected) {
      return wrong("The Jupyter server does not know you any more.", ["Reload this page and log in.", "Then try again."]);
    }
    return wrong(`The Jupyter server of this page does not offer cellxgene (status ${reply.status}).`, [], true);
  }

  async function ask(focus) {
    say([make("p", "Looking for the dataset…", { role: "status" })], false);
    const element = await answer();
    if (focus) element.focus();
  }

  ask(false);
}
