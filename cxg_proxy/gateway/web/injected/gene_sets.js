// Added to cellxgene's page by the gateway: where gene sets are not saved, nobody can create or change one. Otherwise
// cellxgene's page would let everybody do so, and lose the changes silently. Gene sets can still be viewed and used as
// colours.
(() => {
  const SAID = "Gene sets cannot be changed in this viewer.";
  const CREATE = '[data-testid="open-create-geneset-dialog"]';
  const EDIT = `
    [data-testclass="handleAddNewGeneToGeneset"],
    [data-testclass="activateEditGenesetNameMode"],
    [data-testclass="handleDeleteGeneset"],
    [data-testclass="gene-set-genes"] [data-testid^="delete-from-geneset:"] { display: none !important; }
    :has(> [data-testclass="handleAddNewGeneToGeneset"]) ~ * [data-testclass="seeActions"] { display: none !important; }`;

  function disable() {
    const button = document.querySelector(CREATE);
    if (button && !button.disabled) Object.assign(button, { disabled: true, title: SAID });
  }

  window.addEventListener("cxg-proxy", function hear({ detail: { config } }) {
    if (!config?.parameters?.annotations_genesets_readonly) return;
    window.removeEventListener("cxg-proxy", hear);
    const style = new CSSStyleSheet();
    style.replaceSync(EDIT);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, style];
    new MutationObserver(disable).observe(document.body, { childList: true, subtree: true }); // React recreates it
    disable();
  });
})();
