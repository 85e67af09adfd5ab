"""Answers for requests that have none: teachers' answers, what they are worth, and a sample that people answer."""
