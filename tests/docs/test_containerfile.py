"""The image that the Containerfile describes holds what a campaign needs; no container engine is asked for."""

import re
import shutil

from support.campaigns import REPOSITORY
from support.documents import run_in

LINES = (REPOSITORY / "Containerfile").read_text().replace("\\\n", "").splitlines()


def test_its_base_has_a_tag():
    [base] = [line.split()[1] for line in LINES if line.startswith("FROM ")]
    assert re.fullmatch(r"\S+/python:3\.\d+-[a-z-]+", base)


def test_a_campaign_is_planned_with_what_is_copied(tmp_path):
    image, campaign = tmp_path / "image", tmp_path / "campaign"
    image.mkdir()
    campaign.mkdir()
    for line in LINES:
        if line.startswith("COPY "):
            *sources, target = line.split()[1:]
            for source in sources:
                place = image / (source if target == "./" else target)
                copy = shutil.copytree if (REPOSITORY / source).is_dir() else shutil.copy2
                copy(REPOSITORY / source, place)
    [entry] = [line for line in LINES if line.startswith("ENTRYPOINT ")]
    command = [word.replace("/opt/quarry", str(image)) for word in re.findall(r'"([^"]+)"', entry)]
    planned = run_in(campaign, [*command, "-n", "--cores", "1"])
    assert planned.returncode == 0 and "build_pool" in planned.stdout + planned.stderr, planned.stderr[-3000:]
