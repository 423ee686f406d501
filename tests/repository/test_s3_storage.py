"""Object storage as storage: the conformance suite against a real HTTP server, and what is special about S3."""

from __future__ import annotations

import pytest

from engine.repository.s3_address import S3Address
from engine.repository.s3_storage import S3Storage
from tests.repository.s3_server import S3Server
from tests.repository.storage_conformance import StorageConformance


class TestS3Storage(StorageConformance):
    @pytest.fixture
    def storage(self, moto: S3Server, bucket: str) -> S3Storage:
        return S3Storage(S3Address(bucket, "deep/vault", moto.endpoint))


class TestS3StorageOfAWholeBucket(StorageConformance):
    @pytest.fixture
    def storage(self, moto: S3Server, bucket: str) -> S3Storage:
        return S3Storage(S3Address(bucket, "", moto.endpoint))
