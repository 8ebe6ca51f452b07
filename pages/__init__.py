"""One maker of self-contained pages, with their tables and charts, for every room that shows something."""
