"""Notes in a SQLite file, shown as Markdown."""
