"""The rows of a batch with its retries, and what their jobs are told of the attempts before."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.campaign.batch_table import BatchRow
from quarry.campaign.retries import RetryRequest, add_requests, only_retries, read_requests, with_retries
from quarry.errors import QuarryError
from quarry.labeling.attempts import needed, read_attempts
from quarry.labeling.keys import key_before, key_of, retry_number
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.record import LabelRecord
from quarry.stages.retrying import add_retries, hand_down_attempts


def row(name: str, role: str = "train") -> BatchRow:
    return BatchRow(name, role, name)


def request(*keys: str, iteration: int = 1, only: bool = False) -> RetryRequest:
    return RetryRequest("main", iteration, tuple((key, key.partition("_r")[0], "train") for key in keys), only)


def test_a_request_holds_nothing_else_only_where_it_says_so():
    assert not RetryRequest("main", 1, ()).only


@given(st.text("0123456789abcdef", min_size=1, max_size=8), st.integers(0, 20))
def test_keys_count_the_retries_and_lead_back(structure_id, number):
    key, chain = structure_id, [""]
    for _ in range(number):
        chain.append(key)
        key = key_of(structure_id, key)
    assert retry_number(key) == number
    while key:
        before = chain.pop()
        assert key_before(key) == before
        key = before


def test_retries_come_after_the_other_rows_with_their_role():
    rows = with_retries([row("a"), row("b")], [RetryRequest("main", 1, (("c", "c", "test"),))])
    assert rows[2] == BatchRow("c", "test", "c_r1", retry_of="c") and rows[2].key == "c_r1"


def test_a_label_of_this_very_batch_is_replaced_again_and_again():
    rows = with_retries([row("a"), row("b", "test")], [request("b"), request("b_r1")])
    assert rows == [row("a"), BatchRow("b", "test", "b_r2", retry_of="b_r1")]


def test_requests_add_up_on_disk(tmp_path):
    path = tmp_path / "retries.json"
    assert read_requests(path) == []
    add_requests(path, [request("a")])
    add_requests(path, [request("b", iteration=2, only=True)])
    assert read_requests(path) == [request("a"), request("b", iteration=2, only=True)]
    assert only_retries(read_requests(path), "main", 2) and not only_retries(read_requests(path), "main", 1)


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"arm": "main"}]'])
def test_a_damaged_request_file_is_one_line(tmp_path, text):
    (tmp_path / "retries.json").write_text(text)
    with pytest.raises(QuarryError, match=r"retries\.json is damaged"):
        read_requests(tmp_path / "retries.json")


def failures(path, *rows):
    header = "structure_id,key,role,iteration,job,status,message,tried,wall_s,core_hours,straggler,retried\n"
    path.write_text(header + "".join(f"{k},{k},train,{t},{k},out_of_time,,,1,0,{s},{r}\n" for k, t, s, r in rows))
    return str(path)


def test_stragglers_of_the_last_batch_come_back_by_themselves(tmp_path):
    table = failures(
        tmp_path / "f.csv", ("a", 0, "yes", ""), ("b", 1, "yes", ""), ("c", 1, "", ""), ("d", 1, "yes", "d_r1")
    )
    rows = add_retries([row("x")], "main", 2, table, [])
    assert [r.key for r in rows] == ["x", "b_r1"]
    again = add_retries([row("x")], "main", 2, table, [request("b", "c", iteration=2), request("z", iteration=3)])
    assert [r.key for r in again] == ["x", "b_r1", "c_r1"]


def record(status, **details) -> LabelRecord:
    cost = {"wall_s": 50.0, "cpu_s": 1.0, "threads": 1}
    return LabelRecord("a", "m", {}, status, "", {}, [], cost, {}, "h", {}, "now", details=details)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (record("out_of_memory", memory_MB=4000, walltime_s=600), (8000.0, 0.0)),
        (record("out_of_time", memory_MB=4000, walltime_s=600), (0.0, 1200.0)),
        (record("out_of_time", memory_MB=4000, walltime_s=600, straggler=True), (0.0, 100.0)),
        (record("scf_not_converged"), (0.0, 0.0)),
    ],
)
def test_a_retry_asks_for_more_than_what_was_not_enough(tmp_path, found, wanted):
    ledger = LabelLedger(tmp_path / "failed")
    ledger.put("a", found)
    rows = with_retries([row("b")], [request("a")])
    for _ in range(2):  # written again after a crash
        hand_down_attempts(rows, ledger, tmp_path / "attempts")
    assert needed(read_attempts(tmp_path / "attempts" / "a_r1.json"), 2.0) == wanted
    assert not (tmp_path / "attempts" / "b.json").exists()


def test_a_failed_record_is_never_overwritten(tmp_path):
    ledger = LabelLedger(tmp_path / "failed")
    first = ledger.put("a", record("out_of_time"))
    assert ledger.put("a", replace(first, host="other")) == first
    ledger.path("b").write_text("[")
    assert ledger.failures() == {"a": first} and list((tmp_path / "failed").glob("b.json.damaged"))
