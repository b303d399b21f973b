// A frame in JupyterLab or in a notebook's output bears one dataset's name, and its menu means this one: so what leads
// to anything else opens a tab of the browser.
"use strict";
if (window !== window.parent) {
  const which = (path) => /\/(?:view|annotations)\/(.+?\.h5ad)(?:\/|$)/.exec(path)?.[1] ?? path;
  document.addEventListener("click", ({ target }) => {
    const link = target.closest("a[href]");
    if (link && which(link.pathname) !== which(location.pathname)) link.target = "_blank";
  });
}
