"""``python -m tests.docs``: write the tables of the documents anew, and the new files of cited tests; with ``pictures``, take the README's pictures."""

import sys

from tests.docs import citations, pictures, tables

if "pictures" in sys.argv[1:]:
    pictures.take()
else:
    tables.write()
    citations.follow()
