"""Azure Machine Learning as the backend of steps, and the connection to Azure that deployments use too."""
