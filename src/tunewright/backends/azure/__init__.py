"""Azure Machine Learning as a place, and Azure as where models are served."""
