"""The graphs of rules and jobs as pictures: jobs that are alike are one box with a count."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from quarry.errors import QuarryError
from quarry.status.draw_dag import FILES, draw_dag
from quarry.status.graph_drawing import svg_of
from quarry.status.job_graph import Node, iteration_picture, read_dag, rule_picture

JOBS = [
    # number, label as Snakemake writes it (wildcards that no input's job has), done, inputs
    (0, "all", False, [12, 13]),
    (1, "build_pool", True, []),
    (2, "select_batch\\narm: main\\niteration: 000", True, [1]),
    (3, "label_structure\\narm: main\\niteration: 000\\njob: a1", True, []),
    (4, "merge_labels", True, [2, 3]),
    (5, "train_model", True, [4]),
    (6, "assess_iteration", True, [4, 5]),
    (7, "select_batch\\niteration: 001", True, [1, 4, 6]),
    *[(20 + n, f"label_structure\\narm: main\\niteration: 001\\njob: b{n}", n < 30, []) for n in range(40)],
    (8, "merge_labels", False, [4, 7, *range(20, 60)]),
    (9, "train_model", False, [8]),
    (12, "assess_iteration", False, [8, 9]),
    (13, "collect_results", False, [6, 12]),
]


def dag(jobs: list[tuple[int, str, bool, list[int]]] = JOBS) -> str:
    nodes = [
        f'\t{number}[label = "{label}", color = "0.5 0.6 0.85", style="rounded{",dashed" if done else ""}"];'
        for number, label, done, _ in jobs
    ]
    edges = [f"\t{other} -> {number}" for number, _, _, inputs in jobs for other in inputs]
    return "\n".join(["digraph snakemake_dag {", "    graph[bgcolor=white, margin=0];", *nodes, *edges, "}"])


def test_jobs_have_the_iteration_and_the_arm_that_their_inputs_have() -> None:
    jobs = read_dag(dag()).jobs
    assert [(jobs[n].iteration, jobs[n].arm) for n in (4, 7, 8, 12)] == [
        (0, "main"),
        (1, "main"),
        (1, "main"),
        (1, "main"),
    ]
    assert (jobs[1].iteration, jobs[1].arm) == (None, "")
    assert (jobs[13].iteration, jobs[13].arm) == (None, "main")
    assert jobs[0].iteration is None


def test_labels_of_the_last_iteration_are_one_box_with_a_count() -> None:
    picture = iteration_picture(read_dag(dag()), "toy")
    assert picture.title == "toy: iteration 1"
    labels = Node("label_structure", "main")
    assert picture.nodes[labels] == ["label_structure × 40", "main", "30 done, 10 to do"]
    assert picture.nodes[Node("select_batch", "main")] == ["select_batch", "main"]
    assert picture.nodes[Node("train_model", "main")][-1] == "to do"
    assert picture.nodes[Node("merge_labels", "main", outside=True)] == ["merge_labels", "main, iteration 0"]
    assert (Node("select_batch", "main"), labels) in picture.edges
    assert (labels, Node("merge_labels", "main")) in picture.edges
    # It follows from merge_labels -> train_model -> assess_iteration.
    assert (Node("merge_labels", "main"), Node("assess_iteration", "main")) not in picture.edges


def test_rules_are_boxes_and_the_next_iteration_is_dashed() -> None:
    picture = rule_picture(read_dag(dag()), "toy")
    assert picture.nodes[Node("label_structure")][0] == "label_structure × 41"
    assert (Node("assess_iteration"), Node("select_batch")) in picture.back
    assert (Node("train_model"), Node("assess_iteration")) in picture.edges


def test_boxes_do_not_overlap_and_lie_in_the_picture() -> None:
    for picture in (rule_picture(read_dag(dag()), "toy"), iteration_picture(read_dag(dag()), "toy <&>")):
        root = ElementTree.fromstring(svg_of(picture))
        boxes = [
            tuple(float(rect.get(key, "")) for key in ("x", "y", "width", "height"))
            for rect in root.iter("{http://www.w3.org/2000/svg}rect")
            if rect.get("rx")
        ]
        assert len(boxes) == len(picture.nodes)
        for number, (x, y, width, height) in enumerate(boxes):
            assert x >= 0 and x + width <= float(root.get("width", "")) and y + height <= float(root.get("height", ""))
            for x2, y2, width2, height2 in boxes[:number]:
                assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder, jobs in (("a", JOBS), ("b", JOBS[::-1])):
        draw_dag(dag(jobs), tmp_path / folder, "toy")
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_ten_thousand_label_jobs_are_drawn() -> None:
    labels = [(100 + n, f"label_structure\\narm: main\\niteration: 000\\njob: {n}", False, []) for n in range(10_000)]
    graph = read_dag(dag([*labels, (1, "merge_labels", False, [number for number, *_ in labels])]))
    assert iteration_picture(graph, "toy").nodes[Node("label_structure", "main")][0] == "label_structure × 10000"


@pytest.mark.parametrize("text", ["", "digraph snakemake_dag {\n}\n", "Quarry: no campaign"])
def test_what_holds_no_graph_is_one_line_and_writes_nothing(text: str, tmp_path: Path) -> None:
    with pytest.raises(QuarryError, match="no graph"):
        draw_dag(text, tmp_path, "toy")
    assert list(tmp_path.iterdir()) == []
