"""The report: HTML, Markdown, the table of a terminal, and the model card."""
