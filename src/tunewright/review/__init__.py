"""`tunewright review`: a web page where people correct answers at speed. Rendered by the server; captures are text."""
