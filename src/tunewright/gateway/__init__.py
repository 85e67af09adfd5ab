"""The gateway: an OpenAI-compatible server between a team's applications and the APIs that they pay for."""
