"""How results are shown: JSON documents, tables, Markdown, plots."""
