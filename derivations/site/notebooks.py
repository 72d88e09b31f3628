"""A chapter as a Jupyter notebook: its Python blocks are the cells that run."""

import base64
import re
from pathlib import Path

import nbformat
from dialect import INLINE

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
IMAGE = re.compile(r"!\[([^]]*)\]\(([\w./-]+\.(png|svg))\)")
MIME = {"png": "image/png", "svg": "image/svg+xml"}


def notebook(path):
    """The notebook of a chapter's file; the same file gives the same notebook."""
    parts = BLOCK.split(path.read_text(encoding="utf-8"))
    book = nbformat.v4.new_notebook()
    book.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    for i, part in enumerate(parts):
        if i % 2:
            cell = nbformat.v4.new_code_cell(part.rstrip("\n"))
        elif part.strip():
            cell = markdown_cell(part, path.parent)
        else:
            continue
        book.cells.append({**cell, "id": f"cell-{i}"})
    return nbformat.from_dict(book)


def markdown_cell(text, folder):
    """Jupyter's Markdown: dollars around mathematics, pictures inside of the cell."""
    attachments = {}

    def attach(match):
        picture = Path(folder, match[2])
        data = base64.b64encode(picture.read_bytes()).decode()
        attachments[picture.name] = {MIME[match[3]]: data}
        return f"![{match[1]}](attachment:{picture.name})"

    text = re.sub(r"^```math\n(.*?)^```$", r"$$\n\1$$", text, flags=re.M | re.S)
    text = INLINE.sub(r"$\1$", text)
    text = re.sub(r'^<a id="[\w-]+"></a>\n\n', "", text, flags=re.M)
    text = re.sub(r"^<details><summary>(.*?)</summary>$", r"**\1**", text, flags=re.M)
    text = re.sub(r"^</details>\n?", "", text, flags=re.M)
    text = re.sub(r"(?<!!)\[([^]]+)\]\((?!http)[^)]+\)", r"\1", text)
    text = IMAGE.sub(attach, text)
    extra = {"attachments": attachments} if attachments else {}
    return nbformat.v4.new_markdown_cell(text.strip(), **extra)
