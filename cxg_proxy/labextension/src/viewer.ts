// A dataset in a tab: a line that says how its viewer is, and the viewer in a frame, or why there is none.
import { Poll } from "@lumino/polling";
import { Widget } from "@lumino/widgets";

import { Dataset, Finder } from "./finder";
import { Problem, explained, problemOf } from "./problem";

const EVERY = 5000; // milliseconds
const RARELY = 60000; // while there is no answer
const NARROWEST = 1240; // pixels: cellxgene's page is never narrower, so in a narrower tab it is made smaller
const SMALLEST = 0.6; // but not smaller than can be read
const OVER: Record<string, string> = { closing: "Stopped", closed: "Stopped", failed: "Failed" };

export class Viewer extends Widget {
  private readonly line = make("div", "line");
  private readonly state = make("span", "state");
  private readonly reopen = make("button", "reopen jp-mod-styled", "Reopen");
  private readonly away = make("a", "away", "Open in New Browser Tab");
  private readonly frame = make("iframe", "frame");
  private readonly place = make("div", "place");
  private readonly leave = make("button", "leave jp-mod-styled", "Leave the viewer");
  private readonly again = make("button", "again jp-mod-styled", "Try Again");
  private readonly sizes = new ResizeObserver(() => this.shrink());
  private opened = ""; // the address in the frame
  private loading = false;
  private told = "";
  private lasting = false; // what keeps the viewer away: then it is for a person to try again
  private settled = false; // while JupyterLab restores its tabs, each is shown for a moment

  private readonly poll = new Poll({
    auto: false,
    factory: () => this.ask(),
    frequency: { interval: EVERY, backoff: true, max: RARELY },
    standby: () => !this.isVisible || document.hidden || this.lasting,
  });

  constructor(
    private readonly finder: Finder,
    private readonly path: () => string,
    restored: Promise<void>,
  ) {
    super();
    this.addClass("cxg-Viewer");
    this.state.setAttribute("role", "status");
    this.away.target = "_blank";
    this.away.title = "The key F6 leads here from the viewer";
    this.reopen.onclick = () => this.open(this.opened);
    this.leave.onclick = () => this.away.focus();
    this.again.onclick = () => this.retry();
    this.frame.onload = () => this.loaded();
    this.line.append(this.state, this.reopen, this.away);
    this.place.append(this.frame);
    this.sizes.observe(this.place);
    void restored.then(() => this.settle());
  }

  override dispose(): void {
    this.poll.dispose();
    this.sizes.disconnect();
    super.dispose();
  }

  /** Ask the gateway now; a tab that nobody sees asks nothing, and loads nothing. */
  wake(): void {
    if (!this.settled || !this.isVisible) return;
    this.lasting = false;
    void this.poll.refresh();
  }

  protected override onAfterAttach(): void {
    this.wake();
  }

  /** Not every way in which JupyterLab hides a tab can be seen from inside the frame; this one can. */
  protected override onAfterHide(): void {
    this.frame.style.display = "none";
  }

  protected override onBeforeShow(): void {
    this.frame.style.display = "";
  }

  protected override onAfterShow(): void {
    this.wake();
  }

  protected override onActivateRequest(): void {
    (this.frame.isConnected ? this.frame : this.again).focus();
  }

  private settle(): void {
    this.settled = true;
    this.wake();
  }

  private async ask(): Promise<void> {
    try {
      const found = await this.finder.find(this.path());
      if (!this.isDisposed) this.present(found);
    } catch (thrown) {
      if (!this.isDisposed) this.explain(problemOf(thrown));
      throw thrown; // and the poll asks less often
    }
  }

  private present(found: Dataset): void {
    const view = this.finder.link(found.view);
    this.told = "";
    this.title.label = found.title;
    this.frame.title = `cellxgene: ${found.title}`;
    this.away.href = view;
    if (view !== this.opened) this.open(view);
    const over = this.loading ? "" : (OVER[found.phase] ?? "");
    this.say(over || (found.phase === "ready" ? "Running" : "Opening…"), over !== "");
  }

  private open(view: string): void {
    const inside = this.node.contains(document.activeElement);
    this.opened = view;
    this.loading = true;
    this.frame.src = view;
    this.say("Opening…", false);
    if (!this.frame.isConnected) this.node.replaceChildren(this.line, this.place, this.leave);
    if (inside || document.activeElement === document.body) this.frame.focus();
  }

  private loaded(): void {
    this.loading = false;
    const inside = this.frame.contentDocument?.defaultView;
    inside?.addEventListener("keydown", (event) => {
      if (event.key === "F6") this.away.focus();
    });
    // A click in the frame is one in this tab, and only so does JupyterLab hear of it.
    inside?.addEventListener("focus", () => this.frame.dispatchEvent(new FocusEvent("focus")));
    this.wake();
  }

  private shrink(): void {
    const { clientWidth, clientHeight } = this.place;
    if (!clientWidth) return; // hidden
    const scale = Math.min(1, Math.max(SMALLEST, clientWidth / NARROWEST));
    const [width, height] = [clientWidth / scale, clientHeight / scale].map((size) => `${size}px`);
    Object.assign(this.frame.style, { width, height, transform: scale < 1 ? `scale(${scale})` : "" });
  }

  private say(words: string, over: boolean): void {
    if (this.state.textContent !== words) this.state.textContent = words; // else it would be read out again
    this.state.dataset.state = words;
    this.reopen.hidden = !over;
    this.title.className = over ? "cxg-mod-over" : "";
  }

  private explain(problem: Problem): void {
    if (this.frame.isConnected) this.say(problem.title, false);
    else if (problem.message !== this.told) this.replace(problem);
    this.lasting = problem.lasting && !this.frame.isConnected; // what is shown may be found again by itself
  }

  private replace(problem: Problem): void {
    const node = explained(problem);
    const tried = document.activeElement === this.again;
    this.told = problem.message;
    node.setAttribute("role", "alert");
    node.prepend(make("h2", "title", problem.title));
    node.append(this.again);
    this.node.replaceChildren(node);
    if (tried) this.again.focus();
  }

  private retry(): void {
    this.told = "";
    this.wake();
  }
}

function make<K extends keyof HTMLElementTagNameMap>(kind: K, part: string, text = ""): HTMLElementTagNameMap[K] {
  const node = document.createElement(kind);
  node.className = `cxg-Viewer-${part}`;
  node.textContent = text;
  return node;
}
