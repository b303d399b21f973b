// A frame in JupyterLab or in a notebook's output is named after one dataset, and its menu refers to that dataset.
// Links that lead to anything else therefore open a new tab of the browser.
"use strict";
if (window !== window.parent) {
  const which = (path) => /\/(?:view|annotations)\/(.+?\.h5ad)(?:\/|$)/.exec(path)?.[1] ?? path;
  document.addEventListener("click", ({ target }) => {
    const link = target.closest("a[href]");
    if (link && which(link.pathname) !== which(location.pathname)) link.target = "_blank";
  });
}
