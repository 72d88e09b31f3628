"""Chapters and code point at each other, and neither points at nothing."""

import ast
import builtins
import html
import re
from pathlib import Path
from textwrap import indent

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "derivations").glob("*.md"))
SOURCES = sorted((ROOT / "minivae").rglob("*.py"))

TAG = re.compile(r"\\tag\{([^}]*)\}")
ANCHORED = re.compile(r'^<a id="(eq-[\w-]+)"></a>\n\n```math\n(.*?)^```$', re.M | re.S)
LINK = re.compile(r"\[Eq\. \((\d+\.\d+)\)\]\(([\w.]*)#([\w-]+)\)")
CODE = re.compile(r"^Code: \[`([\w.]+)`\]\(\.\./(minivae/[\w/]+\.py)\)$", re.M)
CITE = re.compile(r"\beqs?\. (\d+\.\d+(?:(?:, | and | to )\d+\.\d+)*)")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
MACROS = "operatorname|mbox|phantom|newcommand|DeclareMathOperator|def|require"
BANNED = rf"\\({MACROS})\b|\$\$"


def text(path):
    return path.read_text(encoding="utf-8")


def equations():
    """Number -> (chapter, anchor)."""
    return {
        TAG.search(body)[1]: (path.name, anchor)
        for path in CHAPTERS
        for anchor, body in ANCHORED.findall(text(path))
    }


def cited(source):
    """The equation numbers that a text cites, with "8.4 to 8.6" spelled out."""
    numbers = set()
    for match in CITE.findall(source):
        for part in re.split(r", | and ", match):
            ends = part.split(" to ")
            chapter, first = ends[0].split(".")
            last = ends[-1].split(".")[1]
            numbers |= {f"{chapter}.{n}" for n in range(int(first), int(last) + 1)}
    return numbers


def excerpt(path, symbol):
    """The source of a function, class, method or assignment, or None."""
    source = text(path)
    node = ast.parse(source)
    for name in symbol.split("."):
        named = {}
        for child in node.body:
            for target in getattr(child, "targets", [child]):
                named[getattr(target, "name", getattr(target, "id", ""))] = child
        if name not in named:
            return None
        node = named[name]
    lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines).strip()  # whole lines: a comment may end the last one


def test_the_readers_themselves():
    assert cited("# eqs. 8.4 to 8.6, as eq. 1.2 says (eqs. 7.6 and 7.7)") == {
        *("8.4", "8.5", "8.6", "1.2", "7.6", "7.7")
    }
    assert excerpt(ROOT / "minivae/adam.py", "Adam.nothing") is None
    assert excerpt(ROOT / "minivae/adam.py", "Adam.step").startswith("def step")


def test_chapters_are_numbered():
    assert [path.name[:3] for path in CHAPTERS] == [
        f"{n:02d}_" for n in range(len(CHAPTERS))
    ]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter(path):
    source, number = text(path), int(path.name[:2])
    assert source.startswith(f"# {number}. ")
    tags = TAG.findall(source)
    assert tags == [f"{number}.{n}" for n in range(1, len(tags) + 1)]
    bodies = [body for _, body in ANCHORED.findall(source)]
    assert [TAG.search(body)[1] for body in bodies] == tags, "a tag without an anchor"
    lines = [line for line in source.splitlines() if line.startswith("Code:")]
    assert len(CODE.findall(source)) == len(lines), "a Code line is misspelt"
    if number > 0:  # chapter 0 is about one file, and derives nothing
        assert lines, "names no function"
        assert source.count("```python") >= 1


@pytest.mark.parametrize("path", CHAPTERS[:26], ids=lambda path: path.stem)
def test_exercises(path):
    """Two or more at the end of each chapter that derives something, their solutions
    folded, each with an assertion that is executed.
    """
    body, _, exercises = text(path).partition("\n## Exercises\n")
    assert "<details>" not in body and "\n## " not in exercises
    each = re.split(r"^### .+$", exercises, flags=re.M)[1:]
    assert len(each) >= 2
    for exercise in each:
        question, *solutions = exercise.split("<details><summary>Solution</summary>")
        assert len(question.split()) > 10 and len(solutions) == 1
        assert solutions[0].rstrip().endswith("</details>")
        assert any("assert" in block for block in BLOCK.findall(solutions[0]))


def test_links_between_chapters():
    known, anchors = equations(), []
    for path in CHAPTERS:
        source = text(path)
        anchors += re.findall(r'<a id="([\w-]+)">', source)
        for number, target, anchor in LINK.findall(source):
            assert known.get(number) == (target or path.name, anchor), (path, number)
        assert len(LINK.findall(source)) == source.count("[Eq."), path
        for target in re.findall(r"\]\((\w+\.md)", source):
            assert (ROOT / "derivations" / target).is_file(), (path, target)
    assert len(anchors) == len(set(anchors))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_code_that_a_chapter_names(path):
    """It exists; and under an equation, or a run of them, it cites each."""
    source = text(path)
    for symbol, file in CODE.findall(source):
        assert excerpt(ROOT / file, symbol) is not None, f"no {symbol} in {file}"
    display, line = r"<a id[^`]*```math\n[^`]*```\n\n", r"Code: .*\n\n"
    for displays, lines in re.findall(f"((?:{display})+)((?:{line})+)", source):
        for symbol, file in CODE.findall(lines):
            missing = set(TAG.findall(displays)) - cited(excerpt(ROOT / file, symbol))
            assert not missing, f"{symbol} in {file} does not cite {missing}"


def test_chapter_10_quotes_the_gradient():
    (chapter,) = (path for path in CHAPTERS if path.name.startswith("10_"))
    (quoted,) = re.findall(r"^```text\n(.*?)^```", text(chapter), re.M | re.S)
    source = excerpt(ROOT / "minivae/gradient.py", "gradient")
    assert source.endswith(indent(quoted, "    ").rstrip())


def test_equations_that_the_code_cites():
    """They exist, their chapter names a file that cites them, and some chapter names
    each file.
    """
    known, named, citing = equations(), {}, {}
    for chapter in CHAPTERS:
        files = CODE.findall(text(chapter))
        named[chapter.name] = {ROOT / file for _, file in files}
    for path in SOURCES:
        numbers = cited(text(path))
        assert numbers <= known.keys(), f"{path} cites {numbers - known.keys()}"
        for number in numbers:
            citing.setdefault(number, set()).add(path)
    for number, files in citing.items():
        chapter, _ = known[number]
        assert files & named[chapter], f"{chapter} names no file that cites {number}"
    unnamed = set().union(*citing.values()) - set().union(*named.values())
    assert not unnamed, f"no chapter names {unnamed}"


@pytest.mark.parametrize("path", [*CHAPTERS, ROOT / "README.md"], ids=lambda p: p.stem)
def test_github_shows_the_mathematics(path):
    source = text(path)
    assert not re.search(BANNED, source), "GitHub refuses or mangles this"
    prose = re.sub(r"^```.*?^```$", "", source, flags=re.M | re.S)
    shown = html.unescape(MarkdownIt("commonmark").enable("table").render(prose))
    plain = re.findall(r"\$[^$`\n]+\$", re.sub(r"\$`[^`\n]+`\$", "", prose))
    lost = [m for m in plain if m not in shown]
    assert not lost, f"write these as $`...`$: {lost}"
    assert prose.count("$`") == prose.count("`$")
    bare = re.search(r"<details>.*\n.|.\n</details>", source)
    assert not bare, "GitHub reads Markdown in <details> only between blank lines"
    fences = re.findall(r"^```(\S+)", source, flags=re.M)
    assert set(fences) <= {"math", "python", "text", "sh"}, fences


def blocks():
    return [
        pytest.param(code, id=f"{path.stem}-{i}")
        for path in CHAPTERS
        for i, code in enumerate(BLOCK.findall(text(path)))
    ]


@pytest.mark.parametrize("code", blocks())
def test_a_block_stands_alone(code):
    """Each can be pasted into a fresh interpreter: it loads no name from another."""
    tree, names = ast.parse(code), {*vars(builtins)}
    stored, loaded = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else stored).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            stored.add(node.name)
        elif isinstance(node, ast.arg):
            stored.add(node.arg)
        elif isinstance(node, ast.ExceptHandler):
            stored.add(node.name)
        elif isinstance(node, ast.alias):
            stored.add((node.asname or node.name).split(".")[0])
    assert loaded <= stored | names
