"""What Sphinx does not do by itself: the code of a symbol beside its derivation,
formulas set at build, and the sources with their equation numbers as links.
"""

import ast
import html
import re
import shutil
from functools import partial
from pathlib import Path
from textwrap import dedent

from dialect import TAG, cite
from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
log = logging.getLogger(__name__)


# The code of a symbol, without its docstring


class panel(nodes.General, nodes.Element):
    """Attributes: symbol, file, line, code, again (shown on this page before)."""


class Panel(SphinxDirective):
    required_arguments = 2

    def run(self):
        file, symbol = self.arguments
        try:
            code, line = excerpt((ROOT / file).read_text(encoding="utf-8"), symbol)
        except (OSError, LookupError) as error:
            raise self.error(f"{file}: {error}") from error
        self.env.note_dependency(ROOT / file)
        return [panel(symbol=symbol, file=file, line=line, code=code, again=False)]


def excerpt(source, symbol):
    """The code of a function, class, method or assignment, and its first line."""
    node = ast.parse(source)
    for name in symbol.split("."):
        node = next((child for child in node.body if name in names(child)), None)
        if node is None:
            raise LookupError(f"there is no {symbol}")
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    shown = range(first, node.end_lineno + 1)
    documented = (ast.FunctionDef, ast.ClassDef)
    if isinstance(node, documented) and ast.get_docstring(node) is not None:
        docstring = node.body[0]
        hidden = range(docstring.lineno, docstring.end_lineno + 1)
        shown = [line for line in shown if line not in hidden]
    lines = source.splitlines()
    return dedent("\n".join(lines[line - 1] for line in shown)), first


def names(node):
    """What a statement defines."""
    targets = getattr(node, "targets", [node])
    return {getattr(t, "name", getattr(t, "id", None)) for t in targets}


def highlighted(app, code, uri_of, **options):
    """Python as HTML, with the equation numbers in its comments as links."""
    block = app.builder.highlighter.highlight_block(code, "python", **options)

    def link(number):
        if number not in app.config.equations:
            return number
        chapter, anchor = app.config.equations[number]
        return f'<a class="cite" href="{uri_of(chapter)}#{anchor}">{number}</a>'

    return cite(block, link)


def visit_panel(self, node):
    app, here = self.builder.app, self.builder.current_docname
    uri_of = partial(self.builder.get_relative_uri, here)
    source = f"{uri_of(page_of_source(node['file']))}#L-{node['line']}"
    self.body.append(
        f'<details class="panel"{"" if node["again"] else " open"}><summary>'
        f"<code>{html.escape(node['symbol'])}</code> "
        f'<a href="{source}">{node["file"]}:{node["line"]}</a></summary>'
        f"{highlighted(app, node['code'], uri_of)}</details>\n"
    )
    raise nodes.SkipNode


# Other blocks of Python: those that run, and those that quote the package


def is_python(node):
    if node.get("language") != "text":
        return node.get("language") == "python"
    try:
        return bool(ast.parse(node.astext()).body)
    except SyntaxError:
        return False


def visit_literal_block(self, node):
    if not is_python(node):
        type(self).visit_literal_block(self, node)
        return
    app, here = self.builder.app, self.builder.current_docname
    uri_of = partial(self.builder.get_relative_uri, here)
    found = highlighted(app, node.astext(), uri_of)
    self.body.append(f'<div class="highlight-{node["language"]}">{found}</div>\n')
    raise nodes.SkipNode


def depart_literal_block(self, node):
    type(self).depart_literal_block(self, node)


# Folded solutions


class folded(nodes.General, nodes.Element):
    """What stood between <details><summary>...</summary> and </details>."""


def visit_folded(self, node):
    summary = f"<summary>{node['summary']}</summary>"
    self.body.append(f'<details class="folded">{summary}\n')


def depart_folded(self, node):
    self.body.append("</details>\n")


class Fold(SphinxTransform):
    default_priority = 790

    def apply(self):
        for start in list(self.document.findall(nodes.raw)):
            opened = re.match(r"<details><summary>(.*?)</summary>", start.astext())
            if not opened:
                continue
            parent = start.parent
            first = parent.index(start)
            last = first
            while parent[last].astext().strip() != "</details>":
                last += 1
            inside = parent[first + 1 : last]
            parent[first : last + 1] = [folded("", *inside, summary=opened[1])]


# Two columns: the text, and the code that is named below it


class Columns(SphinxTransform):
    default_priority = 800

    def apply(self):
        if not re.match(r"\d\d_", self.env.docname):
            return
        seen = set()
        for node in self.document.findall(panel):
            node["again"] = (node["file"], node["symbol"]) in seen
            seen.add((node["file"], node["symbol"]))
        for section in list(self.document.findall(nodes.section)):
            section[:] = rows(section.children)
        title = self.document.next_node(nodes.title)
        title.parent.insert(1, self.sections())

    def sections(self):
        """The sections of the chapter, and the chapter as a notebook."""
        chapter = next(self.document.findall(nodes.section))
        links = [
            f'<a href="#{part["ids"][0]}">{html.escape(part[0].astext())}</a>'
            for part in chapter.children
            if isinstance(part, nodes.section)
        ]
        name = self.env.docname
        links.append(f'<a href="notebooks/{name}.ipynb" download>As a notebook</a>')
        return nodes.raw(
            "", f'<p class="sections">{" ".join(links)}</p>', format="html"
        )


WIDE = nodes.title, nodes.section, nodes.table, folded, nodes.literal_block


def rows(children):
    """Text with the panels that follow it side by side; what is wide stands alone."""
    done, text, code = [], [], []

    def finish():
        if text and code:
            columns = [box("pair-text", text), box("pair-code", code)]
            done.append(box("pair", columns))
        elif text:
            done.append(box("prose", text))
        else:
            done.extend(code)
        text.clear()
        code.clear()

    for child in children:
        if isinstance(child, panel):
            code.append(child)
            continue
        alone = isinstance(child, WIDE) and child.get("language") not in ("text", "sh")
        if code or alone:
            finish()
        if alone:
            done.append(child)
        else:
            text.append(child)
    finish()
    return done


def box(name, children):
    return nodes.container("", *children, classes=[name])


# Formulas, set by KaTeX when the site is built: a bad one is a warning


class Katex:
    def __init__(self):
        self.engine = MiniRacer()
        self.engine.eval((HERE / "katex/katex.min.js").read_text(encoding="utf-8"))
        self.done = {}

    def html(self, node, display):
        """A node's formula without its tag, as HTML."""
        key = TAG.sub("", node.astext()), display
        if "`" in key[0]:
            log.warning("a formula with a backtick: %s", key[0], location=node)
        if key not in self.done:
            options = {"displayMode": display, "throwOnError": True, "strict": "error"}
            try:
                found = self.engine.call("katex.renderToString", key[0], options)
            except JSEvalException as error:
                reason = re.search("KaTeX parse error: .*", str(error))
                log.warning(reason[0] if reason else str(error), location=node)
                found = f"<code>{html.escape(key[0])}</code>"
            self.done[key] = found
        return self.done[key]


def visit_math(self, node):
    self.body.append(self.builder.app.katex.html(node, False))
    following = node.next_node(descend=False, siblings=True)
    if isinstance(following, nodes.Text) and re.match(r"[,.;:)?!-]", following):
        self.body.append("&NoBreak;")
    raise nodes.SkipNode


def visit_math_block(self, node):
    tag = TAG.search(node.astext())
    self.body.append(self.starttag(node, "div", CLASS="equation"))
    formula = self.builder.app.katex.html(node, True)
    self.body.append(f'<div class="formula" tabindex="0">{formula}</div>')
    if tag:
        href = f"#{node['ids'][0]}" if node["ids"] else ""
        self.body.append(f'<a class="number" href="{href}">({tag[1]})</a>')
    self.body.append("</div>\n")
    raise nodes.SkipNode


def start_katex(app):
    app.katex = Katex()
    if app.builder.format == "html":
        out = Path(app.outdir) / "_static/katex"
        shutil.copytree(HERE / "katex", out, dirs_exist_ok=True)
        app.add_css_file("katex/katex.min.css")


def stop_katex(app, error):
    app.katex.engine.close()  # it has a thread, without which Python cannot end


# The package's files, one page each, and the docstrings' citations


def page_of_source(file):
    return "source/" + file.removesuffix(".py")


def source_pages(app):
    for path in sorted((ROOT / "minivae").rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        page = page_of_source(file)
        uri_of = partial(app.builder.get_relative_uri, page)
        code = path.read_text(encoding="utf-8")
        options = {"linenos": "inline", "lineanchors": "L", "anchorlinenos": True}
        body = highlighted(app, code, uri_of, **options) if code.strip() else ""
        body = f'<h1>{file}</h1>\n<div class="source">{body}</div>'
        yield page, {"title": file, "body": body}, "page.html"


def plain_docstrings(app, what, name, obj, options, lines):
    """A docstring is plain text with `names`: its stars and bars mean themselves. A
    module's keeps its lines, which are laid out for the eye. Runs before napoleon.
    """

    def uri(number):
        chapter, anchor = app.config.equations[number]
        return f"../{chapter}.html#{anchor}"

    text = "\n".join(lines)
    if what == "module":
        text = html.escape(text, quote=False)
        text = cite(text, lambda number: f'<a href="{uri(number)}">{number}</a>')
        inside = "".join(f"    {line}\n" for line in text.split("\n"))
        text = f".. raw:: html\n\n    <pre class='docstring'>\n{inside}    </pre>\n"
    else:
        text = re.sub(r"(`[^`]*`)|([*|])", lambda m: m[1] or "\\" + m[2], text)
        text = cite(text, lambda number: f"`{number} <{uri(number)}>`__")
    lines[:] = text.split("\n")


def hide_contents(app, docname, source):
    if docname.count("/") == 0:
        app.env.metadata[docname]["hide-toc"] = ""  # the second column's room


def setup(app):
    app.add_config_value("equations", {}, "env")
    app.add_node(panel, html=(visit_panel, None))
    app.add_node(folded, html=(visit_folded, depart_folded))
    blocks = visit_literal_block, depart_literal_block
    app.add_node(nodes.literal_block, override=True, html=blocks)
    app.add_directive("panel", Panel)
    app.add_transform(Fold)
    app.add_transform(Columns)
    app.add_html_math_renderer("build", (visit_math, None), (visit_math_block, None))
    app.connect("builder-inited", start_katex)
    app.connect("build-finished", stop_katex)
    app.connect("source-read", hide_contents)
    app.connect("html-collect-pages", source_pages)
    app.connect("autodoc-process-docstring", plain_docstrings, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
