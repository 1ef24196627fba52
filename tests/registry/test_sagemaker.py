"""What only SageMaker has: approval, a container to serve from, and its own rule for names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import servers
from marauder.core.errors import UserError
from marauder.core.files import hash_file
from marauder.registry.base import PRODUCTION, WITHHELD
from marauder.testing.registries import PROJECT, candidate, judged, register
from models import made


@pytest.fixture
def options(sagemaker_endpoint: str, tmp_path: Path) -> dict[str, Any]:
    servers.reset_aws(sagemaker_endpoint)
    return {"address": str(tmp_path / "files"), "endpoint_url": sagemaker_endpoint, "region": "us-east-1"}


def packages(options: dict[str, Any]) -> list[dict[str, Any]]:
    from boto3.session import Session

    client = Session().client("sagemaker", endpoint_url=options["endpoint_url"], region_name="us-east-1")
    found = client.list_model_packages(ModelPackageGroupName=PROJECT)["ModelPackageSummaryList"]
    described = [client.describe_model_package(ModelPackageName=one["ModelPackageArn"]) for one in found]
    return sorted(described, key=lambda one: int(one["ModelPackageVersion"]))


def test_the_approval_follows_the_gates_and_production(options: dict[str, Any], tmp_path: Path) -> None:
    registry = made(tmp_path, "sagemaker", **options)
    register(registry, tmp_path, "a")
    register(registry, tmp_path, "b", verdict="fail")
    registry.register(replace(candidate(tmp_path, "c", "warn"), tags={WITHHELD: "floor: has not learned yet"}))
    assert [one["ModelApprovalStatus"] for one in packages(options)] == ["PendingManualApproval", *["Rejected"] * 2]
    registry.set_alias(PROJECT, PRODUCTION, "1")
    assert [one["ModelApprovalStatus"] for one in packages(options)] == ["Approved", *["Rejected"] * 2]
    assert packages(options)[0]["CustomerMetadataProperties"]["run_id"] == "a"
    production, failed, _ = registry.versions(PROJECT)
    registry.judge_again(production, judged(tmp_path, "a", "fail"))
    registry.judge_again(failed, judged(tmp_path, "b", "pass"))
    statuses = [one["ModelApprovalStatus"] for one in packages(options)]
    assert statuses == ["Approved", "PendingManualApproval", "Rejected"]
    about = packages(options)[1]["CustomerMetadataProperties"]
    assert (about["verdict"], about["run_id"]) == ("pass", "b")


def test_with_a_container_the_version_can_be_served(options: dict[str, Any], tmp_path: Path) -> None:
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
    registry = made(tmp_path, "sagemaker", **options, image=image)
    version = registry.register(candidate(tmp_path, "a", overall=0.5))
    container = packages(options)[0]["InferenceSpecification"]["Containers"][0]
    assert container["Image"] == image
    assert container["ModelDataSource"]["S3DataSource"]["S3Uri"] == f"{version.location}/"
    registry.judge_again(version, judged(tmp_path, "a", overall=0.25))
    assert packages(options)[0]["InferenceSpecification"]["Containers"][0] == container
    (served,) = (tmp_path / "files").glob("models/*/*/best.pt")
    assert hash_file(served) == version.weights_sha256, "the container keeps its weights"
    assert json.loads((served.parent / "eval_report.json").read_text()) == {"overall": 0.5}
    latest = json.loads((served.parent / "version.json").read_text())["places"]["eval_report.json"]
    assert json.loads((served.parent / latest).read_text()) == {"overall": 0.25}


def test_mistakes_are_told(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="address=s3://bucket/prefix"):
        made(tmp_path, "sagemaker")
    with pytest.raises(UserError, match="rename the project"):
        made(tmp_path, "sagemaker", **options).register(candidate(tmp_path, "a", project="reef_fish"))
    with pytest.raises(UserError, match="check the region"):
        made(tmp_path, "sagemaker", **{**options, "endpoint_url": "http://127.0.0.1:9"}).versions(PROJECT)
