"""Every shipped file says where it comes from, and the bibliography is sound."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MADE = tomllib.loads((ROOT / "data" / "makers.toml").read_text(encoding="utf-8"))["made"]
FOLDERS = ("data", "docs/figures", "docs/sheets", "docs/teaching")


def files_below(root):
    """The files in the folders of which every file has a maker, as paths from the root."""
    found = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file()]
    return sorted(path.relative_to(root).as_posix() for path in found if "__pycache__" not in path.parts)


def pattern(glob):
    parts = re.split(r"(\*\*|\*)", glob)
    return re.compile("".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts))


def orphans(names, made):
    """What is wrong between a list of files and the list of makers."""
    problems = []
    for name in names:
        entries = [entry["files"] for entry in made if pattern(entry["files"]).fullmatch(name)]
        if len(entries) != 1:
            problems.append(f"{name} matches {len(entries)} entries of data/makers.toml: {entries}")
    for entry in made:
        if not any(pattern(entry["files"]).fullmatch(name) for name in names):
            problems.append(f"no file matches the entry {entry['files']} of data/makers.toml")
        if ("hand" in entry) == ("command" in entry) or set(entry) - {"files", "hand", "command"}:
            problems.append(
                f"the entry {entry['files']} must have either a command or a reason (hand), and nothing else"
            )
    return problems


def unsigned(record):
    """Which of the things a record must say about its making are missing."""
    return [key for key in ("made_by", "seed", "versions") if record.get(key) in (None, "", {}, [])]


def test_every_file_has_one_maker_and_every_maker_a_file():
    assert orphans(files_below(ROOT), MADE) == []


def test_orphans_are_found():
    made = [{"files": "data/*.bib", "hand": "x"}, {"files": "data/runs/**", "command": "make records"}]
    assert orphans(["data/a.bib", "data/runs/x/y.csv"], made) == []
    assert "data/b.csv matches 0" in orphans(["data/a.bib", "data/runs/x/y.csv", "data/b.csv"], made)[0]
    assert "data/runs/a.bib matches 1" not in str(orphans(["data/a.bib", "data/runs/a.bib"], made))
    assert "no file matches the entry data/runs/**" in orphans(["data/a.bib"], made)[0]
    assert "matches 2" in orphans(["data/a.bib"], [*made[:1], {"files": "data/**", "hand": "y"}])[0]
    assert "either a command or a reason" in orphans(["data/a.bib"], [{"files": "data/a.bib"}])[0]


def test_every_record_names_script_seed_and_versions():
    records = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "data" / "runs").rglob("*.json")}
    assert records, "data/runs/ holds no record: run make records"
    found = {name: unsigned(json.loads(path.read_text(encoding="utf-8"))) for name, path in records.items()}
    assert found == {name: [] for name in records}


def test_an_unsigned_record_is_found():
    assert unsigned({"made_by": "make records", "seed": 0, "versions": {"torch": "2.13.0"}}) == []
    assert unsigned({"made_by": "", "versions": {}}) == ["made_by", "seed", "versions"]


def test_every_curve_has_a_record_beside_it():
    curves = sorted((ROOT / "data" / "runs").rglob("*.csv"))
    assert curves, "data/runs/ holds no curves: run make records"
    alone = [
        curve.relative_to(ROOT).as_posix()
        for curve in curves
        if not any(
            record.stem == curve.stem or curve.name in record.read_text(encoding="utf-8")
            for record in curve.parent.glob("*.json")
        )
    ]
    assert alone == []


# --- the bibliography ------------------------------------------------------------------------------


def parse_bib(text):
    """Entries of a BibTeX text as (key, fields); ValueError where braces or fields are broken."""
    entries, position = [], 0
    while match := re.compile(r"\s*@(\w+)\{([^,\s]+),").match(text, position):
        depth, end = 1, match.end()
        while depth:
            if end == len(text):
                raise ValueError(f"the braces of {match[2]} do not close")
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        body = text[match.end() : end - 1]
        fields = re.compile(r"\s*(\w+)\s*=\s*\{((?:[^{}]|\{[^{}]*\})*)\}\s*(?:,|\Z)")
        found, at = {}, 0
        while field := fields.match(body, at):
            found[field[1].lower()], at = field[2], field.end()
        if body[at:].strip():
            raise ValueError(f"{match[2]}: cannot read {body[at:].strip()[:40]!r}")
        entries.append((match[2], found))
        position = end
    if text[position:].strip():
        raise ValueError(f"cannot read {text[position:].strip()[:40]!r}")
    return entries


def test_the_bibliography_is_sound():
    entries = parse_bib((ROOT / "data" / "references.bib").read_text(encoding="utf-8"))
    keys = [key for key, _ in entries]
    assert len(entries) >= 20
    assert sorted(keys) == sorted(set(keys))
    for key, fields in entries:
        assert {"title", "author", "year"} <= set(fields), key
        assert re.fullmatch(r"(19|20)\d\d", fields["year"]), key
        assert re.fullmatch(r"[a-z]+\d{4}[a-z]+", key) and fields["year"] in key, key
        if "eprint" in fields:
            assert re.fullmatch(r"\d{4}\.\d{4,5}", fields["eprint"]) and fields["archiveprefix"] == "arXiv", key


@pytest.mark.parametrize(
    "text", ["@article{a, title = {x}", "@article{a, title = x}", "stray", "@article{a, title = {x}} @article{b title}"]
)
def test_a_broken_bibliography_is_found(text):
    with pytest.raises(ValueError, match=r"do not close|cannot read"):
        parse_bib(text)
