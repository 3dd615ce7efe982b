"""The files in deploy/: names and fields that schedulers and operators look for."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
from typing import Any

import pytest

from keras_resnet_train.errors import DIVERGED, FAILED, PEER_LOST, STOPPED

DEPLOY = pathlib.Path(__file__).parents[1] / "deploy"


def manifest(name: str) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8"))


def test_statuses_fit_the_schedulers() -> None:
    """Kubeflow's `IsRetryableExitCode` (pkg/util/train/train_util.go): 128 and above."""
    assert all(status >= 128 for status in (STOPPED, PEER_LOST))
    assert all(0 < status < 128 for status in (FAILED, DIVERGED))


def test_tfjob() -> None:
    """The fields of manifests/base/crds/kubeflow.org_tfjobs.yaml of training-operator 1.9."""
    job = manifest("tfjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "TFJob")
    assert set(job["spec"]) == {"runPolicy", "tfReplicaSpecs"}
    assert set(job["spec"]["runPolicy"]) == {"cleanPodPolicy", "backoffLimit"}
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    assert set(worker) == {"replicas", "restartPolicy", "template"}
    assert worker["restartPolicy"] == "ExitCode"
    (container,) = worker["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow"  # TFJobDefaultContainerName
    assert container["ports"] == [{"name": "tfjob-port", "containerPort": 2222}]
    check_command(container, worker["template"]["spec"])


def test_jobset() -> None:
    """The fields of config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml."""
    jobs = manifest("jobset.yaml")
    assert (jobs["apiVersion"], jobs["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert set(jobs["spec"]) == {"network", "failurePolicy", "replicatedJobs"}
    (replicated,) = jobs["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    assert job["completionMode"] == "Indexed"
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [FAILED, 2, DIVERGED]
    (container,) = job["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    index, cluster = container["env"]
    # Kubernetes replaces $(NAME) by variables that are defined before.
    config = json.loads(cluster["value"].replace(f"$({index['name']})", "1"))
    assert config["task"] == {"type": "worker", "index": 1}
    host = f"{jobs['metadata']['name']}-{replicated['name']}-0"
    assert config["cluster"]["worker"] == [
        f"{host}-{pod}.{jobs['metadata']['name']}:2222" for pod in range(job["completions"])
    ]
    assert job["parallelism"] == job["completions"]
    check_command(container, job["template"]["spec"])


def check_command(container: dict[str, Any], pod: dict[str, Any]) -> None:
    """The arguments are options that `train` has, and the output is on the shared volume."""
    from keras_resnet_train.cli import main

    words = [word for word in container["args"] if not word.startswith("--data-dir")]
    assert "--strategy=multi-worker" in words
    (mount,) = container["volumeMounts"]
    assert mount["name"] == pod["volumes"][0]["name"]
    assert f"--output={mount['mountPath']}/resnet50" in words
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    dry = [word for word in words if not word.startswith(("--strategy", "--dataset"))]
    assert main([*dry, "--dataset=none/nowhere", "--dry-run"]) == 1  # the options are known


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_sbatch() -> None:
    script = DEPLOY / "slurm" / "train.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/bash\n")
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {"#SBATCH --requeue", "#SBATCH --signal=TERM@120"} <= set(directives)
    # sbatch ignores directives behind the first command.
    body = text.split("set -euo pipefail")
    assert "#SBATCH" not in body[1]
    assert "keras-resnet train --strategy multi-worker" in body[1]


def test_container() -> None:
    lines = (DEPLOY / "container" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == 'ENTRYPOINT ["keras-resnet"]'  # signals reach the trainer
    assert (DEPLOY.parent / "constraints.txt").is_file()
