"""The emulator itself: which hosts it lets through, what its check of bodies finds, and that it reveals no secret."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import httpx
import pytest

from tests.backends.azure.conftest import Emulation, MakeJob
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.network import hosts, is_mapped
from tunewright.backends.azure.assets import package


def test_hosts_that_are_mapped() -> None:
    known = hosts("eastus")
    for host in ("management.azure.com", "x.blob.core.windows.net", "eastus.api.azureml.ms"):
        assert is_mapped(host, known)
    for host in (
        "huggingface.co",
        "management.azure.com.evil.example",
        "a.b.blob.core.windows.net",
        "blob.core.windows.net",
        "xmanagement.azure.com",
        "managementxazure.com",
        "example.org",
        "",
    ):
        assert not is_mapped(host, known)


def test_any_other_host_is_refused(azure: AzureEmulator) -> None:
    with pytest.raises(httpx.ProxyError, match="403"):
        httpx.get("https://huggingface.co/api/models", timeout=5)
    code = "import urllib.request as u; u.urlopen('https://example.org/simple', timeout=5)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "403" in done.stderr
    plain = httpx.Client(proxy=azure.proxy.url, trust_env=False, timeout=5)
    assert plain.get("http://management.azure.com/").status_code == 403
    assert azure.proxy.refused == ["huggingface.co", "example.org", "plain http"]
    assert azure.bill.refused == azure.proxy.refused
    azure.proxy.refused.clear()


def test_the_environment_is_this_machines_own_between_tests(emulation: Emulation) -> None:
    """Only variables lead to the emulator."""
    assert {"HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "AZURE_CLIENT_ID"} <= emulation.variables.keys()
    assert os.environ.get("HTTPS_PROXY") != emulation.variables["HTTPS_PROXY"]


def test_no_secret_is_told_anywhere(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Secrets are neither printed, nor recorded, nor sent with a job, nor packed."""
    secrets = {"AZURE_CLIENT_SECRET": "hidden-1", "OPENAI_API_KEY": "sk-hidden-2", "HF_TOKEN": "hf_hidden-3"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    first = len(azure.cloud.calls)
    spec = job()
    api.split(spec, on="azure")
    out, err = capfd.readouterr()
    noted = "\n".join(map(str, azure.cloud.calls[first:])) + "\n".join(azure.bill.lines)
    kept = json.dumps(azure.cloud._resources)
    logs = [
        azure.storage._container.download_blob(name).readall().decode()
        for name in azure.storage.names("")
        if name.endswith("std_log.txt")
    ]
    packed = gzip.decompress(package(spec.model_dump_json())).decode("latin-1")
    for secret in (*secrets.values(), azure.storage._key):
        assert not [text[:40] for text in (out, err, noted, kept, packed, *logs) if secret in text], secret
    for mark in ("sig=", "eyJ"):  # of signed addresses and of tokens
        assert not [text[:40] for text in (out, err, noted, kept, *logs) if mark in text], mark
