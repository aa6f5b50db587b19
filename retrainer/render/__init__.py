"""What a result looks like: JSON documents, tables, Markdown, plots."""
