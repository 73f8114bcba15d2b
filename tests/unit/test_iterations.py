"""Which iterations a campaign's folder holds: one module counts them."""

from __future__ import annotations

from pathlib import Path

from quarry.campaign.iterations import count_with, folder_name, iteration_folders, iteration_of, iterations_with
from quarry.campaign.paths import CampaignPaths


def test_folders_of_a_campaign(tmp_path: Path) -> None:
    paths = CampaignPaths("water", str(tmp_path))
    for arm, iteration, file in (("main", 0, "facts.json"), ("main", 2, "batch.csv"), ("random", 1000, "")):
        folder = Path(paths.iteration("", arm, iteration))
        folder.mkdir(parents=True)
        if file:
            (folder / file).touch()
    (Path(paths.arm("main")) / "iter_old").mkdir()
    (Path(paths.arm("main")) / "iter_003").touch()
    assert iterations_with(paths.arm("main")) == [0, 2]
    assert iterations_with(paths.arm("main"), "batch.csv") == [2]
    assert iterations_with(paths.arm("none")) == []
    named = [folder.relative_to(paths.root).as_posix() for folder in iteration_folders(paths.root)]
    assert named == ["main/iter_000", "main/iter_002", "random/iter_1000"]
    assert count_with(lambda t: paths.facts("main", t)) == 1 and count_with(lambda t: paths.batch("main", t)) == 0


def test_the_iteration_of_a_path() -> None:
    paths = CampaignPaths("water")
    assert iteration_of(paths.label("3", "main", 12)) == Path("results/water/main/iter_012")
    assert iteration_of(paths.structures) is None and iteration_of("results/water/main/iter_old/x") is None
    assert iteration_of("results/iter_001/main/iter_012/labels/iter_3.json") == Path("results/iter_001/main/iter_012")
    assert iteration_of("iter_012/facts.json") == Path("iter_012") and iteration_of("results/main/iter_012") is None
    assert folder_name("{iteration}") == "iter_{iteration}"
