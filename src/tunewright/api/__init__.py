"""The public Python API. Each function runs the outdated steps that it needs and returns where the result is.

`pipeline` runs the whole life cycle, `steps` single steps, `exports` sends models away, `azure` works with a workspace,
and `day2` serves, retrains and rolls back.
"""

from tunewright.api.azure import conclude, deploy, deployment, notebook, preflight, probe, schedule, standing
from tunewright.api.day2 import retrain, roll_back, serve, serving_status
from tunewright.api.exports import export, export_gguf, parcel, push
from tunewright.api.pipeline import On, Report, run
from tunewright.api.steps import baseline, baseline_forecast, check, evaluate, plan, prune, split, sweep, train
from tunewright.serving.served import bundle_of, traffic_of

__all__ = [
    "On",
    "Report",
    "baseline",
    "baseline_forecast",
    "bundle_of",
    "check",
    "conclude",
    "deploy",
    "deployment",
    "evaluate",
    "export",
    "export_gguf",
    "notebook",
    "parcel",
    "plan",
    "preflight",
    "probe",
    "prune",
    "push",
    "retrain",
    "roll_back",
    "run",
    "schedule",
    "serve",
    "serving_status",
    "split",
    "standing",
    "sweep",
    "traffic_of",
    "train",
]
