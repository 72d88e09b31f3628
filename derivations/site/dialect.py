"""The chapters' Markdown, which GitHub renders, rewritten to the Markdown of MyST.

Every rewriting keeps the number of lines, so a warning names the chapter's own line.
"""

import posixpath
import re

FENCE = re.compile(r"^(```.*?^```)$", re.M | re.S)
ANCHOR = re.compile(r'^<a id="([\w-]+)"></a>$', re.M)
INLINE = re.compile(r"\$`([^`]+)`\$")
TO_ANCHOR = re.compile(r"\]\([\w.]*#([\w-]+)\)")
CODE = re.compile(r"^Code: \[`([\w.]+)`\]\(\.\./([\w/]+\.py)\)\n", re.M)
LINK = re.compile(r"\[([^]]+)\]\((\.\./[^)#]+)\)")
EQUATION = re.compile(r'^<a id="([\w-]+)"></a>\n\n```math\n(.*?)^```$', re.M | re.S)
TAG = re.compile(r"\s*\\tag\{([^}]*)\}")
CITE = re.compile(r"\beqs?\. \d+\.\d+(?:(?:, | and | to )\d+\.\d+)*")


def to_myst(text, page_of):
    """A chapter for MyST.

    page_of gives the page of the site that shows a file of the repository, or None.
    """
    parts = FENCE.split(text)
    parts[::2] = [prose(part, page_of) for part in parts[::2]]
    parts[1::2] = [re.sub("^```math$", "```{math}", p, flags=re.M) for p in parts[1::2]]
    return "".join(parts)


def prose(text, page_of):
    def link(match):
        page = page_of(posixpath.normpath(posixpath.join("derivations", match[2])))
        return f'<a href="{page}">{match[1]}</a>' if page else match[1]

    text = ANCHOR.sub(r"(\1)=", text)
    text = INLINE.sub(r"{math}`\1`", text)
    text = TO_ANCHOR.sub(r"](#\1)", text)
    text = CODE.sub(r"```{panel} \2 \1\n```", text)
    return LINK.sub(link, text)


def equations(chapters):
    """Number -> (chapter, anchor on the site), of chapters given as name -> text."""
    return {
        TAG.search(body)[1]: (name, anchor.lower())  # as docutils writes an id
        for name, text in chapters.items()
        for anchor, body in EQUATION.findall(text)
        if TAG.search(body)
    }


def cite(text, link):
    """Every equation number that a text cites, as in "eqs. 8.4 to 8.6", replaced by
    link(number).
    """

    def numbers(match):
        return re.sub(r"\d+\.\d+", lambda number: link(number[0]), match[0])

    return CITE.sub(numbers, text)
