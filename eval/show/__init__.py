"""Showing: the report as one page and as Markdown, its figures and its tables."""
