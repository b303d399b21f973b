// Added to cellxgene's page by the gateway: every request for data names the version of the file that the page shows,
// so that neither labels nor colours of one file land on the cells of another that took its place. Every save names
// what this page knows of the labels or gene sets, so that it removes nothing that the page has never seen. A request
// that the viewer cannot reply to yet is repeated. Replies that a person should know of, or waits for, are reported to
// `strip.js`.
(() => {
  const opened = globalThis.OPENED || ""; // a line that the gateway puts in front of this script sets it
  const tab = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  const MOST_PARTS = 400; // columns in one header, as in `annotations/merge.py`: proxies limit a request's headers

  // Digests of the whole file and, 16 letters each, of its columns, as this page last read or saved them.
  class Known {
    whole = "";
    parts = new Map();

    text() {
      const parts = this.parts.size > MOST_PARTS ? [] : [...this.parts];
      return `${this.whole}:${parts.map((part) => part.join("")).join("")}`;
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

  const PATIENCE = 1800000; // ms during which a request is repeated, while genes are prepared or others come first
  const LATE = 1000; // ms after which a person may wonder about a reply
  const send = window.fetch;
  const tell = (detail) => window.dispatchEvent(new CustomEvent("cxg-proxy", { detail }));

  const pause = (ms, signal) =>
    new Promise((resolve, reject) => {
      const abort = () => reject(signal.reason, clearTimeout(timer));
      const timer = setTimeout(() => resolve(signal?.removeEventListener("abort", abort)), ms);
      if (signal?.aborted) abort();
      signal?.addEventListener("abort", abort, { once: true });
    });

  async function sendUntilAnswered(what, options) {
    const end = Date.now() + PATIENCE;
    for (;;) {
      const reply = await send(what, options);
      const wait = 1000 * reply.headers.get("Retry-After");
      if (reply.status !== 503 || !(wait > 0) || Date.now() + wait > end) return reply;
      reply.body?.cancel().catch(() => null);
      await pause(wait, options.signal);
    }
  }

  window.fetch = async (what, options) => {
    const url = what instanceof Request ? null : new URL(what, document.baseURI);
    if (!url || url.origin !== location.origin || !url.pathname.includes("/api/v0.")) return send(what, options);
    const known = url.pathname.endsWith("/genesets") ? sets : labels;
    const saves = options?.method === "PUT";
    const headers = new Headers(options?.headers);
    if (opened) headers.set("X-Dataset-Version", opened);
    headers.set("X-Labels-Tab", tab);
    if (saves) headers.set("X-Labels-Known", known.text());
    const late = setTimeout(() => tell({ late: true }), LATE);
    const reply = await (saves ? send : sendUntilAnswered)(what, { ...options, headers }).finally(() => clearTimeout(late));
    const whole = saves || known === sets || url.pathname.endsWith("/schema"); // not single columns
    if (reply.ok) known.hear(reply.headers.get("X-Labels-Known"), whole);
    const heard = { status: reply.status, saves };
    if (reply.ok && url.pathname.endsWith("/config")) heard.config = (await reply.clone().json()).config;
    if (!reply.ok && (saves || reply.status >= 422)) {
      const said = await reply.clone().json().catch(() => null);
      const { problem } = (reply.status >= 422 && said) || {}; // from the gateway, if the viewer does not reply
      heard.problem = problem ? { message: problem.sentence, steps: problem.steps } : said;
    }
    for (const name of ["Merged", "Fit", "Own"]) heard[name.toLowerCase()] = JSON.parse(reply.headers.get(`X-Labels-${name}`));
    tell(heard);
    return reply;
  };
})();
