"""The report: HTML, Markdown, the terminal's table, and the model card."""
