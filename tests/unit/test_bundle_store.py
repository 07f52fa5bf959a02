import json

import pandas as pd
import pytest

from crm.errors import DataUnusable, NoModel
from models import bundle_store as store

AT = pd.Timestamp("2026-01-05", tz="UTC")
PARTS = {"win": {"trees": "tree " * 1000, "rates": [1.5, 2.5]}, "amount": {"mean": 7.0}}


def write(workspace, *, trained_as_of="2026-01-05T00:00:00+00:00", parts=None):
    manifest = {"trained_as_of": trained_as_of}
    day = trained_as_of[:10].replace("-", "")
    folder, _ = store.write_bundle_files(workspace, store.part_files(parts or PARTS), manifest, trained_on=day)
    return folder


def test_parts_come_back_as_they_were_written_with_long_texts_in_files_of_their_own(tmp_path):
    folder = write(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "amount.json",
        "manifest.json",
        "win.json",
        "win.trees.txt",
    ]
    manifest, parts = store.read_parts(folder)
    assert parts == PARTS
    assert manifest["model_version"] == folder.name


def test_the_same_content_gets_the_same_name_and_other_content_another(tmp_path):
    assert write(tmp_path) == write(tmp_path)
    assert write(tmp_path) != write(tmp_path, parts={**PARTS, "amount": {"mean": 8.0}})


@pytest.mark.parametrize("name", ["win.json", "win.trees.txt", "manifest.json"])
def test_a_changed_file_is_refused_by_name(tmp_path, name):
    folder = write(tmp_path)
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace("2026-01-05T", "2025-01-05T") if name == "manifest.json" else text + " ")
    with pytest.raises(DataUnusable) as failure:
        store.read_parts(folder)
    assert failure.value.details[0].where == f"bundles/{folder.name}/{name}"


def test_training_the_same_again_repairs_a_damaged_bundle(tmp_path):
    folder = write(tmp_path)
    (folder / "win.json").write_text("{}")
    assert write(tmp_path) == folder
    assert store.read_parts(folder)[1] == PARTS
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_missing_file_is_refused(tmp_path):
    folder = write(tmp_path)
    (folder / "win.trees.txt").unlink()
    with pytest.raises(DataUnusable, match="damaged"):
        store.read_parts(folder)


def test_a_bundle_that_is_not_there_is_no_model(tmp_path):
    with pytest.raises(NoModel):
        store.set_champion(tmp_path, "20260101-00000000", by="me", reason="a typing error", at=AT)
    assert store.read_champion(tmp_path) is None


def test_bundles_are_listed_by_training_moment_then_by_the_last_registration(tmp_path):
    late = write(tmp_path).name
    first, second = (
        write(tmp_path, trained_as_of="2025-06-01T00:00:00+00:00", parts={"n": {"n": n}}).name for n in (1, 2)
    )
    for version in (first, second, late, first):
        store.register(tmp_path, version, at=AT, run_id="run")
    assert [each["model_version"] for each in store.list_bundles(tmp_path)] == [second, first, late]


def test_every_promotion_is_kept_and_a_rollback_goes_one_step_back_each_time(tmp_path):
    versions = [write(tmp_path, parts={"n": {"n": number}}).name for number in range(3)]
    for version in versions:
        store.set_champion(tmp_path, version, by="me", reason="better", at=AT)
    for expected in (versions[1], versions[0]):
        assert store.previous_champion(tmp_path) == expected
        store.set_champion(tmp_path, expected, by="me", reason="rollback", at=AT)
        assert store.read_champion(tmp_path) == expected
    with pytest.raises(NoModel):
        store.previous_champion(tmp_path)
    assert [each.champion for each in store.list_promotions(tmp_path)] == [*versions, versions[1], versions[0]]


def test_a_model_promoted_again_by_hand_can_be_rolled_back_to_the_one_before_it(tmp_path):
    versions = [write(tmp_path, parts={"n": {"n": number}}).name for number in range(2)]
    for version in (*versions, versions[0]):
        store.set_champion(tmp_path, version, by="me", reason="by hand", at=AT)
    assert store.previous_champion(tmp_path) == versions[1]


def test_a_bundle_holds_text_that_any_json_reader_reads(tmp_path):
    folder = write(tmp_path)
    for path in folder.glob("*.json"):
        json.loads(path.read_text("utf-8"))
