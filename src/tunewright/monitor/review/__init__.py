"""`tunewright review`: a web page where people correct answers at speed. Server-rendered; what a capture says is text."""
