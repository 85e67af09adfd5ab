"""Records whose values stand literally in their texts: finding the values, and reading records from a tag a token."""
