"""What becomes of a file that two have changed: neither silently loses what the other added."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxg_proxy import annotations
from cxg_proxy.annotations import SeenState
from cxg_proxy.annotations.merge import MAX_PARTS, merge_gene_sets, merge_labels
from cxg_proxy.annotations.tables import GeneSet, LabelTable, gene_sets_csv, labels_csv, read_gene_sets, read_labels
from cxg_proxy.errors import LabelsNotSaved
from cxg_proxy.files import atomic

CELLS = ("c1", "c2", "c3")
Columns = dict[str, tuple[str, ...]]

names = st.sampled_from(["type", "state", "batch", "#x", 'a,"b"', "ä\N{GRINNING FACE}"])
labels = st.sampled_from(["T", "B", "unassigned", "=1", "# no comment", ""])
columns = st.dictionaries(names, st.tuples(labels, labels, labels), max_size=4)


def csv(columns: Columns, cells: tuple[str, ...] = CELLS, *, header: str = "") -> bytes:
    return (header + (labels_csv(LabelTable("index", cells, columns)) if columns else "")).encode()


def merged(mine: Columns, theirs: Columns, base: Columns) -> Columns:
    return read_labels(merge_labels(csv(mine), csv(theirs), SeenState.of(base)).content).columns


@given(columns, columns, columns)
def test_a_column_is_taken_from_whoever_changed_it_and_from_the_latest_if_both_did(
    base: Columns, mine: Columns, theirs: Columns
) -> None:
    result = merged(mine, theirs, base)
    for name in {**base, **mine, **theirs}:
        before, ours, others = base.get(name), mine.get(name), theirs.get(name)
        if ours == before:
            expected = others
        elif others == before:
            expected = ours
        else:
            expected = others if ours is None else ours
        assert result.get(name) == expected


@given(columns, columns, columns)
def test_what_both_changed_is_named(base: Columns, mine: Columns, theirs: Columns) -> None:
    outcome = merge_labels(csv(mine), csv(theirs), SeenState.of(base))
    both = {
        name
        for name in {**mine, **theirs}
        if name in mine and name in theirs and mine[name] != theirs[name]
        if base.get(name) not in (mine[name], theirs[name])
    }
    assert set(outcome.replaced) == both
    assert outcome.is_mine == (read_labels(outcome.content).columns == mine)


@given(columns, columns)
def test_who_knows_nothing_removes_nothing(mine: Columns, theirs: Columns) -> None:
    assert merged(mine, theirs, {}) == {**theirs, **mine}


@given(columns)
def test_a_save_that_meets_nobody_is_written_as_it_is(mine: Columns) -> None:
    for theirs in (mine, {}):
        outcome = merge_labels(csv(mine, header="# mine\n"), csv(theirs), SeenState.of(theirs))
        assert outcome.content == csv(mine, header="# mine\n")
        assert outcome.is_mine


def test_the_comment_of_the_latest_save_stays_above_a_merged_table() -> None:
    outcome = merge_labels(csv({"a": ("x", "x", "x")}, header="# mine\n"), csv({"b": ("y", "y", "y")}), SeenState())
    assert outcome.content.startswith(b"# mine\nindex,a,b\nc1,x,y\n")


def test_labels_are_matched_by_cell_and_those_of_cells_that_are_gone_are_counted() -> None:
    theirs = csv({"b": ("y", "z", "y", "unassigned")}, ("c3", "c1", "gone", "gone unlabelled"))
    outcome = merge_labels(csv({"a": ("x", "x", "x")}), theirs, SeenState())
    assert read_labels(outcome.content).columns == {"a": ("x", "x", "x"), "b": ("z", "unassigned", "y")}
    assert outcome.left_behind == 1


def test_a_writer_without_categories_merges_for_the_cells_of_the_dataset() -> None:
    theirs = csv({"b": ("y", "z")}, ("c3", "gone"))
    outcome = merge_labels(b"", theirs, SeenState(), CELLS)
    assert read_labels(outcome.content) == LabelTable("index", CELLS, {"b": ("unassigned", "unassigned", "y")})
    assert outcome.left_behind == 1


set_names = st.sampled_from(["s", "t", "# u"])
gene_sets = st.dictionaries(
    set_names, st.tuples(st.sampled_from(["", "why"]), st.lists(st.sampled_from(["CD3E", "CD8A"]), unique=True))
)


@given(gene_sets, gene_sets, gene_sets)
def test_gene_sets_are_merged_like_columns(base: dict, mine: dict, theirs: dict) -> None:  # type: ignore[type-arg]
    def sets(plain: dict) -> dict[str, GeneSet]:  # type: ignore[type-arg]
        return {name: GeneSet(name, why, tuple((gene, "") for gene in genes)) for name, (why, genes) in plain.items()}

    def text(plain: dict) -> bytes:  # type: ignore[type-arg]
        return gene_sets_csv(sets(plain).values()).encode()

    outcome = merge_gene_sets(text(mine), text(theirs), SeenState.of(sets(base)))
    result = read_gene_sets(outcome.content)
    for name, each in sets(theirs).items():
        if name not in base and name not in mine:
            assert result[name] == each
    for name, each in sets(mine).items():
        if sets(base).get(name) != each:
            assert result[name] == each
    assert read_gene_sets(text(mine)) == sets(mine)


# --- what a page says it knows ---


@given(columns, st.sampled_from(["", "0123456789abcdef"]))
def test_what_is_known_survives_the_way_through_a_header(known: Columns, whole: str) -> None:
    there = SeenState.of(known, whole)
    assert str(there).isascii()
    assert SeenState.from_text(str(there)) == there


@given(st.text() | st.from_regex(r"[\w-]{0,40}:?[\w-]{0,40}"))
def test_what_cannot_be_read_is_nothing_known(text: str) -> None:
    known = SeenState.from_text(text)
    assert known in (SeenState(), SeenState.from_text(str(known)))


def test_of_more_columns_than_fit_a_header_only_the_whole_is_known() -> None:
    many = {str(number): ("x",) for number in range(MAX_PARTS)}
    assert len(SeenState.from_text(str(SeenState.of(many))).parts) == MAX_PARTS
    more = SeenState.of({**many, "one more": ("x",)}, "0123456789abcdef")
    assert SeenState.from_text(str(more)) == SeenState("0123456789abcdef")


def test_a_part_of_what_is_known_can_be_told() -> None:
    known = SeenState.of({"a": ("x",), "b": ("y",)}, "0123456789abcdef")
    assert known.only(["b", "none"]).parts == SeenState.of({"b": ("y",)}).parts


# --- the same on disk ---


class Tab:
    """A page: it knows what it read and wrote, as the viewer's script does."""

    def __init__(self, where: Path) -> None:
        self.where = where
        content = annotations.read(where, annotations.LABELS) or b""
        self.columns = dict(read_labels(content).columns)
        self.known = SeenState.of(self.columns, annotations.digest(content))

    def save(self, **changes: str | None) -> annotations.Outcome:
        for name, label in changes.items():
            if label is None:
                self.columns.pop(name)
            else:
                self.columns[name] = (label,) * len(CELLS)
        outcome = annotations.write(self.where, annotations.LABELS, csv(self.columns), seen=self.known)
        self.known = SeenState.of(self.columns, outcome.whole)
        return outcome


def on_disk(where: Path) -> Columns:
    return read_labels(annotations.read(where, annotations.LABELS) or b"").columns


def test_two_tabs_that_add_different_columns_both_keep_them(tmp_path: Path) -> None:
    one, other = Tab(tmp_path), Tab(tmp_path)
    one.save(type="T")
    assert other.save(state="old").kept == ("type",)
    one.save(type="B")
    assert set(on_disk(tmp_path)) == {"type", "state"}
    assert on_disk(tmp_path)["type"] == ("B",) * 3


def test_what_a_tab_removes_is_gone_although_another_tab_still_shows_it(tmp_path: Path) -> None:
    one = Tab(tmp_path)
    one.save(type="T", state="old")
    other = Tab(tmp_path)
    one.save(state=None)
    outcome = other.save(type="B")
    assert outcome.removed == ("state",)
    assert on_disk(tmp_path) == {"type": ("B",) * 3}
    one.save(type="NK")
    assert "state" not in on_disk(tmp_path)


def test_a_column_that_was_restored_is_not_removed_again_by_the_tab_that_had_removed_it(tmp_path: Path) -> None:
    tab = Tab(tmp_path)
    tab.save(type="T", state="old")
    tab.save(state=None)
    (before,) = [each for each in annotations.versions(tmp_path) if "state" in each.columns]
    annotations.restore(tmp_path, before.id)
    tab.save(type="B")
    assert on_disk(tmp_path) == {"type": ("B",) * 3, "state": ("old",) * 3}


def test_of_a_column_that_both_changed_the_newest_is_current_and_the_other_is_marked_and_restorable(
    tmp_path: Path,
) -> None:
    Tab(tmp_path).save(type="T")
    one, other = Tab(tmp_path), Tab(tmp_path)
    one.save(type="mine")
    assert other.save(type="theirs").replaced == ("type",)
    assert on_disk(tmp_path)["type"] == ("theirs",) * 3
    newest, lost, first = annotations.versions(tmp_path)
    assert (newest.replaced, newest.lost, lost.lost, first.lost) == (("type",), False, True, False)
    annotations.restore(tmp_path, lost.id)
    assert on_disk(tmp_path)["type"] == ("mine",) * 3


def test_a_storm_of_saves_does_not_push_out_what_it_replaced(tmp_path: Path) -> None:
    start, columns = 1_700_000_000.0, {"type": ("a", "a", "a")}
    annotations.write(tmp_path, annotations.LABELS, csv(columns), now=start)
    annotations.write(tmp_path, annotations.LABELS, csv({"type": ("an", "hour's", "work")}), now=start + 1)
    for second in range(2, 50):  # a tab that had been asleep: it knows the first version, and then its own
        known, columns = SeenState.of(columns), {"type": (str(second),) * 3}
        annotations.write(tmp_path, annotations.LABELS, csv(columns), seen=known, now=start + second)
    annotations.write(tmp_path, annotations.LABELS, csv({"type": ("z",) * 3}), now=start + 86_400)
    (work,) = [each for each in annotations.versions(tmp_path) if each.lost]
    assert b"c2,hour's" in annotations.read_version(tmp_path, work.id)
    assert len(annotations.versions(tmp_path)) < 5


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_a_save_that_meets_a_file_nobody_can_read_replaces_it_and_the_history_has_it(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    where = tmp_path_factory.mktemp("labels")
    (where / annotations.LABELS).write_bytes(content)
    annotations.write(where, annotations.LABELS, csv({"type": ("T",) * 3}), seen=SeenState())
    assert "type" in on_disk(where)
    assert content in [annotations.read_version(where, each.id) for each in annotations.versions(where)] or not content


def test_labels_of_cells_that_are_gone_are_kept_whole_beside_the_new_ones(tmp_path: Path) -> None:
    old = csv({"type": ("T", "B", "NK", "T")}, ("c1", "c2", "c3", "gone"))
    annotations.write(tmp_path, annotations.LABELS, old)
    for _ in range(2):
        annotations.write(tmp_path, annotations.LABELS, csv({"state": ("x",) * 3}), seen=SeenState())
    assert on_disk(tmp_path) == {"state": ("x",) * 3, "type": ("T", "B", "NK")}
    (kept,) = tmp_path.glob("cell-labels-of-other-cells-*.csv")
    assert kept.read_bytes() == old
    assert kept.stat().st_mode & 0o777 == 0o600


def test_an_edit_between_the_look_and_the_replacement_is_merged_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab = Tab(tmp_path)
    tab.save(type="T")
    edits = [csv({"type": ("T",) * 3, "by hand": (str(number),) * 3}) for number in range(2)]
    create = atomic.create

    def edited_meanwhile(folder: int, name: str, content: bytes, **how: bool) -> None:
        create(folder, name, content, **how)
        if name.startswith(f".{annotations.LABELS}.") and edits:
            (tmp_path / annotations.LABELS).write_bytes(edits.pop())

    monkeypatch.setattr(atomic, "create", edited_meanwhile)
    assert tab.save(type="B").kept == ("by hand",)
    assert on_disk(tmp_path) == {"type": ("B",) * 3, "by hand": ("0",) * 3}


def test_a_file_that_another_program_writes_again_and_again_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab = Tab(tmp_path)
    tab.save(type="T")
    create, edits = atomic.create, []

    def edited_meanwhile(folder: int, name: str, content: bytes, **how: bool) -> None:
        create(folder, name, content, **how)
        if name.startswith(f".{annotations.LABELS}."):
            edits.append(csv({"type": ("T",) * 3, "by hand": (str(len(edits)),) * 3}))
            (tmp_path / annotations.LABELS).write_bytes(edits[-1])

    monkeypatch.setattr(atomic, "create", edited_meanwhile)
    with pytest.raises(LabelsNotSaved, match="another program keeps writing"):
        tab.save(type="B")
    assert annotations.read(tmp_path, annotations.LABELS) == edits[-1]
    assert sorted(each.name for each in tmp_path.iterdir()) == [annotations.LABELS, "history"]


# --- a dataset under another name ---


def saved_for(home: Path, dataset: str, identifiers: str, columns: Columns, now: float) -> Path:
    where = annotations.named(home, f"/data/{dataset}")
    record = annotations.DatasetRecord(dataset, f"/data/{dataset}", 3, identifiers)
    annotations.write(where, annotations.LABELS, csv(columns), record=lambda: record, now=now)
    return where


def test_a_dataset_that_was_renamed_finds_its_labels_and_takes_them_over(tmp_path: Path) -> None:
    these, others = annotations.identifiers_digest(CELLS), annotations.identifiers_digest(["x"])
    old = saved_for(tmp_path, "old.h5ad", these, {"type": ("T", "B", "T"), "mine": ("1",) * 3}, 1.0)
    saved_for(tmp_path, "unlike.h5ad", others, {"type": ("x",) * 3}, 2.0)
    (tmp_path / "a file").touch()
    (tmp_path / "a link").symlink_to(old)
    new = annotations.named(tmp_path, "/data/new.h5ad")
    ((found, record),) = annotations.same_cells(tmp_path, these, excluding=new)
    assert (found, record.name) == (old, "old.h5ad")
    annotations.write(new, annotations.LABELS, csv({"type": ("a", "b", "c"), "state": ("s",) * 3}))
    annotations.adopt(new, found)
    assert on_disk(new) == {"type": ("T", "B", "T"), "mine": ("1",) * 3, "state": ("s",) * 3}
    newest, lost = annotations.versions(new)
    assert (newest.origin, newest.replaced, lost.lost) == ("adopted", ("type",), True)
    assert on_disk(old) == {"type": ("T", "B", "T"), "mine": ("1",) * 3}
    assert annotations.same_cells(tmp_path, these, excluding=old)[0:] == []
    assert annotations.same_cells(tmp_path / "none", these, excluding=old) == []


def test_of_datasets_with_the_same_cells_the_one_with_the_latest_save_comes_first(tmp_path: Path) -> None:
    these = annotations.identifiers_digest(CELLS)
    folders = [saved_for(tmp_path, f"{name}.h5ad", these, {"type": ("T",) * 3}, 1.0) for name in "bdac"]
    for second, folder in enumerate(folders):
        os.utime(folder / annotations.LABELS, (second, second))
    found = annotations.same_cells(tmp_path, these, excluding=tmp_path / "new")
    assert [folder for folder, _ in found] == folders[::-1]
