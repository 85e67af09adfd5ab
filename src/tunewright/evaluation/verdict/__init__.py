"""The verdict: the rules, the decision with its reasons, and the page for the person who pays."""
