"""Who sends a request: API keys and tokens of OpenID Connect providers. Serving and review share it."""
