"""Records whose values stand literally in their texts: where they stand, and how a tag for each token says it."""
