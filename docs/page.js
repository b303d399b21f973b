// What Material's script adds to a page cannot be told apart, or reached, by everybody: the places of buttons that copy
// code get names, and a table that is wider than the window can be moved with the keys.
"use strict";
(() => {
  function mend() {
    document.querySelectorAll("nav.md-code__nav").forEach((nav, n) => (nav.ariaLabel = `Code ${n + 1}`));
    for (const wide of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
      if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
    }
  }
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
  addEventListener("resize", mend);
  mend();
})();
