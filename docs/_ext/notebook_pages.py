"""What myst-nb leaves open on the page of a notebook: alternative texts, room for pictures, and what is further."""

import base64
import hashlib
import json
from pathlib import Path

from docutils import nodes

from pocourse.lesson.notebook_rules import FURTHER


def alternative_texts(book):
    """The alternative text of every picture among the outputs, by the digest that myst-nb names the file with."""
    found = {}
    for cell in book["cells"]:
        for output in cell.get("outputs", []):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if alt and "image/png" in output.get("data", {}):
                picture = base64.b64decode("".join(output["data"]["image/png"]))
                found[hashlib.sha256(picture).hexdigest()] = alt
    return found


def finish(app, doctree):
    """Give pictures their texts and a box to scroll in, and sections off the core path the class ``further``."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    alts = alternative_texts(json.loads(path.read_text(encoding="utf-8")))
    for image in list(doctree.findall(nodes.image)):
        image["alt"] = alts.get(Path(image["uri"]).stem, image.get("alt", ""))
        if Path(image["uri"]).stem in alts:
            # The class "output" lets the theme make the box reachable by keyboard where it scrolls.
            image.replace_self(nodes.container("", image.deepcopy(), classes=["output", "picture"]))
    for section in doctree.findall(nodes.section):
        if section[0].astext().lower().startswith(FURTHER):
            section["classes"].append(FURTHER)


def setup(app):
    app.connect("doctree-read", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
