"""From logits to text: free text, grammars, and what a JSON Schema allows next."""
