"""The jobs of a campaign as a graph that people can read: jobs that are alike are one node with a count.

What ``snakemake --dag`` prints is read here; a node of it names only the wildcards that its inputs' jobs do not have.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from quarry.campaign.loop import LABELS, RULES, Place
from quarry.errors import QuarryError

NODE = re.compile(r'\s*(\d+)\[label = "(.*?)", color = ".*?", style="(.*?)"\];')
EDGE = re.compile(r"\s*(\d+) -> (\d+)")


@dataclass(frozen=True)
class JobNode:
    """A job. iteration: None outside the loop. done: whether it needs not run."""

    rule: str
    arm: str = ""
    iteration: int | None = None
    done: bool = False


@dataclass
class JobGraph:
    """Jobs by number, and for each those whose outputs it reads."""

    jobs: dict[int, JobNode]
    inputs: dict[int, set[int]]


@dataclass(frozen=True, order=True)
class Node:
    """What a picture shows as one box. outside: it belongs to another iteration, and is there for what it gives."""

    rule: str
    arm: str = ""
    outside: bool = False


@dataclass
class Picture:
    """Boxes with their lines of text, and arrows between them, but those that follow from others.

    back: arrows into the next iteration.
    """

    title: str
    nodes: dict[Node, list[str]] = field(default_factory=dict)
    edges: set[tuple[Node, Node]] = field(default_factory=set)
    back: set[tuple[Node, Node]] = field(default_factory=set)


def read_dag(text: str, rules: Mapping[str, str] = {}) -> JobGraph:
    """Return the graph that ``snakemake --dag`` has printed. Raises QuarryError if there is none in the text.

    rules: the campaign's rules by the names that they have in a workflow that gives them others.
    """
    labels: dict[int, tuple[str, dict[str, str], bool]] = {}
    inputs: dict[int, set[int]] = defaultdict(set)
    for line in text.splitlines():
        if node := NODE.match(line):
            rule, *wildcards = node[2].split("\\n")
            named = dict(part.partition(": ")[::2] for part in wildcards)
            labels[int(node[1])] = rules.get(rule, rule), named, "dashed" in node[3]
        elif edge := EDGE.match(line):
            inputs[int(edge[2])].add(int(edge[1]))
    if not labels:
        raise QuarryError("there is no graph in what `snakemake --dag` has printed; run it by itself to see why")
    jobs: dict[int, JobNode] = {}
    for number in _inputs_first(labels, inputs):
        rule, named, done = labels[number]
        before = [jobs[other] for other in inputs[number]]
        in_loop = rule not in RULES or RULES[rule].place is Place.ITERATION
        iterations = [job.iteration for job in before if job.iteration is not None]
        iteration = int(named["iteration"]) if "iteration" in named else max(iterations, default=None)
        arms = {job.arm for job in before if job.arm}
        arm = named.get("arm", next(iter(arms)) if len(arms) == 1 else "")
        of_arm = in_loop or (rule in RULES and RULES[rule].place is Place.ARM)
        jobs[number] = JobNode(rule, arm if of_arm else "", iteration if in_loop and rule in RULES else None, done)
    return JobGraph(jobs, inputs)


def rule_picture(graph: JobGraph, title: str) -> Picture:
    """Return the rules with how many jobs each has."""
    names = {number: Node(job.rule) for number, job in graph.jobs.items()}
    return _picture(graph, names, title)


def iteration_picture(graph: JobGraph, title: str) -> Picture:
    """Return the jobs of the last iteration that any arm has come to, arm by arm, and what they read of others."""
    last = max((job.iteration for job in graph.jobs.values() if job.iteration is not None), default=None)
    inside = {number for number, job in graph.jobs.items() if job.iteration == last}
    if last is None:
        return rule_picture(graph, f"{title}: no iteration is known yet")
    near = {other for number in inside for other in graph.inputs[number]} - inside
    names = {number: Node(graph.jobs[number].rule, graph.jobs[number].arm) for number in inside}
    names |= {number: Node(graph.jobs[number].rule, graph.jobs[number].arm, outside=True) for number in near}
    return _picture(graph, names, f"{title}: iteration {last}")


def _picture(graph: JobGraph, names: dict[int, Node], title: str) -> Picture:
    counts, done = Counter(names.values()), Counter(names[n] for n in names if graph.jobs[n].done)
    picture = Picture(title)
    for node in sorted(counts):
        lines = [node.rule + (f" × {counts[node]}" if counts[node] > 1 else "")]
        iterations = {graph.jobs[n].iteration for n, name in names.items() if name == node} if node.outside else set()
        before = f"iteration {max(t for t in iterations if t is not None)}" if iterations - {None} else ""
        lines += [", ".join(part for part in (node.arm, before) if part)] if node.arm or before else []
        if not node.outside and done[node] < counts[node]:
            lines.append("to do" if not done[node] else f"{done[node]} done, {counts[node] - done[node]} to do")
        picture.nodes[node] = lines
    for number in names:
        for other in graph.inputs[number]:
            if other not in names or names[other] == names[number] or names[number].outside:
                continue
            earlier = (graph.jobs[other].iteration or 0) < (graph.jobs[number].iteration or 0)
            edges = (
                picture.back
                if earlier and graph.jobs[other].iteration is not None and not names[other].outside
                else picture.edges
            )
            edges.add((names[other], names[number]))
    for node in counts:
        # A label job reads a file of the folder that select_batch makes, and Snakemake does not look for who made it.
        choice = replace(node, rule="select_batch")
        if node.rule == LABELS.rule and choice in counts:
            picture.edges.add((choice, node))
    picture.edges = _without_shortcuts(picture.edges)
    picture.back -= picture.edges
    return picture


def _without_shortcuts(edges: set[tuple[Node, Node]]) -> set[tuple[Node, Node]]:
    """Return the edges that do not follow from others: A -> C where there are A -> B and B -> C."""
    readers: dict[Node, set[Node]] = defaultdict(set)
    for start, end in edges:
        readers[start].add(end)

    def beyond(node: Node) -> set[Node]:
        found: set[Node] = set()
        waiting = [*readers[node]]
        while waiting:
            found |= (new := readers[waiting.pop()] - found)
            waiting += new
        return found

    return {(start, end) for start, end in edges if end not in beyond(start)}


def _inputs_first(jobs: Iterable[int], inputs: dict[int, set[int]]) -> list[int]:
    """Return the jobs in an order in which each stands behind those that it reads; not recursive, as graphs are deep."""
    waiting = {job: set(inputs[job]) & set(jobs) for job in jobs}
    readers: dict[int, list[int]] = defaultdict(list)
    for job, before in waiting.items():
        for other in before:
            readers[other].append(job)
    ready, order = sorted((job for job, before in waiting.items() if not before), reverse=True), []
    while ready:
        job = ready.pop()
        order.append(job)
        for reader in readers[job]:
            waiting[reader].discard(job)
            if not waiting[reader]:
                ready.append(reader)
    return order
