// Ours inside cellxgene's page: every request for data says which version of the file the page shows, so that neither
// labels nor colours of one file land on the cells of another that took its place; and every save says what this page
// knows of the labels or gene sets, so that it removes nothing that the page has never seen. Tells `viewer.js` of
// replies that a person should hear of.
(() => {
  const opened = globalThis.OPENED || ""; // the gateway wrote it before this script
  const tab = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  // Digests of the whole file and, 16 letters each, of its columns, as this page read or saved them last.
  class Known {
    whole = "";
    parts = new Map();

    text() {
      return `${this.whole}:${[...this.parts].map((part) => part.join("")).join("")}`;
    }

    hear(text, all) {
      if (!text) return;
      const [whole, parts] = text.split(":");
      if (all) this.parts.clear();
      for (const part of parts.match(/.{16}/g) || []) this.parts.set(part.slice(0, 8), part.slice(8));
      this.whole = all || whole === this.whole ? whole : "";
    }
  }
  const labels = new Known();
  const sets = new Known();

  const send = window.fetch;
  window.fetch = async (what, options) => {
    const url = what instanceof Request ? null : new URL(what, document.baseURI);
    if (!url || url.origin !== location.origin || !url.pathname.includes("/api/v0.")) return send(what, options);
    const known = url.pathname.endsWith("/genesets") ? sets : labels;
    const saves = options?.method === "PUT";
    const headers = new Headers(options?.headers);
    if (opened) headers.set("X-Dataset-Version", opened);
    headers.set("X-Labels-Tab", tab);
    if (saves) headers.set("X-Labels-Known", known.text());
    const reply = await send(what, { ...options, headers });
    const whole = saves || known === sets || url.pathname.endsWith("/schema"); // not single columns
    if (reply.ok) known.hear(reply.headers.get("X-Labels-Known"), whole);
    const heard = { status: reply.status, saves };
    if (saves && !reply.ok) heard.problem = await reply.clone().json().catch(() => null);
    for (const name of ["Merged", "Fit"]) heard[name.toLowerCase()] = JSON.parse(reply.headers.get(`X-Labels-${name}`));
    window.dispatchEvent(new CustomEvent("cxg-proxy", { detail: heard }));
    return reply;
  };
})();
