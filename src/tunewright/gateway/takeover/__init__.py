"""Own models in the API's place: which model answers a request of a job, what shows that it may, and what takes it
back."""
