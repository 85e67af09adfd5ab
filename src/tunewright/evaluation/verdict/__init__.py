"""The verdict: the rules that decide, the reasons, and the page for the person who pays."""
