// The picture of an .h5ad file: in the file browser, on a tab, and in menus.
import { LabIcon } from "@jupyterlab/ui-components";

import svgstr from "../style/h5ad.svg";

export const h5adIcon = new LabIcon({ name: "cxg-proxy:h5ad", svgstr });
