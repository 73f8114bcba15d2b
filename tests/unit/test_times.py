"""Times of the future and times that a copy has mixed up."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from quarry.campaign import times as times_module
from quarry.campaign.own_files import OwnFiles
from quarry.campaign.receipts import accounts, write_receipt
from quarry.campaign.times import Product, bring_from_future, put_in_order, refuse_future
from quarry.errors import QuarryError
from quarry.files import digest_of

COST = {"wall_s": 1.0, "cpu_s": 1.0, "threads": 1, "host": "here"}
YEAR_NS = 365 * 86400 * 10**9


@pytest.fixture
def own(tmp_path, monkeypatch) -> OwnFiles:
    monkeypatch.chdir(tmp_path)
    return OwnFiles(".")


def dated(name: str, offset_ns: int) -> Path:
    path = Path(name)
    path.touch()
    moment = time.time_ns() + offset_ns
    os.utime(path, ns=(moment, moment))
    return path


def order(paths) -> list[str]:
    return [p.name for p in sorted(paths, key=lambda p: p.stat().st_mtime_ns)]


class TestFuture:
    def test_the_order_stays(self, own):
        offsets = {"a": -YEAR_NS, "b": 5, "c": 3 * YEAR_NS, "d": 3 * YEAR_NS + 1, "e": 10 * YEAR_NS}
        paths = [dated(name, offset) for name, offset in offsets.items()]
        past = paths[0].stat().st_mtime_ns
        assert bring_from_future(own, paths) == 3
        assert order(paths) == list("abcde")
        assert len({p.stat().st_mtime_ns for p in paths}) == 5
        assert (
            max(p.stat().st_mtime_ns for p in paths) < time.time_ns() + times_module.TOLERANCE_NS
            and paths[0].stat().st_mtime_ns == past
        )

    def test_equal_times_stay_equal(self, own):
        paths = [dated("a", 0), dated("b", 0)]
        for path in paths:
            os.utime(path, ns=(1, 4 * 10**18))
        bring_from_future(own, paths)
        assert len({p.stat().st_mtime_ns for p in paths}) == 1

    def test_without_any_nothing_is_changed(self, own, monkeypatch):
        path = dated("a", times_module.TOLERANCE_NS // 2)
        monkeypatch.setattr(OwnFiles, "set_time", None)
        assert bring_from_future(own, [path]) == bring_from_future(own, []) == 0

    def test_future_is_what_the_file_server_takes_for_it(self, own, monkeypatch):
        """Its clock goes an hour ahead of this machine's: what it has just written is not of the future."""
        path = dated("a", 3600 * 10**9)
        monkeypatch.setattr(OwnFiles, "now_ns", lambda self: time.time_ns() + 3601 * 10**9)
        assert bring_from_future(own, [path]) == 0

    def test_a_file_of_the_users_is_named_instead(self, own):
        files = [dated("past", -YEAR_NS), dated("future", YEAR_NS)]
        refuse_future(files[:1], "spectrum.experiment")
        with pytest.raises(
            QuarryError, match=r"spectrum\.experiment: the time of future lies in the future.* touch it"
        ):
            refuse_future(files, "spectrum.experiment")


def job(rule: str, outputs: list[str], inputs: list[str]) -> None:
    write_receipt(Path(f"receipts/{rule}.json"), rule, outputs, COST, inputs)


class TestOrder:
    @pytest.fixture
    def chain(self, own):
        """c is made of b, b of a; their times are the other way round, as after cp -r."""
        for number, name in enumerate("cba"):
            Path(name).write_text(name)
            os.utime(name, ns=(1, 10**18 + number))
        job("second", ["c"], ["b"])
        job("first", ["b"], ["a"])
        return own

    def products(self):
        return [Product.of(account) for account in accounts(Path("receipts"))]

    def test_what_is_made_of_its_inputs_is_as_new_as_they_are(self, chain):
        assert put_in_order(chain, self.products()) == 2
        assert {Path(name).stat().st_mtime_ns for name in "abc"} == {10**18 + 2}
        assert put_in_order(chain, self.products()) == 0

    @pytest.mark.parametrize("changed", ["a", "b"])
    def test_what_is_made_of_something_else_stays_old(self, chain, changed):
        Path(changed).write_text("X")
        os.utime(changed, ns=(1, 10**18 + 5))
        put_in_order(chain, self.products())
        made = {"a": "b", "b": "c"}[changed]
        assert Path(made).stat().st_mtime_ns < Path(changed).stat().st_mtime_ns

    def test_an_absent_input_vouches_for_nothing(self, chain):
        job("second", ["c"], ["b", "a"])
        Path("b").unlink()
        assert put_in_order(chain, self.products()) == 0

    def test_nothing_is_read_where_the_order_is_right(self, chain, monkeypatch):
        put_in_order(chain, self.products())
        monkeypatch.setattr("quarry.campaign.receipts.sha256_of", None)
        assert put_in_order(chain, self.products()) == 0

    def test_a_folder_has_its_time_in_a_file(self, own):
        Path("batch").mkdir()
        Path("a").write_text("a")
        job("select", ["batch"], ["a"])
        mark = Path("batch") / times_module.TIMESTAMP
        mark.touch()
        os.utime(mark, ns=(1, 1))
        assert put_in_order(own, self.products()) == 1
        assert mark.stat().st_mtime_ns == Path("a").stat().st_mtime_ns

    def test_a_benchmark_is_as_new_as_what_the_job_made(self, own):
        """Snakemake counts its time among those of the outputs: an older one would make the job run again."""
        Path("a").write_text("a")
        Path("b").write_text("b")
        job("first", ["b"], ["a"])
        Path("benchmarks").mkdir()
        benchmark = Path("benchmarks", "first.tsv")
        benchmark.touch()
        os.utime(benchmark, ns=(1, 1))
        assert put_in_order(own, self.products()) >= 1
        assert benchmark.stat().st_mtime_ns == Path("a").stat().st_mtime_ns
        Path("a").write_text("X")
        os.utime(benchmark, ns=(1, 1))
        put_in_order(own, self.products())
        assert benchmark.stat().st_mtime_ns == 1, "the job is to run again"

    def test_a_receipt_of_an_earlier_version_knows_no_inputs(self, chain):
        for path in Path("receipts").iterdir():
            receipt = json.loads(path.read_text())
            for key in ("checksum", "format", "inputs", "folders"):
                del receipt[key]
            path.write_text(json.dumps({**receipt, "checksum": digest_of(receipt)}))
        assert self.products() == [] and put_in_order(chain, self.products()) == 0
