"""What the page of labels shows of the versions, when several pages are asked for at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxg_proxy import annotations
from cxg_proxy.annotations import LABELS
from cxg_proxy.gateway.labels import timeline
from cxg_proxy.gateway.labels.models import Shown


class ClearedByAnother(dict[str, Shown]):
    """Another thread makes room in it as soon as something was remembered."""

    def __setitem__(self, key: str, shown: Shown) -> None:
        super().__setitem__(key, shown)
        self.clear()


def test_labels_are_shown_although_another_page_makes_room_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "_remembered", ClearedByAnother())
    annotations.write(tmp_path, LABELS, b"index,type\na,T\nb,B\n")
    (shown,) = timeline.read_state(tmp_path).shown
    assert [each.name for each in shown.categories] == ["type"]
