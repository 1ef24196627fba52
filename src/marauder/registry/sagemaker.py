"""The model registry of Amazon SageMaker: a model package group per project, a model package per version.

SageMaker counts the versions and holds the approval and the aliases (as tags of the group, so that each of them is one
value); the files, later tags and the record of promotions lie in a store, in ``models/<project>/<run>-<weights>/``.
A version that goes into production is approved first: AWS starts deployments at the approval.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from marauder.core.errors import UserError
from marauder.core.plain import Plain, PlainMapping
from marauder.core.settings import Settings
from marauder.registry.base import PRODUCTION, VERDICT, WITHHELD, Candidate, ModelVersion
from marauder.registry.objects import (
    ROOT,
    TAGS,
    StoreRegistry,
    fetch_object,
    fetch_record,
    place_of,
    record_again,
    update_object,
)
from marauder.registry.record import (
    RECORD,
    VersionRecord,
    check_alias,
    check_project,
    inventory,
    make_record,
    must_be_folder,
)
from marauder.storage.opening import open_store
from marauder.storage.updating import update

GROUP_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", re.ASCII)
OWN = "marauder:"
PROJECT_TAG, ALIAS_TAG = f"{OWN}project", f"{OWN}alias:"
LONGEST_PROPERTY = 256
APPROVED, REJECTED, PENDING = "Approved", "Rejected", "PendingManualApproval"


class SageMakerSettings(Settings):
    """Where the files go, and which SageMaker."""

    address: str = Field("", description="of the store, s3://bucket/prefix")
    image: str | None = Field(None, description="the serving container, which makes the versions deployable")
    region: str | None = Field(None, description="where boto3's own settings do not say it")
    endpoint_url: str | None = Field(None, description="where boto3's own settings do not say it")

    @field_validator("address")
    @classmethod
    def _given(cls, value: str) -> str:
        if not value:
            raise ValueError("say where the files go: address=s3://bucket/prefix")
        return value


class SageMakerRegistry(StoreRegistry):
    """SageMaker's groups and packages, and files in a store."""

    name = "sagemaker"
    title = "Amazon SageMaker"
    settings_model = SageMakerSettings
    settings: SageMakerSettings

    def __init__(self, settings: SageMakerSettings) -> None:
        super().__init__(settings)
        self.store = open_store(settings.address)

    def register(self, candidate: Candidate) -> ModelVersion:
        """Files and ``version.json`` first, then the model package. Twice at once, AWS makes one of it by its token."""
        project = _check_group(candidate.project)
        files = inventory(candidate) if must_be_folder(candidate.folder) else {}
        folder = f"{candidate.run_id}-{candidate.weights_sha256[:12]}"
        root = f"{ROOT}/{project}/{folder}"
        if fetch_record(self.store, f"{root}/{RECORD}") is None:
            for name in files:
                self.store.put(f"{root}/{name}", candidate.folder / name)
            content = make_record(candidate, "", time.time(), files).to_bytes()
            update(self.store, f"{root}/{RECORD}", lambda present: present or content)
        with self._explained():
            group = self._group(project) or self._make_group(project)
            for package in self._packages(project):
                if package["CustomerMetadataProperties"]["folder"] == folder:
                    return self._version(project, package, self._aliases(group))
            created = self._client.create_model_package(
                ModelPackageGroupName=project,
                # Without the verdict: SageMaker never changes it, and the run may be judged again.
                ModelPackageDescription=f"run {candidate.run_id}",
                ModelApprovalStatus=_approval(candidate.verdict, candidate.tags),
                CustomerMetadataProperties={
                    "run_id": candidate.run_id[:LONGEST_PROPERTY],
                    "weights_sha256": candidate.weights_sha256,
                    "verdict": candidate.verdict,
                    "folder": folder,
                },
                # A function of the version, so that two who register at once mean the same; AWS takes 36 characters.
                ClientToken=hashlib.sha256(f"{project}/{folder}".encode()).hexdigest()[:36],
                **self._source(place_of(self.store, root)),
            )
            package = self._client.describe_model_package(ModelPackageName=created["ModelPackageArn"])
            return self._version(project, package, self._aliases(group))

    def projects(self) -> list[str]:
        """Groups that Marauder made."""
        with self._explained():
            pages = self._client.get_paginator("list_model_package_groups").paginate()
            groups = [group for page in pages for group in page["ModelPackageGroupSummaryList"]]
            mine = [one for one in groups if PROJECT_TAG in self._tags(one["ModelPackageGroupArn"])]
            return sorted(one["ModelPackageGroupName"] for one in mine if self._packages(one["ModelPackageGroupName"]))

    def versions(self, project: str) -> list[ModelVersion]:
        """Model packages that Marauder registered; aliases are read once."""
        check_project(project)
        with self._explained():
            group = self._group(project)
            if group is None:
                return []
            aliases = self._aliases(group)
            return [self._version(project, package, aliases) for package in self._packages(project)]

    def set_alias(self, project: str, alias: str, version: str | None) -> None:
        """A tag of the group. ``production`` also approves the version."""
        check_alias(alias)
        with self._explained():
            group = self._group(check_project(project))
            if version is None:
                if group is not None:
                    self._client.delete_tags(ResourceArn=group, TagKeys=[ALIAS_TAG + alias])
                return
            package = self._package(project, version)
            # Before the alias: production is never a version that AWS may not deploy.
            if alias == PRODUCTION and package["ModelApprovalStatus"] != APPROVED:
                self._client.update_model_package(
                    ModelPackageArn=package["ModelPackageArn"],
                    ModelApprovalStatus=APPROVED,
                    ApprovalDescription="in production",
                    CustomerMetadataProperties=package["CustomerMetadataProperties"],
                )
            self._client.add_tags(ResourceArn=group, Tags=[{"Key": ALIAS_TAG + alias, "Value": version}])

    def add_tags(self, project: str, version: str, tags: Mapping[str, str]) -> None:
        """Into ``tags.json`` beside the files: SageMaker's own take 256 characters and few signs."""
        with self._explained():
            package = self._package(check_project(project), version)
        update_object(self.store, f"{_root(project, package)}/{TAGS}", lambda present: {**present, **tags})

    def judge_again(self, version: ModelVersion, candidate: Candidate) -> None:
        """Files and record in the store first. The approval follows, unless the version was put into production: that
        was somebody's decision."""
        root = self._root_of(version)
        record_again(self.store, root, self._record(root), candidate)
        self.add_tags(version.project, version.version, candidate.tags_again)
        with self._explained():
            package = self._package(version.project, version.version)
            if package["ModelApprovalStatus"] != APPROVED:
                about = {**package["CustomerMetadataProperties"], "verdict": candidate.verdict}
                self._client.update_model_package(
                    ModelPackageArn=package["ModelPackageArn"],
                    ModelApprovalStatus=_approval(candidate.verdict, candidate.tags),
                    ApprovalDescription=f"gates: {candidate.verdict}",
                    CustomerMetadataProperties=about,
                )

    def files(self, version: ModelVersion) -> Mapping[str, str]:
        """As listed in ``version.json``."""
        return self._record(self._root_of(version)).files

    def fetch_file(self, version: ModelVersion, name: str, path: Path) -> None:
        """From the store."""
        root = self._root_of(version)
        self.store.get(f"{root}/{self._record(root).place_of(name)}", path)

    @cached_property
    def _client(self) -> Any:
        from boto3.session import Session
        from botocore.config import Config

        session = Session()
        region = self.settings.region or session.region_name or "us-east-1"
        config = Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=10, read_timeout=60)
        return session.client("sagemaker", region_name=region, endpoint_url=self.settings.endpoint_url, config=config)

    def _source(self, location: str) -> Plain:
        """Where the model comes from: SageMaker takes a serving container with its files, or a plain address."""
        image = self.settings.image
        if not image:
            return {"SourceUri": location}
        files = {"S3Uri": f"{location}/", "S3DataType": "S3Prefix", "CompressionType": "None"}
        container = {"Image": image, "ModelDataSource": {"S3DataSource": files}}
        types = {"SupportedContentTypes": ["application/x-image"], "SupportedResponseMIMETypes": ["application/json"]}
        return {"InferenceSpecification": {"Containers": [container], **types}}

    def _group(self, project: str) -> str | None:
        """Its ARN."""
        from botocore.exceptions import ClientError

        if not GROUP_NAME.fullmatch(project):
            return None
        try:
            found = self._client.describe_model_package_group(ModelPackageGroupName=project)
        except ClientError as error:
            # SageMaker calls this a ValidationException like most errors: only its words tell it apart.
            if "does not exist" in str(error):
                return None
            raise
        return str(found["ModelPackageGroupArn"])

    def _make_group(self, project: str) -> str:
        from botocore.exceptions import ClientError

        tags = [{"Key": PROJECT_TAG, "Value": project}]
        try:
            made = self._client.create_model_package_group(ModelPackageGroupName=project, Tags=tags)
        except ClientError as error:
            # Another process made it since it was looked for.
            if "already exists" not in str(error):
                raise
            return str(self._group(project))
        return str(made["ModelPackageGroupArn"])

    def _packages(self, project: str) -> list[Plain]:
        pages = self._client.get_paginator("list_model_packages").paginate(ModelPackageGroupName=project)
        arns = [one["ModelPackageArn"] for page in pages for one in page["ModelPackageSummaryList"]]
        # The list leaves out the metadata by which ours are known.
        found = [self._client.describe_model_package(ModelPackageName=arn) for arn in arns]
        mine = [one for one in found if "weights_sha256" in (one.get("CustomerMetadataProperties") or {})]
        return sorted(mine, key=lambda one: int(one["ModelPackageVersion"]))

    def _package(self, project: str, version: str) -> Plain:
        if self._group(project) is not None:
            for package in self._packages(project):
                if str(package["ModelPackageVersion"]) == version:
                    return package
        raise UserError(f"{project} has no version {version!r}; see: marauder registry list {project}")

    def _tags(self, arn: str) -> dict[str, str]:
        pages = self._client.get_paginator("list_tags").paginate(ResourceArn=arn)
        return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}

    def _aliases(self, group: str) -> dict[str, str]:
        tags = self._tags(group)
        return {name.removeprefix(ALIAS_TAG): value for name, value in tags.items() if name.startswith(ALIAS_TAG)}

    def _version(self, project: str, package: PlainMapping, aliases: Mapping[str, str]) -> ModelVersion:
        root, number = _root(project, package), str(package["ModelPackageVersion"])
        record, later = self._record(root), fetch_object(self.store, f"{root}/{TAGS}")
        return ModelVersion(
            project=project,
            version=number,
            run_id=record.run_id,
            weights_sha256=record.weights_sha256,
            verdict=later.get(VERDICT, record.verdict),
            metrics=record.metrics,
            tags={**record.tags, **later},
            aliases=tuple(sorted(alias for alias, version in aliases.items() if version == number)),
            created=package["CreationTime"].timestamp(),
            location=place_of(self.store, root),
        )

    def _record(self, root: str) -> VersionRecord:
        record = fetch_record(self.store, f"{root}/{RECORD}")
        if record is None:
            raise UserError(f"{place_of(self.store, root)}: the version's files are gone; restore them from a copy")
        return record

    def _root_of(self, version: ModelVersion) -> str:
        return f"{ROOT}/{check_project(version.project)}/{version.run_id}-{version.weights_sha256[:12]}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """boto3's errors as ``UserError``."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise UserError(
                f"SageMaker: {error}; check the region, the credentials (environment, ~/.aws or role) and that they "
                "may use model package groups"
            ) from error


def _approval(verdict: str, tags: Mapping[str, str]) -> str:
    return REJECTED if verdict == "fail" or tags.get(WITHHELD) else PENDING


def _root(project: str, package: PlainMapping) -> str:
    return f"{ROOT}/{project}/{package['CustomerMetadataProperties']['folder']}"


def _check_group(project: str) -> str:
    if not GROUP_NAME.fullmatch(check_project(project)):
        raise UserError(
            f"{project!r}: SageMaker takes letters, digits and '-' only, no '-' at the end; rename the project"
        )
    return project
