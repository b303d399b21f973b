// What the menu of a file and the command palette offer beside opening it.
import { JupyterFrontEnd } from "@jupyterlab/application";
import { Notification } from "@jupyterlab/apputils";
import { INotebookTracker } from "@jupyterlab/notebook";

import { Dataset, Finder } from "./finder";
import { h5adIcon } from "./icons";
import { insertLabels } from "./labels";
import { Problem, tell } from "./problem";

/** The path that is meant: of the file whose menu it is, or else of the tab that is shown. */
export type Target = (ofFile: boolean) => string | undefined;

/** Add the commands; their names, for the menus. */
export function addCommands(
  app: JupyterFrontEnd,
  finder: Finder,
  target: Target,
  notebooks: INotebookTracker | null,
): string[] {
  const meant = async (ofFile: boolean) => {
    const path = target(ofFile);
    if (path === undefined) throw nothingMeant();
    return await finder.find(path);
  };
  const add = (name: string, label: string, execute: (ofFile: boolean) => Promise<void>, isVisible = true) => {
    app.commands.addCommand(`cxg-proxy:${name}`, {
      label,
      icon: h5adIcon,
      isVisible: () => isVisible,
      execute: (args) => execute(args.ofFile === true).catch(tell),
    });
    return `cxg-proxy:${name}`;
  };
  return [
    add("open-in-browser", "Open cellxgene in New Browser Tab", async (ofFile) => {
      await openInBrowser(async () => finder.link((await meant(ofFile)).view));
    }),
    add("copy-link", "Copy cellxgene Share Link", async (ofFile) => {
      await copy(finder.link(shareable(await meant(ofFile))));
    }),
    add(
      "insert-labels",
      "Insert Labels into Notebook",
      async (ofFile) => {
        const { file, home } = await meant(ofFile);
        insertLabels(notebooks?.currentWidget ?? null, file, home);
        app.shell.activateById(notebooks?.currentWidget?.id ?? "");
      },
      notebooks !== null,
    ),
  ];
}

/** The tab is opened at once: browsers let a click open one, but not what comes some seconds after it. */
async function openInBrowser(address: () => Promise<string>): Promise<void> {
  const page = window.open("about:blank");
  try {
    const found = await address();
    if (!page) throw refused("open a tab", found);
    page.opener = null;
    page.location.replace(found);
  } catch (problem) {
    page?.close();
    throw problem;
  }
}

async function copy(link: string): Promise<void> {
  try {
    if (window.isSecureContext) await navigator.clipboard.writeText(link);
    else copyByCommand(link);
  } catch {
    throw refused("copy", link);
  }
  Notification.success(`Copied ${link}`, { autoClose: 5000 });
}

/** Plain http has no other clipboard. */
function copyByCommand(link: string): void {
  const put = (event: ClipboardEvent) => {
    event.preventDefault();
    event.clipboardData?.setData("text/plain", link);
  };
  document.addEventListener("copy", put);
  const done = document.execCommand("copy");
  document.removeEventListener("copy", put);
  if (!done) throw new Error("refused");
}

function shareable(dataset: Dataset): string {
  if (dataset.share) return dataset.share;
  throw new Problem("Only you have this dataset", `${dataset.title}: a colleague's link leads to their own folder.`, [
    "Put the file into a folder that you share, and that is a library of cellxgene for both of you.",
    "Ask your administrator which libraries there are.",
  ]);
}

function nothingMeant(): Problem {
  return new Problem("Which dataset?", "No dataset is chosen.", [
    "Choose an .h5ad file in the file browser, or go to a tab that shows one; then choose this again.",
  ]);
}

function refused(what: string, link: string): Problem {
  return new Problem(`The browser refused to ${what}`, "This is the address that was meant.", [`\`${link}\``]);
}
