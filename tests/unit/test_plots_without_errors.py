"""A campaign that measures no error (no test set, stop.metric test) still has its table and figures."""

from quarry.config.targets import TARGETS
from quarry.reporting.plots import write_iteration_table, write_note
from quarry.stages.results import write_history
from quarry.stopping.facts import Cost, Facts


def test_the_table_leaves_out_what_was_not_measured(tmp_path):
    sizes = {"n_train": 9, "n_test": 0, "n_labels": 9, "n_failed": 0, "pool_size": 20, "pool_left": 11}
    facts = Facts(
        arm="main",
        iteration=0,
        phase="initial",
        target="energy",
        metric="test",
        errors={},
        rrmse=1.0,
        rrmse_low=1.0,
        rrmse_high=1.0,
        **sizes,
    )
    write_history(str(tmp_path / "history.csv"), [facts], [Cost(9, 0, 0, 0.1, 0.1, 0.0, 1.0)], "enough")
    write_iteration_table({"main": str(tmp_path / "history.csv")}, TARGETS["energy"], str(tmp_path / "i.html"))
    table = (tmp_path / "i.html").read_text()
    assert "Stopped: enough" in table and "<td>9</td>" in table
    assert "RMSE" not in table and "MAE" not in table and "nan" not in table
    write_note("No error was measured", str(tmp_path / "note.svg"))
    assert "No error was measured" in (tmp_path / "note.svg").read_text()
