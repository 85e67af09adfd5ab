"""`tunewright review`: the web app in which people correct answers fast. The server renders all pages."""
