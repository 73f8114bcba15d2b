"""What Snakemake reads before the Snakefile, the campaign file and the command line: the whole line of every message."""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import pytest

from quarry.campaign.arguments import check_arguments, check_directory, check_workflow_profile
from quarry.config.campaign_file import check_campaign_file
from quarry.errors import QuarryError
from support.messages import the_line


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- the campaign file as it is written

NOT_YAML = "this is not YAML"
LOOK = "look for a missing bracket, quote, comma or colon here or above"
ITSELF = "this is part of itself; remove the alias, the word that begins with *"
DEEP = "sections and lists stand more than 40 deep in one another; look for brackets or braces too many"
MERGED = "<< takes a section, or a list of sections; name one by its alias, like <<: *base"
TAKEN = "though YAML takes it for one; correct it, or put text in quotes"
NO_CHARACTER = "is no text; remove it, or write the character itself"
FILES = {
    "key twice": ("name: a\nseed: 1\nseed: 2\n", "c.yaml, line 3: seed is there twice (first in line 2); remove one"),
    "nested key twice": (
        "stop: {max_labels: 5,\n  max_labels: 6}\n",
        "c.yaml, line 2: stop.max_labels is there twice (first in line 1); remove one",
    ),
    "JSON key twice": ('{"a": 1,\n\t"a": 2}', "c.yaml, line 2: a is there twice (first in line 1); remove one"),
    "bracket": (
        "files: [a\nseed: 1\n",
        f"c.yaml, line 2: {NOT_YAML} (expected ',' or ']', but got ':', while parsing a list in brackets, which begins in "
        f"line 1); {LOOK}",
    ),
    "comma": ("pool: {size: 3 charge: 1}\n", f"c.yaml, line 1: {NOT_YAML} (expected ',' or '}}', but got ':'); {LOOK}"),
    "quote": (
        "name: 'a\nseed: 1\n",
        f"c.yaml, line 3: {NOT_YAML} (found unexpected end of file, while scanning a text in quotes, which begins in line 1); "
        f"{LOOK}",
    ),
    "tab": (
        "pool:\n\tsize: 3\n",
        f"c.yaml, line 2: {NOT_YAML} (found character a tab that cannot start any token); indent with blanks, not with tabs",
    ),
    "indentation": (
        "name: a\n seed: 1\n",
        f"c.yaml, line 2: {NOT_YAML} (mapping values are not allowed here); indent keys of one section alike, and put text "
        "with a colon in quotes",
    ),
    "character": (
        "name: @a\n",
        f"c.yaml, line 1: {NOT_YAML} (found character '@' that cannot start any token); put this text in quotes",
    ),
    "two documents": (
        "name: a\n---\nname: b\n",
        f"c.yaml, line 2: {NOT_YAML} (but found another document, expected a single document in the file, which begins in "
        "line 1); remove the line that begins with ---, or what follows it",
    ),
    "one anchor twice": (
        "a: &x 1\nb: &x 2\n",
        f"c.yaml, line 2: {NOT_YAML} (second occurrence, found duplicate anchor 'x'; first occurrence, which begins in line 1); "
        "give one of the two another name behind its &",
    ),
    "list in itself": ("name: a\npool: &p [*p]\n", f"c.yaml, line 2: pool: {ITSELF}"),
    "section in itself": ("a:\n  b: &b\n    c: {d: *b}\n", f"c.yaml, line 2: a.b.c.d: {ITSELF}"),
    "file in itself": ("&all\nname: a\npool: *all\n", f"c.yaml, line 1: pool: {ITSELF}"),
    "section merged into itself": ("a: &a\n  <<: *a\n  b: 1\n", f"c.yaml, line 1: a: {ITSELF}"),
    "aliases of aliases": (
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefghijkl")),
        "c.yaml, line 6: f: more than 1,000,000 values, with aliases (*) written out; use fewer aliases",
    ),
    "deep": ("a: " + "[" * 60 + "]" * 60, f"c.yaml, line 1: {DEEP}"),
    "deeper than the parser goes": ("a: " + "{b: " * 3000 + "1" + "}" * 3000, f"c.yaml: {DEEP}"),
    "JSON deeper than the parser goes": ('{"a": ' + "[" * 1500 + "]" * 1500 + "}", f"c.yaml: {DEEP}"),
    "deep by aliases": (
        "a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30 + "\n",
        f"c.yaml, line 2: {DEEP}",
    ),
    "merged number": ("a:\n  <<: 3\n", f"c.yaml, line 2: a: {MERGED}"),
    "merged list": ("a: &a {x: 1}\nb:\n  <<: [*a, 3]\n", f"c.yaml, line 3: b: {MERGED}"),
    "huge whole number": ("seed: " + "9" * 5000, f"c.yaml, line 1: seed: {'9' * 40} is no whole number, {TAKEN}"),
    "no digits": ("seed: 0x_\n", f"c.yaml, line 1: seed: 0x_ is no whole number, {TAKEN}"),
    "number by tag": ("a: !!float x\n", f"c.yaml, line 1: a: x is no number, {TAKEN}"),
    "truth by tag": ("a: !!bool x\n", f"c.yaml, line 1: a: x is no True or False, {TAKEN}"),
    "key by tag": ("!!int x: 1\n", f"c.yaml, line 1: a key: x is no whole number, {TAKEN}"),
    "list by tag": (
        "a: !!seq {b: 1}\n",
        "c.yaml, line 1: a: !!seq means nothing here; put text that begins with ! in quotes",
    ),
    "bytes": (
        "a: !!binary x\n",
        "c.yaml, line 1: a: !!binary means nothing here; put text that begins with ! in quotes",
    ),
    "equals sign": ("a: =\n", "c.yaml, line 1: a: = means nothing here; put it in quotes"),
    "escaped zero": ('name: "a\\0"\n', f"c.yaml, line 1: name: the character 0x0 {NO_CHARACTER}"),
    "half a character": ('{"name": "\\ud800"}', f"c.yaml, line 1: name: the character 0xd800 {NO_CHARACTER}"),
    "octal": (
        "seed: 010\n",
        "c.yaml, line 1: seed: 010 is the number 8 for YAML (base 8); write 10, or text in quotes",
    ),
    "time": (
        "resources:\n  walltime_min: 2:00:00\n",
        "c.yaml, line 2: resources.walltime_min: 2:00:00 is the number 7200 for YAML (base 60); write a plain number, or text "
        "in quotes",
    ),
    "slice": (
        "files: [{index: 5:10}]\n",
        "c.yaml, line 1: files.index: 5:10 is the number 310 for YAML (base 60); write a plain number, or text in quotes",
    ),
    "date": ("name: 2026-11-26\n", "c.yaml, line 1: name: 2026-11-26 is a date for YAML; put it in quotes"),
    "key that is no text": ("on: 1\n", "c.yaml, line 1: the key on is not text for YAML; put it in quotes"),
    "key with braces": (
        "{{arm}}: 1\n",
        "c.yaml, line 1: a key must be text, not a list or section; look for a brace too many",
    ),
    "tag": (
        "success: !done yes\n",
        "c.yaml, line 1: success: !done means nothing here; put text that begins with ! in quotes",
    ),
    "empty": ("# nothing yet\n", "c.yaml is empty; config/README.md of the project lists the keys of a campaign file"),
    "list": ("- a\n- b\n", "c.yaml holds a list; a campaign file is keys and values, like name: ethanol"),
    "text": ("name\n", "c.yaml holds a single value; a campaign file is keys and values, like name: ethanol"),
    "control character": ("name: \x01\n", "c.yaml, line 1: the character 0x1 is no text; is this a campaign file?"),
    "binary": (b"\x89HDF\r\n\x1a\n\x00\x00", "c.yaml is no text file; a campaign file is YAML, written in an editor"),
    "latin-1": (
        b"name: a\n# \xc5ngstr\xf6m\n",
        "c.yaml, line 2: the byte 0xc5 is not UTF-8; save the file as UTF-8 text",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_campaign_files(here, case):
    content, message = FILES[case]
    Path("c.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(QuarryError) as caught:
        check_campaign_file("c.yaml")
    assert the_line(caught) == message


@pytest.mark.parametrize(
    "content",
    [
        "name: a\nseed: 0\nx: 0.5\ny: 1_000\nz: 0x10\nindex: ':10'\nbase: &b {c: 1}\nother: {<<: *b, c: 2}\n",
        '{"name": "a",\n\t"stop": {"rrmse": null}}',
        'a: &a [1, &b {c: 1}]\nd: [*a, *a, *b]\ne: {<<: [*b, {f: 2}], g: *a}\n2: "\\t\\n"\n',
        "name: !!str 8\nempty:\nlist: " + "[" * 30 + "]" * 30 + "\n",
        "\ufeffname: é\n",
        "__use_yte__: true\nname: a\n",
    ],
)
def test_good_files(here, content):
    Path("c.yaml").write_text(content)
    check_campaign_file("c.yaml")


# --- the command line before the Snakefile is read

FOLDER = "name a folder, which is made if it does not exist"
LINES = {
    "missing file": (
        "--configfile ethnol.yaml",
        "--configfile: ethnol.yaml does not exist; did you mean ethanol.yaml?",
    ),
    "missing file of another folder": (
        "--configfile nowhere/x.yaml",
        "--configfile: nowhere/x.yaml does not exist; it is looked for in {here}/nowhere",
    ),
    "folder": ("--configfile campaigns.yaml", "--configfile: campaigns.yaml is a folder; name the campaign file in it"),
    "target behind": (
        "-n --configfile ethanol.yaml retry_failed",
        "--configfile takes every word behind it for a file, also 'retry_failed'; write what is to be made before it: "
        "snakemake retry_failed --configfile ethanol.yaml",
    ),
    "two files": (
        "--configfile ethanol.yaml ethanol.yaml",
        "--configfile: a campaign file stands alone; give one file, and single values with --config",
    ),
    "dotted key": (
        "--config stop.max_labels=50",
        "--config stop.max_labels=50: keys inside a section are written --config 'stop={max_labels: 50}'",
    ),
    "two dots": (
        "--config query.batch.size=5",
        "--config query.batch.size=5: keys inside a section are written --config 'query={batch: {size: 5}}'",
    ),
    "no value": (
        "--config seed",
        "--config: 'seed' is no key=value; write values as --config seed=8, and what is to be made before --config",
    ),
    "given twice": (
        "--config seed=1 seed=2",
        "--config seed=2: seed is there twice; give all its values at once, or remove one",
    ),
    "twice in braces": (
        ["--config", "stop={patience: 1, patience: 2}"],
        "--config stop, line 1: patience is there twice (first in line 1); remove one",
    ),
    "no key": ("--config 1=2", "--config 1=2: '1' is no key of a campaign file; write values as --config seed=8"),
    "short key": ("--config a=", "--config a=: 'a' is no key of a campaign file; write values as --config seed=8"),
    "list in itself": (["--config", "pool=[&a [*a]]"], f"--config pool, line 1: {ITSELF}"),
    "named list in itself": (["--config", "pool=&a [*a]"], f"--config pool, line 1: {ITSELF}"),
    "file for folder": (
        "--directory ethanol.yaml",
        f"--directory ethanol.yaml: {{here}}/ethanol.yaml is no folder; {FOLDER}",
    ),
    "folder below a file": (
        "-n --directory ethanol.yaml/a/b",
        f"--directory ethanol.yaml/a/b: {{here}}/ethanol.yaml is no folder; {FOLDER}",
    ),
    "link to nothing": (
        "--directory nothing/a",
        f"--directory nothing/a: {{here}}/nothing is a link to nothing; {FOLDER}",
    ),
    "folder that takes no files": (
        "-n --directory /proc",
        "--directory /proc: nothing can be written in it (No such file or directory); name a folder of your own with --directory",
    ),
    "open brace": (
        "--config stop={patience",
        "--config stop, line 1: this is not YAML (expected ',' or '}', but got '<file end>'); "
        "look for a missing bracket, quote, comma or colon here or above",
    ),
}


@pytest.mark.parametrize("case", LINES)
def test_command_lines(here, case):
    Path("ethanol.yaml").write_text("name: ethanol\n")
    Path("campaigns.yaml").mkdir()
    Path("nothing").symlink_to("nowhere")
    line, message = LINES[case]
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", dest="dryrun", action="store_true")
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--configfile", nargs="+", type=Path)
    parser.add_argument("--config", nargs="*")
    with pytest.raises(SystemExit) as caught:
        check_arguments(parser.parse_args(line.split() if isinstance(line, str) else line))
    assert the_line(caught) == "Quarry: " + message.replace("{here}", str(here))


def test_good_folders(here, monkeypatch):
    (here / "done" / ".snakemake").mkdir(parents=True)
    before = sorted(here.rglob("*"))
    for given in (None, Path("done"), Path("new/one"), here / "done"):
        check_directory(given, is_run=True)
    assert sorted(here.rglob("*")) == before, "nothing is left"

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    check_directory(Path("done"), is_run=False)  # somebody else's campaign may be looked at
    for given, is_run in ((Path("done"), True), (Path("new"), False), (None, True)):
        with pytest.raises(QuarryError, match=r"nothing can be written in it \(Permission denied\); name a folder"):
            check_directory(given, is_run)


def test_the_campaign_file_of_the_project_is_checked_where_none_is_given(here, monkeypatch):
    (here / "config.yaml").write_text("a: &a [*a]\n")
    monkeypatch.setattr("quarry.campaign.arguments.DEFAULT_CAMPAIGN", here / "config.yaml")
    with pytest.raises(SystemExit) as caught:
        check_arguments(argparse.Namespace(configfile=None, config=None, directory=None))
    assert the_line(caught) == f"Quarry: {here}/config.yaml, line 1: a: {ITSELF}"


OWN = "one of your own is named by its whole path"


@pytest.mark.parametrize(
    ("given", "remedy"), [("slrum", "did you mean 'slurm'?"), ("xyzzy", OWN), ("profiles/xyzzy", OWN)]
)
def test_a_profile_that_is_none(here, monkeypatch, given, remedy):
    monkeypatch.setenv("PWD", str(here))
    project = here / "project"
    for name in ("default", "slurm"):
        (project / "profiles" / name).mkdir(parents=True)
        (project / "profiles" / name / "config.yaml").touch()
    with pytest.raises(QuarryError) as caught:
        check_workflow_profile(given, project)
    message = f"--workflow-profile: there is no profile '{given}' (there are default, slurm); {remedy}"
    assert the_line(caught) == message


def test_profiles(here, monkeypatch):
    (here / "project" / "profiles" / "slurm").mkdir(parents=True)
    (here / "started" / "profiles" / "own").mkdir(parents=True)
    (here / "mine.yaml").touch()
    monkeypatch.setenv("PWD", str(here / "started"))  # Snakemake has gone on to --directory
    for given in (None, "none", "slurm", Path("slurm"), "own", "profiles/own", "mine.yaml", here / "mine.yaml"):
        check_workflow_profile(given, here / "project")
