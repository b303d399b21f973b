// What keeps a person from what they wanted: what happened, to which file, and what to do next.
import { Dialog, showDialog } from "@jupyterlab/apputils";
import { Widget } from "@lumino/widgets";

/** Mostly in the gateway's own words; in `steps`, text between backquotes is a command. */
export class Problem extends Error {
  constructor(
    readonly title: string,
    sentence: string,
    readonly steps: readonly string[],
    readonly lasting = false, // it does not go by itself
  ) {
    super(sentence);
  }
}

/** Anything that was thrown, as a problem. */
export function problemOf(thrown: unknown): Problem {
  if (thrown instanceof Problem) return thrown;
  return new Problem("This did not work", String(thrown), ["Reload this page, then try again."]);
}

/** The sentence and the steps, to be shown below the title. */
export function explained(problem: Problem): HTMLElement {
  const node = document.createElement("div");
  node.className = "cxg-Problem";
  const sentence = document.createElement("p");
  sentence.textContent = problem.message;
  const steps = document.createElement("ul");
  for (const step of problem.steps) {
    const item = document.createElement("li");
    step.split("`").forEach((part, index) => item.append(index % 2 ? code(part) : part));
    steps.append(item);
  }
  node.append(sentence, steps);
  return node;
}

/** Show a problem over the page. */
export async function tell(thrown: unknown): Promise<void> {
  const problem = problemOf(thrown);
  const body = new Widget({ node: explained(problem) });
  await showDialog({ title: problem.title, body, buttons: [Dialog.okButton()] });
}

function code(text: string): HTMLElement {
  const node = document.createElement("code");
  node.textContent = text;
  return node;
}
