// cellxgene in JupyterLab: what an .h5ad file is, how it is opened, and what its menu offers.
import { ILabShell, ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, WidgetTracker } from "@jupyterlab/apputils";
import { IFileBrowserFactory } from "@jupyterlab/filebrowser";
import { INotebookTracker } from "@jupyterlab/notebook";

import { addCommands } from "./commands";
import { Finder } from "./finder";
import { FACTORY, FILE_TYPE, Tab, TabFactory, UntouchedFactory } from "./tab";

const ITEM = '.jp-DirListing-item[data-file-type="h5ad"]';

const plugin: JupyterFrontEndPlugin<void> = {
  id: "cxg-proxy:plugin",
  description: "Opens .h5ad files in cellxgene.",
  autoStart: true,
  optional: [IFileBrowserFactory, ILayoutRestorer, ICommandPalette, INotebookTracker, ILabShell],
  activate: (
    app: JupyterFrontEnd,
    browsers: IFileBrowserFactory | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    notebooks: INotebookTracker | null,
    lab: ILabShell | null, // Notebook 7 lists the files on a page that has no notebook
  ) => {
    const finder = new Finder(app.serviceManager.contents, app.serviceManager.serverSettings);
    const tabs = addTabs(app, finder, restorer);
    const shown = () => tabs.find((tab) => tab === app.shell.currentWidget)?.context.path;
    const chosen = () => [...(browsers?.tracker.currentWidget?.selectedItems() ?? [])].find(isDataset)?.path;
    const target = (ofFile: boolean) => (ofFile ? chosen() : (shown() ?? chosen()));
    addCommands(app, finder, target, lab && notebooks).forEach((command, index) => {
      app.contextMenu.addItem({ command, args: { ofFile: true }, selector: ITEM, rank: 3 + index / 10 });
      palette?.addItem({ command, category: "cellxgene" });
    });
  },
};

function addTabs(app: JupyterFrontEnd, finder: Finder, restorer: ILayoutRestorer | null): WidgetTracker<Tab> {
  const tabs = new WidgetTracker<Tab>({ namespace: "cxg-proxy" });
  const factory = new TabFactory(finder, app.restored);
  factory.widgetCreated.connect((_, tab) => {
    tab.context.pathChanged.connect(() => void tabs.save(tab));
    void tabs.add(tab);
  });
  app.docRegistry.addFileType(FILE_TYPE);
  app.docRegistry.addModelFactory(new UntouchedFactory());
  app.docRegistry.addWidgetFactory(factory);
  void restorer?.restore(tabs, {
    command: "docmanager:open",
    args: (tab) => ({ path: tab.context.path, factory: FACTORY }),
    name: (tab) => tab.context.path,
  });
  return tabs;
}

function isDataset(item: { path: string }): boolean {
  return item.path.endsWith(".h5ad");
}

export default plugin;
