"""Label records that show every damage, the store that pays a label once, and the job in between."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.errors import QuarryError, is_machine_fault
from quarry.failures import FAILURE_CLASSES
from quarry.labeling import store as store_module
from quarry.labeling.record import LabelRecord, encode_records, read_records, read_valid_records, write_records
from quarry.labeling.store import LabelStore, method_id_of
from quarry.structures import Structure

METHOD = {"engine": "function", "function": "stand_in:morse", "arguments": {}}
METHOD_ID = method_id_of(METHOD)
STRUCTURES = [Structure.create([1, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.7 + 0.1 * i]])) for i in range(3)]
ID = STRUCTURES[0].structure_id


def record(structure_id: str = ID, **changes) -> LabelRecord:
    values = {
        "structure_id": structure_id,
        "method_id": METHOD_ID,
        "method": METHOD,
        "status": "ok",
        "message": "",
        "properties": {"energy": -31.7456789012345, "forces": [[0.0, 0.0, 1.5e-7], [0.0, 0.0, -1.5e-7]], "lumo": None},
        "attempts": [{"name": "call", "cycles": None, "converged": True, "wall_s": 0.25, "cpu_s": 0.5}],
        "cost": {"wall_s": 1800.0, "cpu_s": 3500.0, "threads": 4, "peak_memory_MB": 321.5},
        "origin": {"campaign_id": "c", "campaign": "water", "arm": "main", "iteration": 3},
        "host": "node17",
        "versions": {"quarry": "0.1.0"},
        "finished": "2026-11-20T12:00:00+00:00",
    }
    return LabelRecord(**{**values, **changes})


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damage")


class TestRecord:
    def test_round_trip(self, tmp_path):
        records = [record(), record("b" * 20, status="out_of_time", properties={})]
        write_records(tmp_path / "a.json", records)
        assert read_records(tmp_path / "a.json") == records
        assert [r.ok for r in records] == [True, False]

    def test_a_record_is_readable_json(self, tmp_path):
        write_records(tmp_path / "a.json", [record()])
        [data] = json.loads((tmp_path / "a.json").read_text())
        assert data["properties"]["energy"] == -31.7456789012345
        assert data["format"] == 1 and len(data["checksum"]) == 64

    def test_core_hours_are_wall_time_times_threads(self):
        assert record().core_hours == 2.0
        assert record(cost={**record().cost, "tasks": 3}).core_hours == 6.0
        earlier = [["out_of_time", 1800.0, 1000, 3600], ["killed", 1800.0, 1000, 3600]]
        assert record(cost={**record().cost, "earlier_attempts": earlier}).core_hours == 6.0

    def test_a_label_holds_numbers_and_a_failure_need_not(self):
        wrong = {"energy": "low"}
        with pytest.raises(ValueError, match="energy"):
            LabelRecord.from_json(record(properties=wrong).to_json())
        failed = record(status="engine_error", properties=wrong)
        assert LabelRecord.from_json(failed.to_json()) == failed

    def test_the_bytes_do_not_depend_on_the_order_of_keys(self):
        turned = record(properties=dict(reversed(list(record().properties.items()))))
        assert encode_records([turned]) == encode_records([record()])

    def check_damage(self, folder: Path, data: bytes) -> bool:
        """Whether the damage is seen; what is not seen must be harmless."""
        path = folder / "damaged.json"
        path.write_bytes(data)
        try:
            found = read_records(path)
        except ValueError as error:
            assert "\n" not in str(error) and "damaged.json" in str(error)
            return True
        assert found == [record()]
        return False

    @given(st.data())
    def test_a_changed_byte_is_seen(self, folder, data):
        whole = encode_records([record()])
        place, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
        damaged = whole[:place] + bytes([value]) + whole[place + 1 :]
        seen = self.check_damage(folder, damaged)
        # Blanks between the values, an E instead of an e, 1800E0 instead of 1800.0 say the same thing.
        assert seen or json.loads(damaged) == json.loads(whole)

    @pytest.mark.parametrize("flip", [1, 4, 128])
    def test_every_flipped_bit_is_seen(self, folder, flip):
        whole = encode_records([record()])
        for place in range(len(whole)):
            damaged = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
            assert self.check_damage(folder, damaged), place

    def test_every_truncation_is_seen(self, folder):
        whole = encode_records([record()])
        for length in range(len(whole.rstrip())):
            assert self.check_damage(folder, whole[:length])

    @pytest.mark.parametrize("text", ["[]", "{}", "null", "[1]", "[{}]", '[{"format": 1}]', "\0\0\0\0", "[[]]", '"a"'])
    def test_what_is_no_record_is_refused(self, folder, text):
        assert self.check_damage(folder, text.encode())

    def test_a_format_to_come_is_no_record_of_ours(self):
        with pytest.raises(ValueError, match="not a label record of this format"):
            LabelRecord.from_json(record(format=2).to_json())

    def test_read_valid_records_says_what_to_do(self, tmp_path):
        (tmp_path / "a.json").write_text("[")
        with pytest.raises(QuarryError, match="start again") as caught:
            read_valid_records(tmp_path / "a.json")
        assert "\n" not in str(caught.value)


@pytest.fixture
def store(tmp_path) -> LabelStore:
    return LabelStore(tmp_path / "label_store", METHOD_ID, METHOD)


class TestStore:
    def test_a_look_finds_the_record_and_a_fault_of_the_store_is_one_of_the_machine(self, store):
        store.put(record())
        assert store.look(ID) == record() and store.look("0" * 20) is None
        assert is_machine_fault(store_module.StoreError("store", "full"))

    def test_layout(self, store, tmp_path):
        store.put(record())
        path = tmp_path / "label_store" / METHOD_ID / ID[:2] / f"{ID}.json"
        assert read_records(path) == [record()]
        assert json.loads((tmp_path / "label_store" / METHOD_ID / "method.json").read_text()) == METHOD

    def test_method_id(self):
        assert method_id_of({"b": 1, "a": 2}) == method_id_of({"a": 2, "b": 1}) != method_id_of({"a": 2, "b": 2})
        assert len(METHOD_ID) == 16

    def test_what_was_put_is_found(self, store):
        assert store.get(ID) is None
        assert store.put(record()) == record()
        assert store.get(ID) == record()

    def test_an_earlier_record_is_never_overwritten(self, store):
        store.put(record())
        before = store.path(ID).read_bytes()
        later = record(properties={"energy": -31.7456789012399})
        assert store.put(later) == record()
        assert store.path(ID).read_bytes() == before
        assert names_in(store.path(ID).parent) == [f"{ID}.json"]

    @pytest.mark.parametrize("status", FAILURE_CLASSES)
    def test_failed_records_are_not_published(self, store, status):
        failed = record(status=status, properties={})
        assert store.put(failed) == failed
        assert not store.path(ID).exists()
        assert store.get(ID) is None

    def test_a_damaged_record_is_moved_aside_and_kept(self, store, capsys):
        store.put(record())
        damaged = store.path(ID).read_bytes()[:300]
        store.path(ID).write_bytes(damaged)
        assert store.get(ID) is None
        assert names_in(store.path(ID).parent) == [f"{ID}.json.damaged"]
        assert store.path(ID).with_name(f"{ID}.json.damaged").read_bytes() == damaged
        assert "moved aside" in capsys.readouterr().out
        assert store.put(record()) == record() == store.get(ID)

    def test_a_record_of_another_structure_is_not_returned(self, store):
        store.path(ID).parent.mkdir(parents=True)
        write_records(store.path(ID), [record("b" * 20)])
        assert store.get(ID) is None
        assert store.put(record()) == record()

    def test_a_failed_record_under_the_path_is_not_returned(self, store):
        store.path(ID).parent.mkdir(parents=True)
        write_records(store.path(ID), [record(status="out_of_time", properties={})])
        assert store.get(ID) is None

    def test_a_record_of_another_method_is_not_returned(self, store):
        store.path(ID).parent.mkdir(parents=True)
        write_records(store.path(ID), [record(method_id="0" * 16)])
        assert store.get(ID) is None

    def test_of_many_processes_that_paid_for_a_label_one_is_kept_and_all_agree(self, store):
        fork = multiprocessing.get_context("fork")
        count = 8
        barrier, answers = fork.Barrier(count), fork.Queue()

        def publish(number):
            own = record(host=f"node{number}")
            barrier.wait()
            answers.put(store.put(own).host)

        processes = [fork.Process(target=publish, args=(n,)) for n in range(count)]
        for process in processes:
            process.start()
        hosts = {answers.get(timeout=60) for _ in processes}
        for process in processes:
            process.join()
        kept = store.get(ID)
        assert kept is not None and hosts == {kept.host}

    def test_two_jobs_that_meet_the_same_damaged_record(self, store, monkeypatch):
        """The other job moves it aside after this one has read it."""
        store.put(record())
        store.path(ID).write_text("[")

        def read_while_another_moves(path):
            try:
                return read_records(path)
            finally:
                store_module.move_aside(path)

        monkeypatch.setattr(store_module, "read_records", read_while_another_moves)
        assert store.get(ID) is None

    def test_a_good_record_that_replaced_a_damaged_one_is_not_moved_aside(self, store, monkeypatch):
        """The other job has moved the damaged one aside, computed and published, after this one has read it."""
        store.put(record())
        store.path(ID).write_text("[")

        def read_while_another_repairs(path):
            try:
                return read_records(path)
            finally:
                write_records(path, [record()])

        monkeypatch.setattr(store_module, "read_records", read_while_another_repairs)
        store.get(ID)
        assert read_records(store.path(ID)) == [record()]
