// The two lines of Python that read a dataset's labels, in a cell of their own.
import { NotebookPanel } from "@jupyterlab/notebook";

import { Problem } from "./problem";

/** Insert them below the active cell; throws a Problem where no notebook is open. */
export function insertLabels(panel: NotebookPanel | null, file: string, home: string): void {
  const cells = panel?.content.model?.sharedModel;
  if (!panel || !cells) {
    throw new Problem("No notebook is open", "The lines that read the labels are inserted into an open notebook.", [
      "Open a notebook, go to the cell above the place for them, then choose this again.",
    ]);
  }
  const place = panel.content.activeCellIndex + 1;
  cells.insertCell(place, { cell_type: "code", source: lines(file, home), metadata: { trusted: true } });
  panel.content.activeCellIndex = place;
}

/** A text in JSON is one in Python too, whatever is in it. */
function lines(file: string, home: string): string {
  const place = home && `, home=${JSON.stringify(home)}`;
  return `import cxg_proxy\nlabels = cxg_proxy.labels(${JSON.stringify(file)}${place})`;
}
