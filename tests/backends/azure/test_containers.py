"""A process in the emulated cloud has only what a node has: nothing of the machine on which the command was typed."""

from __future__ import annotations

import shlex
import time
import uuid

import pytest

from tests.backends.azure.conftest import Emulation
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.containers import environment_of_containers
from tunewright.azure_emulator.emulated_job import OVER, EmulatedJob

SECRETS = {"HF_TOKEN": "hf_hidden", "OPENAI_API_KEY": "sk-hidden", "ANYTHING_AT_ALL": "hidden"}


@pytest.fixture(autouse=True)
def _secrets(azure: AzureEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner read its variables at its start, so it reads them again."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(azure.runner, "_environment", environment_of_containers())


def ran(azure: AzureEmulator, command: str, **properties: object) -> tuple[EmulatedJob, str]:
    """A command job's final state and its log."""
    job = EmulatedJob(f"tw-job-{uuid.uuid4().hex[:8]}", {"command": command} | properties)
    azure.runner.submit(job)
    end = time.monotonic() + 60
    while job.status not in OVER and time.monotonic() < end:
        time.sleep(0.05)
    return job, azure.storage._container.download_blob(azure.runner._log(job)).readall().decode()


def test_a_job_has_the_variables_of_its_node_and_those_it_was_sent(azure: AzureEmulator) -> None:
    job, log = ran(azure, "env", environmentVariables={"SENT": "by the product"})
    seen = dict(line.split("=", 1) for line in log.splitlines() if "=" in line)
    assert job.status == "Completed"
    assert not [name for name in SECRETS if name in seen] and "hidden" not in log
    assert seen["SENT"] == "by the product" and seen["AZUREML_RUN_ID"] == job.name
    ours = {
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "NO_PROXY",
        "no_proxy",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",
        "AZURE_TENANT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "OMP_NUM_THREADS",
        "CUDA_VISIBLE_DEVICES",
        "LD_LIBRARY_PATH",
        "PATH",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
        "LANG",
        "HOME",
        "TUNEWRIGHT_GPU",
        "SENT",
    }
    of_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    of_azure = {name for name in seen if name.startswith(("AZUREML_", "MLFLOW_"))}
    assert seen.keys() <= ours | of_the_shell | of_azure


def test_each_node_has_an_empty_home_and_so_no_models(azure: AzureEmulator) -> None:
    code = "from tunewright.models.fetch import cache_folder as c; from huggingface_hub import constants as h; "
    code += "print('caches', c(), h.HF_HUB_CACHE); print('there', c().exists())"
    _, log = ran(azure, f'ls -A $HOME | wc -l; python -c "{code}"; touch $HOME/left')
    assert log.splitlines()[0] == "0"
    caches = next(line for line in log.splitlines() if line.startswith("caches")).split()[1:]
    assert all(str(azure.cloud.folder) in cache for cache in caches)
    assert "there False" in log
    assert ran(azure, "ls -A $HOME | wc -l")[1].strip() == "0", "what one job left there the next one does not find"


def test_a_job_reaches_nothing_but_azure(azure: AzureEmulator) -> None:
    """Through its proxy or past it; a client that ignores the proxy gets the reason."""
    first = len(azure.proxy.refused)
    code = """
import httpx, socket, urllib.request
def failure(call):
    try:
        return f'reached {call()}'
    except Exception as error:
        return f'{type(error).__name__} {error}'
print(failure(lambda: httpx.get('https://huggingface.co/api/models', timeout=5)))
print(failure(lambda: urllib.request.urlopen('http://example.org/simple', timeout=5)))
print(failure(lambda: httpx.get('https://files.pythonhosted.org', trust_env=False, timeout=5)))
print(failure(lambda: socket.create_connection(('1.1.1.1', 443), timeout=5)))
print(failure(lambda: httpx.get('https://prices.azure.com/api/retail/prices', timeout=5).status_code))
"""
    _, log = ran(azure, f"python -c {shlex.quote(code)}")
    proxied, plain, round_it, by_number, ours = [line for line in log.splitlines() if line]
    assert "403 Refused by the emulator" in proxied and "403" in plain
    assert "files.pythonhosted.org can't be reached from there. What a job needs travels with it." in round_it
    assert "1.1.1.1 can't be reached" in by_number
    assert ours == "reached 200"
    hosts = ["huggingface.co", "plain http", "files.pythonhosted.org", "1.1.1.1"]
    assert azure.proxy.refused[first:] == hosts
    assert "  huggingface.co (1 x)" in azure.bill.lines
    azure.proxy.refused.clear()


def test_a_served_model_sees_no_more_of_this_machine(emulation: Emulation) -> None:
    seen = environment_of_containers()
    assert not SECRETS.keys() & seen.keys()
    assert seen["HTTPS_PROXY"] == emulation.variables["HTTPS_PROXY"]
