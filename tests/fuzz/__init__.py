"""Inputs that nobody would write: whatever they hold, the answer is a good one or a `UserError`.

Kept inputs are in `seeds`, a folder for each target. One with a `~` in its name once broke something, and is called
`what it is~the file's name`. `make test` asks the same few examples each time, `make fuzz` others for ten minutes.
What fails is written, as small as it was found, into `.hypothesis/found`, and becomes a seed when it is mended.
"""
