// Asks the gateway which dataset a file is; nothing of the file itself comes to the browser.
import { Contents, ServerConnection } from "@jupyterlab/services";

import { Problem } from "./problem";

/** What the gateway says of a dataset; its addresses are relative to the gateway's root. */
export interface Dataset {
  title: string;
  file: string;
  home: string; // of its labels, "" for the usual one
  view: string;
  share: string;
  phase: string;
  running: boolean;
}

// A drive that holds this server's own files: JupyterLab's, and that of jupyter-collaboration.
const OURS = ["", "RTC"];

export class Finder {
  constructor(
    private readonly contents: Contents.IManager,
    private readonly settings: ServerConnection.ISettings,
  ) {}

  /** An address of the gateway, as a link. */
  link(address: string): string {
    return new URL(address, new URL("cellxgene/", this.settings.baseUrl)).href;
  }

  /** The dataset of a path in JupyterLab's file browser; throws a Problem if there is none. */
  async find(path: string): Promise<Dataset> {
    const drive = this.contents.driveName(path);
    if (!OURS.includes(drive)) throw elsewhere(path, drive);
    // With `./`, a folder whose name is `~` is not taken for somebody's home.
    const query = new URLSearchParams({ path: `./${this.contents.localPath(path)}` });
    const reply = await this.ask(this.link(`api/find?${query}`));
    const said = await reply.json().catch(() => null);
    if (reply.ok && said?.view) return said;
    if (said?.problem)
      throw new Problem(said.problem.title, said.problem.sentence, said.problem.steps, reply.status < 500);
    if (reply.redirected || [401, 403].includes(reply.status)) throw loggedOut();
    throw silent(`${reply.status} ${reply.statusText}`.trim());
  }

  private async ask(address: string): Promise<Response> {
    try {
      return await ServerConnection.makeRequest(address, {}, this.settings);
    } catch (problem) {
      throw silent(problem instanceof Error ? problem.message : String(problem));
    }
  }
}

function elsewhere(path: string, drive: string): Problem {
  const sentence = `${path}: this file is in the drive “${drive}”, and cellxgene opens only files of this server.`;
  return new Problem("Not on this server", sentence, ["Copy the file to a folder of this server and open it there."]);
}

function loggedOut(): Problem {
  const steps = ["Reload this page and log in."];
  return new Problem("Not logged in", "The Jupyter server does not know you any more.", steps, true);
}

function silent(detail: string): Problem {
  return new Problem("cellxgene does not answer", `This Jupyter server has no answer from cellxgene (${detail}).`, [
    "Try again in a minute.",
    "If it stays like this, tell your administrator; the log of this Jupyter server says more.",
  ]);
}
