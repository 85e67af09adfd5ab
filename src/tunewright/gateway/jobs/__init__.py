"""How a request is read, and recognised as one of a job: prompts, templates, and what varies in them."""
