"""From logits to text: free text, grammars, and the answers that a JSON Schema allows."""
