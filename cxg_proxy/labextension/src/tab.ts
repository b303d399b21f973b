// The tab as one of JupyterLab's documents: opened by a double-click, restored, renamed and closed with its file.
import { MainAreaWidget } from "@jupyterlab/apputils";
import {
  ABCWidgetFactory,
  Context,
  DocumentModel,
  DocumentRegistry,
  IDocumentWidget,
  TextModelFactory,
} from "@jupyterlab/docregistry";
import { Contents } from "@jupyterlab/services";

import { Finder } from "./finder";
import { h5adIcon } from "./icons";
import { Problem, tell } from "./problem";
import { Viewer } from "./viewer";

export const FACTORY = "cellxgene";
const MODEL = "cxg-proxy";

export const FILE_TYPE: Partial<DocumentRegistry.IFileType> = {
  name: "h5ad",
  displayName: "AnnData",
  extensions: [".h5ad"],
  mimeTypes: ["application/x-hdf5"],
  contentType: "file",
  fileFormat: null,
  icon: h5adIcon,
};

/** What JupyterLab holds of a file: nothing. It is "collaborative": others care for what is saved. */
class Untouched extends DocumentModel {
  /** Else JupyterLab would have the server copy the whole file, as a checkpoint, when it is opened. */
  override get collaborative(): boolean {
    return true;
  }

  override toString(): string {
    throw new Error("A dataset is never written from here.");
  }
}

export class UntouchedFactory extends TextModelFactory {
  constructor() {
    super(false); // no shared document is asked for either
  }

  override get name(): string {
    return MODEL;
  }

  /** None: then JupyterLab asks for the file's name and date, and not for its content. */
  override get fileFormat(): Contents.FileFormat {
    return null;
  }

  override createNew(): DocumentModel {
    return new Untouched();
  }
}

/** Not a DocumentWidget: that one renames its file when the title is set, and ours is the dataset's. */
export class Tab extends MainAreaWidget<Viewer> implements IDocumentWidget<Viewer> {
  constructor(
    readonly context: DocumentRegistry.Context,
    finder: Finder,
    restored: Promise<void>,
  ) {
    super({ content: new Viewer(finder, () => context.path, restored), reveal: context.ready });
    this.toolbar.hide();
    this.rename();
    this.content.title.icon = h5adIcon;
    context.pathChanged.connect(this.rename, this);
    protect(context);
  }

  /** A dataset has no places inside that a link could lead to. */
  setFragment(): void {
    return;
  }

  private rename(): void {
    this.content.title.label = this.context.localPath.split("/").pop() ?? "";
    this.content.wake();
  }
}

export class TabFactory extends ABCWidgetFactory<Tab> {
  constructor(
    private readonly finder: Finder,
    private readonly restored: Promise<void>,
  ) {
    const types = { fileTypes: ["h5ad"], defaultFor: ["h5ad"] };
    super({ name: FACTORY, label: FACTORY, modelName: MODEL, readOnly: true, ...types });
  }

  protected override createNewWidget(context: DocumentRegistry.Context): Tab {
    return new Tab(context, this.finder, this.restored);
  }
}

/** Have JupyterLab write nothing over the file, nor beside it: it would write what it holds of it. */
function protect(context: DocumentRegistry.Context): void {
  const real = Object.getOwnPropertyDescriptor(Context.prototype, "contentsModel");
  const readOnly = () => {
    const model = real?.get?.call(context);
    return model && { ...model, writable: false };
  };
  Object.defineProperty(context, "contentsModel", { get: readOnly });
  context.listCheckpoints = async () => []; // the server makes a folder for them when it is asked
  context.saveAs = async () => {
    await tell(nothingToSave());
    return false;
  };
}

function nothingToSave(): Problem {
  return new Problem(
    "Nothing to save here",
    "cellxgene saves labels by itself, and leaves a dataset's file as it is.",
    [
      "To copy the file, choose Duplicate in the file browser.",
      "To have your labels in a copy, choose “labels” beside cellxgene's logo.",
    ],
  );
}
