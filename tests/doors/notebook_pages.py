"""Notebooks for the tests, and what a person does with them in JupyterLab or Notebook 7."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import FrameLocator, Locator, Page

VIEWER = ".jp-OutputArea-output iframe[title^='cellxgene: ']"


def notebook(*sources: str, output: dict[str, str] | None = None) -> dict[str, Any]:
    """A notebook of these cells; each has the output that somebody else's run has left, if one is given."""
    left = [] if output is None else [{"output_type": "display_data", "metadata": {}, "data": output}]
    kind = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": left}
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    cells = [{**kind, "id": f"cell-{n}", "source": source} for n, source in enumerate(sources)]
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def run_all(page: Page) -> None:
    """Run the notebook of a page by its menu, as soon as its kernel is there: else a dialog would ask for one."""
    page.locator(".jp-KernelName", has_text="Python 3 (ipykernel)").wait_for()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def viewer_in(cell: Locator) -> FrameLocator:
    """The page that the frame in a cell's output shows."""
    return cell.locator(VIEWER).content_frame


def cells(page: Page) -> Locator:
    """The code cells of the notebook."""
    return page.locator(".jp-Notebook .jp-CodeCell")
